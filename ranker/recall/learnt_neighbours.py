"""The source of candidates that reads a table of learnt neighbours, and its feature. Knows no fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from encoders.interest import Vector
from ranker.neighbours import table
from ranker.neighbours.table import NeighbourTable
from ranker.recall.candidates import Proposals
from ranker.recall.catalogue import Catalogue
from ranker.recall.item_columns import ItemColumns
from ranker.recall.nearest_items import top
from ranker.recall.user_view import UserView

_MIN_SCORE = 2.0**-12
"""Added to a score before the logarithm. A score is near the chance that the item comes next."""


class LearntNeighbours:
    """Items that follow the user's items, by the weights that a linear model learnt (`ranker.neighbours.fit`).

    Parameters
    ----------
    neighbours : NeighbourTable

    Attributes
    ----------
    file : str
        Its name in a model's folder.
    """

    file = "neighbours.safetensors"
    name = "learnt-neighbours"
    columns: ClassVar[tuple[str, ...]] = ("learnt_neighbour",)

    def __init__(self, neighbours: NeighbourTable) -> None:
        self.table = neighbours

    @classmethod
    def read(cls, path: Path) -> LearntNeighbours:
        """See `LearntSource`."""
        return cls(table.read(path))

    def save(self, path: Path) -> None:
        """See `LearntSource`."""
        self.table.save(path)

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        """See `LearntSource`: the table knows its items."""
        return iter(())

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        recent = user.recent_items
        scored = self.table.scores(recent)
        reached = np.flatnonzero(scored.scores > 0)
        for count in (2 * limit, len(reached)):  # half of the best are available, as a rule
            best = reached[top(scored.scores[reached], count)]
            indices, rows = user.catalogue.recommendable(self.table.keys[best].tolist())
            if len(indices) >= limit:
                break
        ranks = scored.strongest(best[indices[:limit]])
        return Proposals(rows[:limit], np.array(recent, np.uint64)[ranks])

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        """Return the base-2 logarithm of each item's score, (n, 1) float32; see `LearntSource`."""
        index = self.table.index(items.keys)
        scores = np.zeros(len(index), np.float32)
        scores[index >= 0] = self.table.scores(user.recent_items).scores[index[index >= 0]]
        logarithm: Vector = np.log2(np.maximum(scores, 0) + _MIN_SCORE) - np.log2(_MIN_SCORE)
        return logarithm.astype(np.float32)[:, None]
