"""Whether a tombstone on `items` deletes anything, as the group's reading sees it.

The catalogue is filled by another reading of the same topic (`follower`), which may be ahead of this one or behind it.
So beside the catalogue this knows what that reading deleted lately, and what this one accepted lately.
"""

from __future__ import annotations

from typing import Literal

from encoders.interest import item_key
from ranker.recall.catalogue import Catalogue
from streams.contracts import Impression, Item
from streams.receive.message import Tombstone

LATELY = 65_536
"""Items remembered in each of both ways: the readings differ by seconds. Some 6 MB each, at the most."""


class KnownItems:
    """The items that a tombstone may mean."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._deleted: dict[int, None] = {}
        self._accepted: dict[int, None] = {}

    def deleted(self, item_id: str) -> None:
        """The other reading is about to delete this item, if it is there."""
        if item_key(item_id) in self._catalogue:
            _note(self._deleted, item_key(item_id))

    def outcome(self, received: Item | Tombstone | Impression) -> Literal["accepted", "unknown"]:
        """What to count a message as that this reading received."""
        if isinstance(received, Item):
            _note(self._accepted, item_key(received.item_id))
        if not isinstance(received, Tombstone):
            return "accepted"
        key = item_key(received.key)
        known = key in self._catalogue or key in self._deleted or key in self._accepted
        return "accepted" if known else "unknown"


def _note(lately: dict[int, None], key: int) -> None:
    lately.pop(key, None)
    lately[key] = None
    if len(lately) > LATELY:
        del lately[next(iter(lately))]
