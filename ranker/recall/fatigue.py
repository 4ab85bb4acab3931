"""How often a user was shown each candidate without a click: a feature that a head may learn from.

A model's folder has this part if its log had impressions and its lists are better with it. It proposes no item.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from encoders.events.shown_lists import HASH_MASK
from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.recall.candidates import Proposals
from ranker.recall.catalogue import Catalogue
from ranker.recall.item_columns import ItemColumns
from ranker.recall.user_view import UserView

_CONTENT = b'{"fatigue": 1}'


class Fatigue:
    """What the newest lists that a user was shown say about each candidate; see `LearntSource`. It has no weights."""

    file = "fatigue.json"
    name = "fatigue"
    columns: ClassVar[tuple[str, ...]] = (
        "unclicked",  # log2 of 1 + how often the user was shown it since they did anything with it
    )

    @classmethod
    def read(cls, path: Path) -> Fatigue:
        """See `LearntSource`."""
        if path.read_bytes() != _CONTENT:
            raise ModelUnsupported(f"{path}: got another content, expected {_CONTENT!r}; train the model again")
        return cls()

    def save(self, path: Path) -> None:
        """See `LearntSource`."""
        path.write_bytes(_CONTENT)

    def enter(self, _catalogue: Catalogue) -> Iterator[None]:
        """See `LearntSource`: nothing is kept of items."""
        return iter(())

    def find(self, _user: UserView, _limit: int) -> Proposals:
        """Propose nothing."""
        return Proposals(np.empty(0, np.intp))

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        """Return `columns` of each item, (n, 1) float32; see `LearntSource`."""
        values = np.zeros((len(items.keys), 1), np.float32)
        if unclicked := user.unclicked:
            counts = [unclicked.get(item, 0) for item in (items.keys & np.uint64(HASH_MASK)).tolist()]
            values[:, 0] = np.log2(1 + np.array(counts, np.float32))
        return values
