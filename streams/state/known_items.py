"""Tell whether a tombstone on `items` deletes an item, or names an unknown one.

A worker reads the topic twice: the catalogue's reader reads all partitions, and the consumer group reads the worker's
own partitions and counts outcomes. Either may be ahead of the other. So beside the catalogue this class remembers the
items that the catalogue's reader deleted lately, and those that the consumer group accepted lately.
"""

from __future__ import annotations

from typing import Literal

from encoders.events.entries import item_key
from ranker.recall.catalogue import Catalogue
from streams.contracts import Impression, Item
from streams.receive.message import Tombstone

LATELY = 65_536
"""Items remembered of each reader, about 6 MB. The readers are seconds apart."""


class KnownItems:
    """The items that a tombstone may delete.

    Parameters
    ----------
    catalogue : Catalogue
        As the catalogue's reader fills it.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._deleted: dict[int, None] = {}
        self._accepted: dict[int, None] = {}

    def deleted(self, item_id: str) -> None:
        """Note that the catalogue's reader is about to delete this item."""
        if item_key(item_id) in self._catalogue:
            _remember(self._deleted, item_key(item_id))

    def outcome(self, received: Item | Tombstone | Impression) -> Literal["accepted", "unknown"]:
        """Give the outcome of a message that the consumer group received, as it is counted."""
        if isinstance(received, Item):
            _remember(self._accepted, item_key(received.item_id))
        if not isinstance(received, Tombstone):
            return "accepted"
        key = item_key(received.key)
        is_known = key in self._catalogue or key in self._deleted or key in self._accepted
        return "accepted" if is_known else "unknown"


def _remember(keys: dict[int, None], key: int) -> None:
    keys.pop(key, None)
    keys[key] = None
    if len(keys) > LATELY:
        del keys[next(iter(keys))]
