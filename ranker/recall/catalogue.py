"""The items that can be recommended, with their text vectors: nearest-neighbour search, inserts and deletes.

Rows are numbered; a deleted item's row is used again. Knows nothing of where items come from; filled by
`streams.state.tier`, read by the candidate sources.
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

MOST_NEWEST = 1_000
NOTHING = -1


@dataclass(frozen=True)
class CatalogueItem:
    """What the steps need to know of an item. `text` is what the models read."""

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
    exact : up to this many available items, `nearest` is exact.
    graph : of an earlier life, see `ranker.recall.graph_file`.

    Attributes
    ----------
    dim : length of a text vector.
    index : finds the available items.
    available : (rows,) bool, may be recommended.
    time_ms : (rows,) int64, when the item appeared.
    keys : (rows,) uint64, the items' keys.
    log_price : (rows,) float32, the price's natural logarithm; NaN for an item without one, or that is free.
    category, brand : (rows,) int32, equal for items of one leaf category or brand; `NOTHING` for none.
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
        self._newest: Rows | None = None  # more than `newest` gives, so that some may go
        self._all_newest = False
        self.index = NearestItems(dim, self._available_rows, self.vectors, exact, graph)

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, key: int) -> bool:
        return key in self._row

    def __iter__(self) -> Iterator[CatalogueItem]:
        return (item for item in self._items if item is not None)

    def put(self, item: CatalogueItem, vector: Vector) -> None:
        """Insert an item or replace the one of the same id. `vector`: (dim,) float32, unit length."""
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
        elif changed:  # else only its price changed, or the like
            self.index.put(key, vector)
        self.time_ms[row] = item.time_ms
        self.keys[row] = key
        self.log_price[row] = log(item.price) if item.price else np.nan
        self.category[row], self.brand[row] = self._number(item.categories[-1:]), self._number((item.brand,))
        self._renew(row)

    def delete(self, item_id: str) -> None:
        """Remove an item; nothing happens if it is not there."""
        key = item_key(item_id)
        row = self._row.pop(key, None)
        if row is not None:
            self._items[row] = None
            self.available[row] = False
            self.index.remove(key)
            self._renew(row)
            self._free.append(row)

    def get(self, key: int) -> CatalogueItem | None:
        row = self._row.get(key)
        return None if row is None else self._items[row]

    def at(self, row: int) -> CatalogueItem:
        """The item in a row that a search or `row` gave."""
        item = self._items[row]
        if item is None:
            raise KeyError(row)
        return item

    def rows(self, keys: Iterable[int]) -> Rows:
        """(n,) intp, the items' rows; -1 for an unknown one."""
        return np.array([self._row.get(key, -1) for key in keys], np.intp)

    def recommendable(self, keys: Sequence[int]) -> tuple[Rows, Rows]:
        """Those of these items that are known and available: their places among the keys, and their rows."""
        rows = self.rows(keys)
        places = np.flatnonzero((rows >= 0) & self.available[rows]) if len(self) else np.empty(0, np.intp)
        return places, rows[places]

    def vectors(self, rows: Rows) -> Vector:
        """(n, dim) float32."""
        return self._vectors.take(rows)

    def vector(self, key: int) -> Vector | None:
        """(dim,) float32 of an item, None while it is unknown."""
        row = self._row.get(key)
        return None if row is None else self._vectors.row(row)

    def nearest(self, queries: Vector, count: int) -> tuple[Rows, Vector]:
        """The available items nearest to any of the queries, by inner product.

        In a large catalogue the search is approximate (`ranker.recall.nearest_items`); the similarities are exact.

        Parameters
        ----------
        queries : (q, dim) float32, q >= 1, unit length.

        Returns
        -------
        Rows and, for each, the similarity to the query it is nearest to; best first, at most `count`.
        """
        return self.index.search(queries, count)

    def newest(self, count: int) -> Rows:
        """The available items that appeared last, first the newest; at most `MOST_NEWEST`."""
        if self._newest is None:
            self._newest = top(np.where(self.available, self.time_ms, -np.inf), 2 * MOST_NEWEST)
            self._all_newest = len(self._newest) < 2 * MOST_NEWEST
        return self._newest[: min(count, MOST_NEWEST)]

    def _renew(self, row: int) -> None:
        """Keep `_newest` right after a change in one row: to find it anew reads all rows."""
        if self._newest is None:
            return
        others = self._newest[self._newest != row]
        if self.available[row]:
            times, time_ms = self.time_ms[others], self.time_ms[row]
            place = int(((times > time_ms) | ((times == time_ms) & (others < row))).sum())
            if place < len(others) or self._all_newest:
                others = np.insert(others, place, row)
        if len(others) > 2 * MOST_NEWEST:
            others, self._all_newest = others[: 2 * MOST_NEWEST], False
        self._newest = others if self._all_newest or len(others) >= MOST_NEWEST else None

    def _available_rows(self, keys: Iterable[int]) -> Rows:
        """(n,) intp, -1 for an item that is unknown or unavailable."""
        rows = self.rows(keys)
        return np.where(self.available[rows], rows, -1) if len(self.available) else rows

    def _number(self, name: tuple[str, ...]) -> int:
        """A number for a category's or a brand's name, the same for the same one."""
        return self._names.setdefault(name[0], len(self._names)) if any(name) else NOTHING

    def _grow(self) -> None:
        row = len(self._items) - 1
        self._vectors.reach(row)
        if row >= len(self.available):  # doubled: of these, a million are 9 MB
            more = max(256, len(self.available))
            self.available = np.concatenate([self.available, np.zeros(more, bool)])
            self.time_ms = np.concatenate([self.time_ms, np.zeros(more, np.int64)])
            self.keys = np.concatenate([self.keys, np.zeros(more, np.uint64)])
            self.log_price = np.concatenate([self.log_price, np.full(more, np.nan, np.float32)])
            self.category = np.concatenate([self.category, np.full(more, NOTHING, np.int32)])
            self.brand = np.concatenate([self.brand, np.full(more, NOTHING, np.int32)])
