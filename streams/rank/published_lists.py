"""An index of the lists that the topic `recommendations` holds: which list shows which items, and where the list is.

Of each key it keeps the offset of the newest record, a digest of its payload, hashes of the item ids, and why the list
is degraded. Lists lie in blocks of numpy arrays, 4 bytes for each item: a scan of 100,000 lists for the items that are
gone takes milliseconds, and an index from items to lists would take twenty times the memory. A hash may stand for two
items, so whoever edits a list compares the ids in its payload. Knows neither Kafka nor Redis, nor which items are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 16_384
"""Lists in a block. A scan of one takes about a millisecond, and then other work has its turn."""
_TABLE_BITS = 20
"""Of the table that finds possible hits of a scan: 1 MB, whatever the number of items that are gone."""


class ListPlace(NamedTuple):
    """Where the newest record of a list is."""

    partition: int
    offset: int
    key: bytes


class Written(NamedTuple):
    """What is kept of a record's payload.

    Attributes
    ----------
    digest : int
        64 bits of the payload's hash, of this process; 0 if it is not known. So a copy of the payload is recognised.
    first_written_ms : int
        When the list was first written, by the broker's clock (milliseconds).
    """

    digest: int = 0
    first_written_ms: int = 0

    @classmethod
    def of(cls, payload: bytes, first_written_ms: int) -> Written:
        """Of a record."""
        return cls(hash(payload), first_written_ms)


NOT_READ = Written()


class _Block:
    """The columns of `BLOCK` lists; a hash of 0 is no item, a negative partition no list."""

    def __init__(self, width: int) -> None:
        self.items = np.zeros((BLOCK, width), np.uint32)
        self.offset = np.zeros(BLOCK, np.int64)
        self.partition = np.full(BLOCK, -1, np.int32)
        self.reason = np.zeros(BLOCK, np.uint8)
        self.written = np.zeros((BLOCK, 2), np.int64)
        self.keys: list[bytes | None] = [None] * BLOCK

    @property
    def nbytes(self) -> int:
        arrays = self.items.nbytes + self.offset.nbytes + self.partition.nbytes + self.reason.nbytes
        arrays += self.written.nbytes
        return arrays + sys.getsizeof(self.keys)


class PublishedLists:
    """The newest list of each key, of the partitions that are followed.

    Parameters
    ----------
    width : int
        Items of a list. A longer list makes all rows longer.

    Examples
    --------
    >>> lists = PublishedLists(3)
    >>> lists.note(b"ann", 0, 7, ["i1", "i2"])
    True
    >>> lists.note(b"bob", 1, 3, ["i2"], degraded="overload")
    True
    >>> sorted(place.key for place in lists.showing({"i2"}))
    [b'ann', b'bob']
    >>> lists.degraded("overload")
    [ListPlace(partition=1, offset=3, key=b'bob')]
    >>> lists.note(b"ann", 0, 6, ["i3"])  # older than what is known
    False
    """

    def __init__(self, width: int) -> None:
        self._width = max(1, width)
        self._blocks: list[_Block] = []
        self._slot: dict[bytes, int] = {}
        self._free: list[int] = []
        self._key_bytes = 0
        self._reasons: list[str | None] = [None]
        self._erased: dict[bytes, tuple[int, int]] = {}  # key -> partition and offset of a tombstone not read yet

    def __len__(self) -> int:
        return len(self._slot)

    @property
    def nbytes(self) -> int:
        """The memory that the index takes, in bytes."""
        of_slots = len(self._slot) * sys.getsizeof(BLOCK) + self._key_bytes
        return sum(block.nbytes for block in self._blocks) + sys.getsizeof(self._slot) + of_slots

    def note(
        self,
        key: bytes,
        partition: int,
        offset: int,
        item_ids: Collection[str] | None,
        degraded: str | None = None,
        written: Written = NOT_READ,
    ) -> bool:
        """Note a record of the topic, unless a newer one of its key is known.

        Parameters
        ----------
        key : bytes
            The record's key, see `streams.list_keys.list_key`.
        partition, offset : int
            Where the record is.
        item_ids : collection of str, optional
            The items that the list shows; None for a tombstone.
        degraded : str, optional
            The list's field.
        written : Written
            Of the record's payload, if the topic has surely stored it as it is.

        Returns
        -------
        bool
            Whether the record is the newest of its key that is known.
        """
        place = self.find(key)
        known = self._erased.get(key) if place is None else place[:2]
        if known is not None and known[0] == partition and known[1] > offset:
            return False
        if item_ids is None:
            self._erased[key] = partition, offset
            if place is not None:
                self._remove(self._slot[key])
            return True
        self._erased.pop(key, None)
        self._put(key, partition, offset, item_ids, self._number_of(degraded), written)
        return True

    def read_to(self, partition: int, position: int) -> None:
        """Note that all records before a position are noted: their tombstones need no memory any more."""
        done = [key for key, (of, offset) in self._erased.items() if of == partition and offset < position]
        for key in done:
            del self._erased[key]

    def find(self, key: bytes) -> ListPlace | None:
        """Return where the newest list of a key is; None if there is none."""
        slot = self._slot.get(key)
        if slot is None:
            return None
        block, row = self._at(slot)
        return ListPlace(block.partition.item(row), block.offset.item(row), key)

    def written(self, key: bytes) -> Written:
        """Return what is kept of the payload of a key's newest list."""
        slot = self._slot.get(key)
        if slot is None:
            return NOT_READ
        block, row = self._at(slot)
        return Written(block.written.item(row, 0), block.written.item(row, 1))

    def drop(self, partitions: Iterable[int]) -> None:
        """Remove all lists of these partitions."""
        gone = np.array(sorted(set(partitions)), np.int32)
        for number, block in enumerate(self._blocks):
            for row in np.flatnonzero(np.isin(block.partition, gone)):
                self._remove(number * BLOCK + int(row))
        self._erased = {key: place for key, place in self._erased.items() if place[0] not in gone}

    def discard(self, place: ListPlace) -> None:
        """Remove a list if this is still its newest record: the topic does not have it any more."""
        if self.find(place.key) == place:
            self._remove(self._slot[place.key])

    def degraded(self, reason: str) -> list[ListPlace]:
        """Return the lists that are degraded for this reason."""
        if reason not in self._reasons:
            return []
        number = self._reasons.index(reason)
        return [place for block in self._blocks for place in _places(block, np.flatnonzero(block.reason == number))]

    def showing(self, item_ids: Collection[str]) -> list[ListPlace]:
        """Return the lists that show one of these items, and by chance another list. See `scan`."""
        return [place for places in self.scan(item_ids) for place in places]

    def scan(self, item_ids: Collection[str]) -> Iterator[list[ListPlace]]:
        """Find the lists that show one of these items, block by block, so that other work has its turn between two.

        The index may change meanwhile: a list that is noted during a scan may be missed.
        """
        hashes = np.array(_hashes(item_ids), np.uint32)
        table = np.zeros(1 << _TABLE_BITS, np.bool_)
        mask = np.uint32(len(table) - 1)
        table[hashes & mask] = True
        for block in list(self._blocks):
            possible = np.flatnonzero(table[block.items & mask].any(axis=1))
            rows = possible[np.isin(block.items[possible], hashes).any(axis=1)]
            yield _places(block, rows)

    def _put(
        self, key: bytes, partition: int, offset: int, item_ids: Collection[str], reason: int, written: Written
    ) -> None:
        if len(item_ids) > self._width:
            self._widen(len(item_ids))
        slot = self._slot.get(key)
        if slot is None:
            slot = self._slot[key] = self._free.pop() if self._free else self._grow()
            self._key_bytes += sys.getsizeof(key)
        block, row = self._at(slot)
        block.items[row] = _hashes(item_ids) + [0] * (self._width - len(item_ids))
        block.offset[row], block.partition[row], block.reason[row] = offset, partition, reason
        block.keys[row] = key
        block.written[row] = written

    def _remove(self, slot: int) -> None:
        block, row = self._at(slot)
        key = block.keys[row]
        if key is None:
            return
        block.items[row], block.partition[row], block.reason[row], block.keys[row] = 0, -1, 0, None
        del self._slot[key]
        self._key_bytes -= sys.getsizeof(key)
        self._free.append(slot)

    def _at(self, slot: int) -> tuple[_Block, int]:
        return self._blocks[slot // BLOCK], slot % BLOCK

    def _grow(self) -> int:
        """Add a block. Returns its first slot; the others are free."""
        begin = len(self._blocks) * BLOCK
        self._blocks.append(_Block(self._width))
        self._free.extend(range(begin + BLOCK - 1, begin, -1))
        return begin

    def _widen(self, width: int) -> None:
        """Make all rows longer; this happens if the setting of the lists' size was larger once."""
        for block in self._blocks:
            block.items = np.pad(block.items, ((0, 0), (0, width - self._width)))
        self._width = width

    def _number_of(self, reason: str | None) -> int:
        """The number of a reason. Reasons beyond 255, which only foreign writers could make, share the last."""
        if reason not in self._reasons and len(self._reasons) < 256:
            self._reasons.append(reason)
        return self._reasons.index(reason) if reason in self._reasons else 255


def _hashes(item_ids: Collection[str]) -> list[int]:
    """32 bits of each id's hash, never 0. A string keeps its hash, so this is cheap."""
    return [(hash(item_id) & 0xFFFFFFFF) or 1 for item_id in item_ids]


def _places(block: _Block, rows: NDArray[np.intp]) -> list[ListPlace]:
    places = zip(block.partition[rows].tolist(), block.offset[rows].tolist(), rows.tolist(), strict=True)
    return [ListPlace(partition, offset, key) for partition, offset, row in places if (key := block.keys[row])]
