"""The items that can be recommended, with their text vectors: nearest-neighbour search, inserts and deletes.

Rows are numbered; a new item may get the row of a deleted one. Does not know where items come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from usearch.index import Index

from encoders.interest import Vector, item_key
from ranker.recall.nearest_items import EXACT, NearestItems, Rows, top
from ranker.recall.vector_blocks import VectorBlocks

MAX_NEWEST = 1_000
NO_NUMBER = -1


@dataclass(frozen=True)
class CatalogueItem:
    """What the steps need to know about an item. The models read `text`."""

    item_id: str
    title: str
    text: str
    categories: tuple[str, ...] = ()
    brand: str = ""
    price: float | None = None
    currency: str | None = None
    available: bool = True
    time_ms: int = 0


class Catalogue:
    """Items by id, by key and by row.

    Parameters
    ----------
    dim : int
        Length of a text vector.
    exact : int
        With at most this many available items, `nearest` is exact.
    graph : Index, optional
        A search graph from an earlier process, see `ranker.recall.graph_file`.

    Attributes
    ----------
    dim : int
        Length of a text vector.
    index : NearestItems
        Searches the available items.
    available : (rows,) bool
        Whether the item may be recommended.
    time_ms : (rows,) int64
        When the item appeared, milliseconds since the epoch.
    keys : (rows,) uint64
        The items' keys.
    log_price : (rows,) float32
        Natural logarithm of the price; NaN for a free item and for one without a price.
    category, brand : (rows,) int32
        Equal for items of one leaf category or brand; `NO_NUMBER` for none.
    """

    def __init__(self, dim: int, exact: int = EXACT, graph: Index | None = None) -> None:
        self.dim = dim
        self.available = np.zeros(0, bool)
        self.time_ms = np.zeros(0, np.int64)
        self._vectors = VectorBlocks(dim)
        self.keys = np.zeros(0, np.uint64)
        self.log_price = np.zeros(0, np.float32)
        self.category = np.zeros(0, np.int32)
        self.brand = np.zeros(0, np.int32)
        self._names: dict[str, int] = {}
        self._items: list[CatalogueItem | None] = []
        self._row: dict[int, int] = {}
        self._free: list[int] = []
        self._newest: Rows | None = None  # twice as many as `newest` returns, so that some may leave
        self._newest_has_all = False
        self.index = NearestItems(dim, self._available_rows, self.vectors, exact, graph)

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, key: int) -> bool:
        return key in self._row

    def __iter__(self) -> Iterator[CatalogueItem]:
        return (item for item in self._items if item is not None)

    def put(self, item: CatalogueItem, vector: Vector) -> None:
        """Insert an item, or replace the item of the same id.

        Parameters
        ----------
        item : CatalogueItem
        vector : (dim,) float32
            Unit length.
        """
        key = item_key(item.item_id)
        row = self._row.get(key)
        if row is None:
            row = self._free.pop() if self._free else len(self._items)
            if row == len(self._items):
                self._items.append(None)
                self._grow()
            self._row[key] = row
        old = self._vectors.row(row)
        changed = not self.available[row] or not np.array_equal(old, vector)
        self._items[row] = item
        old[:] = vector
        self.available[row] = item.available
        if not item.available:
            self.index.remove(key)
        elif changed:  # otherwise only its price or the like changed
            self.index.put(key, vector)
        self.time_ms[row] = item.time_ms
        self.keys[row] = key
        self.log_price[row] = log(item.price) if item.price else np.nan
        self.category[row], self.brand[row] = self._number(item.categories[-1:]), self._number((item.brand,))
        self._update_newest(row)

    def delete(self, item_id: str) -> None:
        """Remove an item; nothing happens if it is not there."""
        key = item_key(item_id)
        row = self._row.pop(key, None)
        if row is not None:
            self._items[row] = None
            self.available[row] = False
            self.index.remove(key)
            self._update_newest(row)
            self._free.append(row)

    def get(self, key: int) -> CatalogueItem | None:
        """Return the item of a key; None while it is unknown."""
        row = self._row.get(key)
        return None if row is None else self._items[row]

    def at(self, row: int) -> CatalogueItem:
        """Return the item in a row that `rows` or a search returned.

        Raises
        ------
        KeyError
            The item was deleted.
        """
        item = self._items[row]
        if item is None:
            raise KeyError(row)
        return item

    def rows(self, keys: Iterable[int]) -> Rows:
        """Return the items' rows, (n,) intp; -1 for an unknown item."""
        return np.array([self._row.get(key, -1) for key in keys], np.intp)

    def recommendable(self, keys: Sequence[int]) -> tuple[Rows, Rows]:
        """Return the known and available ones of these items: their indices among the keys, and their rows."""
        rows = self.rows(keys)
        indices = np.flatnonzero((rows >= 0) & self.available[rows]) if len(self) else np.empty(0, np.intp)
        return indices, rows[indices]

    def vectors(self, rows: Rows) -> Vector:
        """Return a copy of the text vectors in these rows, (n, dim) float32."""
        return self._vectors.take(rows)

    def vector(self, key: int) -> Vector | None:
        """Return an item's text vector, (dim,) float32; None while the item is unknown."""
        row = self._row.get(key)
        return None if row is None else self._vectors.row(row)

    def nearest(self, queries: Vector, count: int) -> tuple[Rows, Vector]:
        """Search the available items nearest to any of the queries, by inner product.

        In a large catalogue the search is approximate (`ranker.recall.nearest_items`); the similarities are exact.

        Parameters
        ----------
        queries : (q, dim) float32
            q >= 1, unit length.
        count : int

        Returns
        -------
        rows : (n,) intp
            Best first, n <= `count`.
        similarities : (n,) float32
            To the nearest query.
        """
        return self.index.search(queries, count)

    def newest(self, count: int) -> Rows:
        """Return the rows of the available items that appeared last, newest first; at most `MAX_NEWEST`."""
        if self._newest is None:
            self._newest = top(np.where(self.available, self.time_ms, -np.inf), 2 * MAX_NEWEST)
            self._newest_has_all = len(self._newest) < 2 * MAX_NEWEST
        return self._newest[: min(count, MAX_NEWEST)]

    def _update_newest(self, row: int) -> None:
        """Keep `_newest` correct after a change in one row; making it anew would read all rows."""
        if self._newest is None:
            return
        others = self._newest[self._newest != row]
        if self.available[row]:
            times, time_ms = self.time_ms[others], self.time_ms[row]
            rank = int(((times > time_ms) | ((times == time_ms) & (others < row))).sum())
            if rank < len(others) or self._newest_has_all:
                others = np.insert(others, rank, row)
        if len(others) > 2 * MAX_NEWEST:
            others, self._newest_has_all = others[: 2 * MAX_NEWEST], False
        self._newest = others if self._newest_has_all or len(others) >= MAX_NEWEST else None

    def _available_rows(self, keys: Iterable[int]) -> Rows:
        """The items' rows, -1 for an item that is unknown or unavailable."""
        rows = self.rows(keys)
        return np.where(self.available[rows], rows, -1) if len(self.available) else rows

    def _number(self, name: tuple[str, ...]) -> int:
        """The number of a category's or a brand's name."""
        return self._names.setdefault(name[0], len(self._names)) if any(name) else NO_NUMBER

    def _grow(self) -> None:
        row = len(self._items) - 1
        self._vectors.reach(row)
        if row >= len(self.available):  # doubled; a million rows of these arrays are 30 MB
            added = max(256, len(self.available))
            self.available = np.concatenate([self.available, np.zeros(added, bool)])
            self.time_ms = np.concatenate([self.time_ms, np.zeros(added, np.int64)])
            self.keys = np.concatenate([self.keys, np.zeros(added, np.uint64)])
            self.log_price = np.concatenate([self.log_price, np.full(added, np.nan, np.float32)])
            self.category = np.concatenate([self.category, np.full(added, NO_NUMBER, np.int32)])
            self.brand = np.concatenate([self.brand, np.full(added, NO_NUMBER, np.int32)])
