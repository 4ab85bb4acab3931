"""The items that can be recommended, with their text vectors: nearest-neighbour search, inserts and deletes.

Rows are numbered; a new item may get the row of a deleted one. Does not know where items come from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import log
from weakref import WeakKeyDictionary

import numpy as np
from usearch.index import Index

from encoders.events.entries import item_key
from encoders.interest import Vector
from ranker.knowledge.graph import KnowledgeGraph
from ranker.recall.domains import Domains
from ranker.recall.item_columns import NO_NUMBER, ItemColumns
from ranker.recall.nearest_items import EXACT, Rows
from ranker.recall.newest_items import NewestItems
from ranker.recall.space import Placing, Space

PLACED_AT_ONCE = 16
"""Items that enter a space at once: 7 ms where the search has a graph, 0.3 ms where it has none."""
_EMPTY_ROW = {
    "available": False,
    "time_ms": 0,
    "keys": 0,
    "log_price": np.nan,
    "category": NO_NUMBER,
    "brand": NO_NUMBER,
}


@dataclass(frozen=True)
class CatalogueItem:
    """What the steps need to know about an item. The models read `text`.

    `embeddings` has the vectors that the item brought, by name: float16, of unit length. `numbers` has the numeric
    attributes that are kept.
    """

    item_id: str
    title: str
    text: str
    categories: tuple[str, ...] = ()
    brand: str = ""
    price: float | None = None
    currency: str | None = None
    available: bool = True
    time_ms: int = 0
    embeddings: tuple[tuple[str, bytes], ...] = ()
    numbers: tuple[tuple[str, float], ...] = ()
    entities: tuple[str, ...] = ()
    domain: str = ""

    def embedding(self, name: str) -> bytes:
        """Return the vector of this name that the item brought, see `embeddings`; empty without one."""
        return next((vector for one, vector in self.embeddings if one == name), b"")


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
    embedding_names, number_names : collection of str
        See the attributes.
    domains : collection of str
        The domains that lists may be of.

    Attributes
    ----------
    dim : int
        Length of a text vector.
    text : Space
        The texts' vectors.
    withheld : set of int
        Keys of items that may not be recommended, whatever they say themselves. A change counts from the next `put`.
    embedding_names, number_names : collection of str
        Names of the vectors of items that are kept beside the texts', and of the attributes that are kept as numbers.
    knowledge : KnowledgeGraph
        What is known beyond the items' own fields; the items' `entities` are in it, too.
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

    def __init__(
        self,
        dim: int,
        exact: int = EXACT,
        graph: Index | None = None,
        embedding_names: Collection[str] = (),
        number_names: Collection[str] = (),
        domains: Collection[str] = (),
    ) -> None:
        self.dim = dim
        self.withheld: set[int] = set()
        self.embedding_names, self.number_names = embedding_names, number_names
        self.available = np.zeros(0, bool)
        self.time_ms, self.keys = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        self.log_price = np.zeros(0, np.float32)
        self.category, self.brand = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self._names: dict[str, int] = {}
        self._items: list[CatalogueItem | None] = []
        self._row: dict[int, int] = {}
        self._free: list[int] = []
        self._sum = np.zeros(dim)  # of the vectors of all items
        self._newest = NewestItems(self)
        self.text = Space(dim, self._available_rows, exact, graph)
        self.domains = Domains(domains, dim, self._available_rows, self.text.vectors)
        self.knowledge = KnowledgeGraph(lambda key: self._row.get(key, -1))
        self._spaces: WeakKeyDictionary[Placing, Space] = WeakKeyDictionary()

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
        was_available, available = bool(self.available[row]), item.available and key not in self.withheld
        old = self._items[row]
        self._sum += vector if old is None else vector - self.text.row(row)
        self._items[row] = item
        self.available[row] = available
        changed = self.text.put(row, key, vector, available, was_available)
        self.domains.put(row, key, item.domain, vector, available, changed)
        if changed or old is None or item.embeddings != old.embeddings:  # else only its price or the like
            for placing, space in self._spaces.items():
                space.put(row, key, placing.place([item], vector[None])[0], available, was_available)
        self.time_ms[row] = item.time_ms
        self.keys[row] = key
        self.log_price[row] = _log_price(item)
        self.category[row], self.brand[row] = self._number(item.categories[-1:]), self._number((item.brand,))
        self.knowledge.put_item(key, item.item_id, row, item.entities)
        self._newest.update(row)

    def delete(self, item_id: str) -> None:
        """Remove an item; nothing happens if it is not there."""
        key = item_key(item_id)
        row = self._row.pop(key, None)
        if row is not None:
            self._items[row] = None
            self.domains.delete(row, key)
            self._sum -= self.text.row(row)
            self.available[row] = False
            for space in (self.text, *self._spaces.values()):
                space.index.remove(key)
            self._newest.update(row)
            self.knowledge.delete_item(key)
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
        return np.fromiter(map(self._row.get, keys, repeat(-1)), np.intp)

    def recommendable(self, keys: Sequence[int]) -> tuple[Rows, Rows]:
        """Return the known and available ones of these items: their indices among the keys, and their rows."""
        rows = self.rows(keys)
        indices = np.flatnonzero((rows >= 0) & self.available[rows]) if len(self) else np.empty(0, np.intp)
        return indices, rows[indices]

    def vectors(self, rows: Rows) -> Vector:
        """Return a copy of the text vectors in these rows, (n, dim) float32."""
        return self.text.vectors(rows)

    def columns(self, rows: Rows) -> ItemColumns:
        """Return a copy of the columns of the items in these rows."""
        return ItemColumns(
            self.keys[rows],
            self.vectors(rows),
            self.time_ms[rows],
            self.log_price[rows],
            self.category[rows],
            self.brand[rows],
            self.knowledge.nodes_of(rows),
        )

    def columns_of_new(self, items: Sequence[CatalogueItem], vectors: Vector) -> ItemColumns:
        """Return the columns that these items would have, without inserting them."""
        keys = [item_key(item.item_id) for item in items]
        return ItemColumns(
            np.array(keys, np.uint64),
            vectors,
            np.array([item.time_ms for item in items], np.int64),
            np.array([_log_price(item) for item in items], np.float32),
            np.array([self._names.get("".join(item.categories[-1:]), NO_NUMBER) for item in items], np.int32),
            np.array([self._names.get(item.brand, NO_NUMBER) for item in items], np.int32),
            self.knowledge.find(keys),
        )

    def vector(self, key: int) -> Vector | None:
        """Return an item's text vector, (dim,) float32; None while the item is unknown."""
        row = self._row.get(key)
        return None if row is None else self.text.row(row)

    @property
    def mean_cosine(self) -> float:
        """The mean cosine of two items, each drawn from all by itself; 0 in an empty catalogue."""
        mean = self._sum / max(1, len(self))
        return float(mean @ mean)

    def space(self, placing: Placing) -> Space:
        """Return the space of what makes its vectors, with all items in it. It lives as long as `placing` does."""
        if placing not in self._spaces:
            for _ in self.place(placing):
                pass
        return self._spaces[placing]

    def place(self, placing: Placing) -> Iterator[None]:
        """Put all items into a new space, in steps of some milliseconds. Items that come meanwhile enter it, too."""
        empty = Space(placing.dim, self._available_rows, placing.exact, may_lack=placing.may_lack)
        space = self._spaces.setdefault(placing, empty)
        for begin in range(0, len(self._items), PLACED_AT_ONCE):
            some = self._items[begin : begin + PLACED_AT_ONCE]
            rows = np.array([begin + index for index, item in enumerate(some) if item is not None], np.intp)
            items = [item for item in some if item is not None]
            for row, vector in zip(rows.tolist(), placing.place(items, self.vectors(rows)), strict=True):
                space.put(row, int(self.keys[row]), vector, bool(self.available[row]), was_available=False)
            yield

    def newest(self, count: int) -> Rows:
        """Return the rows of the available items that appeared last, newest first; see `NewestItems`."""
        return self._newest.rows(count)

    def _available_rows(self, keys: Iterable[int]) -> Rows:
        """The items' rows, -1 for an item that is unknown or unavailable."""
        rows = self.rows(keys)
        return np.where(self.available[rows], rows, -1) if len(self.available) else rows

    def _number(self, name: tuple[str, ...]) -> int:
        """The number of a category's or a brand's name."""
        return self._names.setdefault(name[0], len(self._names)) if any(name) else NO_NUMBER

    def _grow(self) -> None:
        row = len(self._items) - 1
        if row >= len(self.available):  # doubled; a million rows of these arrays are 30 MB
            added = max(256, len(self.available))
            for name, value in _EMPTY_ROW.items():
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.full(added, value, column.dtype)]))


def _log_price(item: CatalogueItem) -> float:
    return log(item.price) if item.price else np.nan
