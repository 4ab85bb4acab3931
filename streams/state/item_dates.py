"""When each item first appeared, so that an item that is sent again every night is not new.

Compaction leaves only the newest record of an item in the topic `items`. So the time of its first record is kept in the
compacted topic `item-counts`, under the key `first:{item}`. All workers read it, and the worker that owns the item by
its hash writes it once. An item that is deleted loses its date. Knows no Kafka.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.events.entries import item_key
from ranker.recall.catalogue import Catalogue, CatalogueItem
from streams.contracts import Candidate, Item
from streams.receive.embeddings import numbers_of, packed_vectors

_PREFIX = b"first:"
_LONGEST = 20
"""Digits of a key and of a date."""


def encode_date(item: int, first_ms: int | None) -> tuple[bytes, bytes | None]:
    """Return the key and the value under which the date of an item (its key) is stored; None deletes it.

    >>> encode_date(7, 1_790_000_000_000)
    (b'first:7', b'1790000000000')
    """
    return _PREFIX + str(item).encode(), None if first_ms is None else str(first_ms).encode()


def decode_date(key: bytes | None, value: bytes | None) -> tuple[int, int | None] | None:
    """Read what `encode_date` wrote; None for a record of another kind, and for one that nobody can read."""
    number = (key or b"").removeprefix(_PREFIX)
    if not (key or b"").startswith(_PREFIX) or not number.isdigit() or len(number) > _LONGEST:
        return None
    if value is None:
        return int(number), None
    return (int(number), int(value)) if value.isdigit() and len(value) <= _LONGEST else None


class ItemDates:
    """The dates of the items of a catalogue, and what of them is to be stored.

    Parameters
    ----------
    catalogue : Catalogue
        Has the date of each of its items.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._early: dict[int, int] = {}  # stored dates of items that the catalogue does not have yet
        self._unstored: dict[int, int | None] = {}

    def dated(self, item: Item, written_ms: int) -> CatalogueItem:
        """Convert an item to the catalogue's form, with the time when it first appeared.

        That is the item's own `timestamp`. Without one, or with one in the future, it is the time of the item's first
        record.

        Parameters
        ----------
        item : Item
            It is put into the catalogue next, unless that has an equal one.
        written_ms : int
            When its record was written.
        """
        own_ms = None if item.timestamp is None else milliseconds(item.timestamp)
        if own_ms is None or own_ms >= written_ms:
            own_ms = self._first_ms(item_key(item.item_id), written_ms)
        return CatalogueItem(
            item_id=item.item_id,
            title=item.title,
            text=describe_item(item),
            brand=item.brand,
            categories=tuple(item.categories),
            price=item.price,
            currency=item.currency,
            available=item.available,
            time_ms=own_ms,
            embeddings=packed_vectors(item),
            numbers=numbers_of(item, self._catalogue.number_names),
            entities=tuple(filter(None, item.entities)),
            domain=item.domain,
        )

    def put(self, item: int, first_ms: int | None) -> None:
        """Take in a stored date, or the erasure of one."""
        if first_ms is None:
            self._early.pop(item, None)
            return
        present, vector = self._catalogue.get(item), self._catalogue.vector(item)
        if present is None or vector is None:
            self._early[item] = first_ms
            return
        self._unstored.pop(item, None)
        if first_ms < present.time_ms:
            self._catalogue.put(replace(present, time_ms=first_ms), vector)

    def delete(self, item_id: str) -> None:
        """An item leaves the catalogue: if it comes back, it is new."""
        item = item_key(item_id)
        if item in self._catalogue:
            self._early.pop(item, None)
            self._unstored[item] = None

    def begin(self) -> None:
        """All that was stored is read: a date without an item belongs to one that was deleted meanwhile."""
        self._unstored |= dict.fromkeys(self._early, None)
        self._early = {}

    def to_store(self, owned: Collection[int], partitions: int) -> list[tuple[int, int | None]]:
        """Return the dates that this worker has to store, as (item, date). Call `stored` once they are.

        Parameters
        ----------
        owned : collection of int
            The partitions of this worker. An item is of the partition that is its key modulo their number.
        partitions : int
            Their number.
        """
        return [(item, first_ms) for item, first_ms in self._unstored.items() if item % partitions in owned]

    def stored(self, pairs: Collection[tuple[int, int | None]]) -> None:
        """These dates are stored."""
        for item, first_ms in pairs:
            if self._unstored.get(item, first_ms) == first_ms:
                self._unstored.pop(item, None)

    def _first_ms(self, item: int, written_ms: int) -> int:
        present = self._catalogue.get(item)
        if present is not None:
            return min(written_ms, present.time_ms)
        first_ms = self._early.pop(item, None)
        if first_ms is None:
            self._unstored[item] = written_ms
            return written_ms
        return min(written_ms, first_ms)


def described(candidate: Candidate, appeared_ms: int) -> CatalogueItem:
    """Return the item that a candidate describes which the catalogue does not have; it is new."""
    return CatalogueItem(
        candidate.item_id, "", candidate.text, categories=tuple(candidate.categories), time_ms=appeared_ms
    )
