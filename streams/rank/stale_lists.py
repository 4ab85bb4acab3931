"""Which published lists show items that are gone. Knows neither Kafka nor Redis.

An item is gone once the topic `items` has deleted it or says `available: false`. An item that the catalogue never had
is not gone: an upstream recommender may propose such items.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Sequence

from streams.rank.published_lists import IndexedList, ListPlace, PublishedLists


class StaleLists:
    """The lists that are to be published again without items that are gone.

    Parameters
    ----------
    lists : PublishedLists
        The index, which `note` keeps up to date.
    gone : set of str
        Gets the ids of the items that are gone.

    Attributes
    ----------
    owned : set of int
        The partitions of this worker. Lists in others are not noted.
    complete : set of int
        The partitions of this worker whose lists are all in the index. Only these lists may be edited.
    ahead : dict of int to set of int
        Partition -> offsets of records that this worker wrote and noted as a whole, and has not read.
    changed : asyncio.Event
        Set when there may be something to do.
    """

    def __init__(self, lists: PublishedLists, gone: set[str]) -> None:
        self.lists = lists
        self.gone = gone
        self.owned: set[int] = set()
        self.complete: set[int] = set()
        self.ahead: defaultdict[int, set[int]] = defaultdict(set)
        self.changed = asyncio.Event()
        self._since_s: dict[bytes, float] = {}  # key of a stale list -> monotonic time since when
        self._unscanned: dict[str, float] = {}  # item -> monotonic time since when it is gone

    def __len__(self) -> int:
        return len(self._since_s)

    def note(self, places: Sequence[ListPlace], lists: Sequence[IndexedList | None]) -> None:
        """Note records of the topic; see `PublishedLists.note`."""
        ours = [index for index, place in enumerate(places) if place.partition in self.owned]
        if len(ours) < len(places):
            places, lists = [places[index] for index in ours], [lists[index] for index in ours]
        for place, list_, is_newest in zip(places, lists, self.lists.note(places, lists), strict=True):
            if is_newest and list_ is not None and not self.gone.isdisjoint(list_.item_ids):
                self._since_s.setdefault(place.key, time.monotonic())
                self.changed.set()
            elif is_newest:
                self._since_s.pop(place.key, None)

    def note_ahead(self, places: Sequence[ListPlace], lists: Sequence[IndexedList]) -> None:
        """Note records that this worker wrote, as a whole: they need not be read."""
        self.note(places, lists)
        for place in places:
            if place.partition in self.owned:
                self.ahead[place.partition].add(place.offset)

    def change(self, gone: Collection[str], present: Collection[str]) -> None:
        """Note a batch of the topic `items`.

        Parameters
        ----------
        gone : collection of str
            Items that are deleted or not available.
        present : collection of str
            Items that may be recommended. They come back with the next list of each user.
        """
        new = [item_id for item_id in gone if item_id not in self.gone]
        self.gone.update(new)
        self.gone.difference_update(present)
        for item_id in present:
            self._unscanned.pop(item_id, None)
        if new:
            self._unscanned |= dict.fromkeys(new, time.monotonic())
            self.changed.set()

    async def scan(self) -> None:
        """Find the lists that show items which are gone since the last call. Other work has its turn meanwhile."""
        while self._unscanned:
            items, self._unscanned = self._unscanned, {}
            since_s = min(items.values())
            for places in self.lists.scan(items.keys()):
                for place in places:
                    self._since_s.setdefault(place.key, since_s)
                await asyncio.sleep(0)

    def ready(self) -> list[ListPlace]:
        """Return the stale lists of complete partitions, in the order of their offsets."""
        places = self.lists.find(self._since_s)
        if len(places) < len(self._since_s):  # some are erased, or another worker's by now
            self._since_s = {place.key: self._since_s[place.key] for place in places}
        return sorted((place for place in places if place.partition in self.complete), key=lambda place: place.offset)

    def due(self, places: Sequence[ListPlace]) -> list[ListPlace]:
        """Return the lists that are still to be published again."""
        current = zip(places, self.are_current(places), strict=True)
        return [place for place, is_current in current if is_current and place.key in self._since_s]

    def are_current(self, places: Sequence[ListPlace]) -> list[bool]:
        """Return for each record whether it is the newest of its key, in a partition that this worker may edit."""
        newest = zip(places, self.lists.are_newest(places), strict=True)
        return [is_newest and place.partition in self.complete for place, is_newest in newest]

    def is_stale(self, key: bytes) -> bool:
        """Return whether the newest list of a key shows an item that is gone."""
        return key in self._since_s

    def settle(self, place: ListPlace) -> float | None:
        """Drop a list from the stale ones. Returns for how many seconds it was stale; None if it was not."""
        since_s = self._since_s.pop(place.key, None)
        return None if since_s is None else time.monotonic() - since_s
