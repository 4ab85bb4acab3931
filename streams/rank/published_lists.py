"""An index of the lists that the topic `recommendations` holds: which list shows which items, and where the list is.

Of each key it keeps the offset of the newest record, a digest of its payload, hashes of the item ids, and why the list
is degraded. They lie in numpy arrays, 4 bytes for each item: a scan of 100,000 lists for the items that are gone takes
milliseconds, and an index from items to lists would take twenty times the memory. A hash may stand for two items, so
whoever edits a list compares the ids in its payload. Knows neither Kafka nor Redis, nor which items are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 16_384
"""Lists scanned at a time. That takes about a millisecond, and then other work has its turn."""
NO_LIST = -1
"""The partition of a row that is free."""
_EMPTY = {"_items": 0, "_partition": NO_LIST, "_offset": 0, "_reason": 0, "_written": 0}
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


class IndexedList(NamedTuple):
    """What a record says.

    Attributes
    ----------
    item_ids : collection of str
        The items that the list shows.
    degraded : str, optional
        The list's field.
    written : Written
        Of the record's payload, if the topic has surely stored it as it is.
    """

    item_ids: Collection[str]
    degraded: str | None = None
    written: Written = NOT_READ


class PublishedLists:
    """The newest list of each key, of the partitions that are followed.

    Parameters
    ----------
    width : int
        Items of a list. A longer list makes all rows longer.

    Examples
    --------
    >>> lists = PublishedLists(3)
    >>> ann, bob = ListPlace(0, 7, b"ann"), ListPlace(1, 3, b"bob")
    >>> lists.note([ann, bob], [IndexedList(["i1", "i2"]), IndexedList(["i2"], "overload")])
    [True, True]
    >>> sorted(place.key for place in lists.showing({"i2"}))
    [b'ann', b'bob']
    >>> lists.degraded("overload")
    [ListPlace(partition=1, offset=3, key=b'bob')]
    >>> lists.note([ListPlace(0, 6, b"ann")], [IndexedList(["i3"])])  # older than what is known
    [False]
    """

    def __init__(self, width: int) -> None:
        self._items = np.zeros((BLOCK, max(1, width)), np.uint32)  # 0 is no item
        self._partition = np.full(BLOCK, NO_LIST, np.int32)
        self._offset = np.zeros(BLOCK, np.int64)
        self._reason = np.zeros(BLOCK, np.uint8)
        self._written = np.zeros((BLOCK, len(NOT_READ)), np.int64)
        self._keys: list[bytes] = []
        self._row: dict[bytes, int] = {}
        self._free: list[int] = []
        self._key_bytes = 0
        self._reasons: list[str | None] = [None]
        self._erased: dict[bytes, tuple[int, int]] = {}  # key -> partition and offset of a tombstone not read yet

    def __len__(self) -> int:
        return len(self._row)

    @property
    def nbytes(self) -> int:
        """The memory that the index takes, in bytes."""
        arrays: int = sum(getattr(self, name).nbytes for name in _EMPTY)
        of_rows = len(self._row) * sys.getsizeof(BLOCK) + self._key_bytes
        return arrays + sys.getsizeof(self._keys) + sys.getsizeof(self._row) + of_rows

    def note(self, places: Sequence[ListPlace], lists: Sequence[IndexedList | None]) -> list[bool]:
        """Note records of the topic, each unless a newer one of its key is known.

        Parameters
        ----------
        places : sequence of ListPlace
            Where they are, at most one of each key.
        lists : sequence of IndexedList or None
            What they say; None for a tombstone.

        Returns
        -------
        list of bool
            Whether each is the newest record of its key that is known.
        """
        rows, partitions, offsets = self._rows(places)
        newest = (self._partition[rows] != partitions) | (self._offset[rows] <= offsets) | (rows < 0)
        for index in np.flatnonzero(rows < 0).tolist():
            partition, offset = self._erased.get(places[index].key, (NO_LIST, 0))
            newest[index] = partition != places[index].partition or offset <= places[index].offset
        chosen = np.flatnonzero(newest).tolist()
        for index in chosen:
            if lists[index] is None:
                self._erase(places[index])
        written = [index for index in chosen if lists[index] is not None]
        for index in written:
            if rows[index] < 0:
                rows[index] = self._insert(places[index].key)
        shown = [list_ for index in written if (list_ := lists[index]) is not None]
        self._put(rows[written], partitions[written], offsets[written], shown)
        outcomes: list[bool] = newest.tolist()
        return outcomes

    def read_to(self, partition: int, position: int) -> None:
        """Note that all records before a position are noted: their tombstones need no memory any more."""
        done = [key for key, (of, offset) in self._erased.items() if of == partition and offset < position]
        for key in done:
            del self._erased[key]

    def find(self, keys: Iterable[bytes]) -> list[ListPlace]:
        """Return where the newest lists of some keys are, without the keys that have none."""
        return self._places(np.array([row for key in keys if (row := self._row.get(key)) is not None], np.intp))

    def are_newest(self, places: Sequence[ListPlace]) -> list[bool]:
        """Return for each record whether it is the newest of its key."""
        rows, partitions, offsets = self._rows(places)
        outcomes: list[bool] = (
            (rows >= 0) & (self._partition[rows] == partitions) & (self._offset[rows] == offsets)
        ).tolist()
        return outcomes

    def written(self, keys: Sequence[bytes]) -> list[Written]:
        """Return what is kept of the payload of each key's newest list."""
        rows = self._rows_of(keys)
        return [*map(Written._make, np.where((rows >= 0)[:, None], self._written[rows], NOT_READ).tolist())]

    def drop(self, partitions: Iterable[int]) -> None:
        """Remove all lists of these partitions."""
        gone = np.array(sorted(set(partitions)), np.int32)
        for row in np.flatnonzero(np.isin(self._partition, gone)).tolist():
            self._remove(row)
        self._erased = {key: place for key, place in self._erased.items() if place[0] not in gone}

    def discard(self, place: ListPlace) -> None:
        """Remove a list if this is still its newest record: the topic does not have it any more."""
        if self.are_newest([place])[0]:
            self._remove(self._row[place.key])

    def degraded(self, reason: str) -> list[ListPlace]:
        """Return the lists that are degraded for this reason."""
        if reason not in self._reasons:
            return []
        is_list = self._partition >= 0
        return self._places(np.flatnonzero(is_list & (self._reason == self._reasons.index(reason))))

    def showing(self, item_ids: Collection[str]) -> list[ListPlace]:
        """Return the lists that show one of these items, and by chance another list. See `scan`."""
        return [place for places in self.scan(item_ids) for place in places]

    def scan(self, item_ids: Collection[str]) -> Iterator[list[ListPlace]]:
        """Find the lists that show one of these items, block by block, so that other work has its turn between two.

        The index may change meanwhile: a list that is noted during a scan may be missed.
        """
        hashes = _hashes(item_ids)
        table = np.zeros(1 << _TABLE_BITS, np.bool_)
        mask = np.uint32(len(table) - 1)
        table[hashes & mask] = True
        for begin in range(0, len(self._keys), BLOCK):
            items = self._items[begin : begin + BLOCK]
            possible = np.flatnonzero(table[items & mask].any(axis=1))
            yield self._places(begin + possible[np.isin(items[possible], hashes).any(axis=1)])

    def _rows(self, places: Sequence[ListPlace]) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int64]]:
        """The row of each key, -1 for none, and the partition and the offset of each place."""
        partitions, offsets, keys = zip(*places, strict=True) if places else ((), (), ())
        return self._rows_of(keys), np.array(partitions, np.int32), np.array(offsets, np.int64)

    def _rows_of(self, keys: Collection[bytes]) -> NDArray[np.intp]:
        return np.fromiter(map(self._row.get, keys, repeat(-1)), np.intp, len(keys))

    def _places(self, rows: NDArray[np.intp]) -> list[ListPlace]:
        keys = map(self._keys.__getitem__, rows.tolist())
        return [*map(ListPlace, self._partition[rows].tolist(), self._offset[rows].tolist(), keys)]

    def _put(
        self,
        rows: NDArray[np.intp],
        partitions: NDArray[np.int32],
        offsets: NDArray[np.int64],
        lists: Sequence[IndexedList],
    ) -> None:
        if not lists:
            return
        item_ids, reasons, written = zip(*lists, strict=True)
        lengths = np.fromiter(map(len, item_ids), np.intp, len(lists))
        self._widen(int(lengths.max()))
        items = np.zeros((len(rows), self._items.shape[1]), np.uint32)
        items[np.arange(items.shape[1]) < lengths[:, None]] = _hashes(chain.from_iterable(item_ids))
        self._items[rows], self._partition[rows], self._offset[rows] = items, partitions, offsets
        numbers = {reason: self._number_of(reason) for reason in set(reasons)}
        self._reason[rows] = [numbers[reason] for reason in reasons]
        flat = np.fromiter(chain.from_iterable(written), np.int64, len(lists) * len(NOT_READ))
        self._written[rows] = flat.reshape(-1, len(NOT_READ))

    def _insert(self, key: bytes) -> int:
        """Give a key a row. Returns it."""
        self._erased.pop(key, None)
        row = self._free.pop() if self._free else len(self._keys)
        if row == len(self._keys):
            self._keys.append(key)
            self._reach(row)
        self._keys[row], self._row[key] = key, row
        self._key_bytes += sys.getsizeof(key)
        return row

    def _erase(self, place: ListPlace) -> None:
        self._erased[place.key] = place.partition, place.offset
        row = self._row.get(place.key)
        if row is not None:
            self._remove(row)

    def _remove(self, row: int) -> None:
        key = self._keys[row]
        self._items[row], self._partition[row], self._keys[row] = 0, NO_LIST, b""
        del self._row[key]
        self._key_bytes -= sys.getsizeof(key)
        self._free.append(row)

    def _reach(self, row: int) -> None:
        """Make sure that the arrays have the row. They grow by half: with a million lists that takes some 30 ms."""
        missing = row + 1 - len(self._offset)
        if missing > 0:
            added = max(missing, BLOCK, len(self._offset) // 2)
            for name, value in _EMPTY.items():
                column = getattr(self, name)
                shape = (added, *column.shape[1:])
                setattr(self, name, np.concatenate([column, np.full(shape, value, column.dtype)]))

    def _widen(self, width: int) -> None:
        """Make all rows longer; this happens if the setting of the lists' size was larger once."""
        missing = width - self._items.shape[1]
        if missing > 0:
            self._items = np.pad(self._items, ((0, 0), (0, missing)))

    def _number_of(self, reason: str | None) -> int:
        """The number of a reason. Reasons beyond 255, which only foreign writers could make, share the last."""
        if reason not in self._reasons and len(self._reasons) < 256:
            self._reasons.append(reason)
        return self._reasons.index(reason) if reason in self._reasons else 255


def _hashes(item_ids: Iterable[str]) -> NDArray[np.uint32]:
    """32 bits of each id's hash, never 0. A string keeps its hash, so this is cheap."""
    hashes = np.fromiter(map(hash, item_ids), np.int64).astype(np.uint32)
    hashes[hashes == 0] = 1
    return hashes
