"""A space: one vector for each item of a catalogue, and the search among the items that may be found.

The texts' vectors are one, what an adapter makes of them is another. Rows are those of the catalogue. Knows no item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from usearch.index import Index

from encoders.interest import Vector
from ranker.recall.nearest_items import EXACT, NearestItems, Rows
from ranker.recall.vector_blocks import VectorBlocks


class Placed(Protocol):
    """An item of which a space is made."""

    def embedding(self, name: str) -> bytes:
        """Return the vector of this name that the item brought, float16 of unit length; empty without one."""
        ...


class Placing(Protocol):
    """Makes the vectors of a space from those of the texts, or from those that the items bring. Hashed by identity.

    Attributes
    ----------
    dim : int
        Length of a vector of the space.
    exact : int
        With at most this many available items, the search is exact.
    may_lack : bool
        Whether an item may have no vector in the space; its vector is then 0, and no search finds it.
    """

    may_lack: bool

    @property
    def dim(self) -> int: ...

    @property
    def exact(self) -> int: ...

    def place(self, items: Sequence[Placed], vectors: Vector) -> Vector:
        """Return the items' vectors in the space, (n, dim) float32.

        Parameters
        ----------
        items : sequence of Placed
        vectors : (n, text dim) float32
            Of their texts.

        Returns
        -------
        (n, dim) float32
            At unit length; 0 for an item that has none.
        """
        ...


class Space:
    """Vectors by row.

    Parameters
    ----------
    dim : int
        Length of a vector.
    rows : callable
        Returns the rows of keys; -1 for a key that must not be found.
    exact : int
        With at most this many available items, `nearest` is exact.
    graph : Index, optional
        A search graph from an earlier process, see `ranker.recall.graph_file`.
    may_lack : bool
        See `Placing`.

    Attributes
    ----------
    index : NearestItems
        Searches the available items.
    """

    def __init__(
        self,
        dim: int,
        rows: Callable[[Iterable[int]], Rows],
        exact: int = EXACT,
        graph: Index | None = None,
        may_lack: bool = False,
    ) -> None:
        self.dim = dim
        self._may_lack = may_lack
        self._vectors = VectorBlocks(dim)
        self.index = NearestItems(dim, rows, self.vectors, exact, graph)

    def put(self, row: int, key: int, vector: Vector, available: bool, was_available: bool) -> bool:
        """Give the item of a row this vector. Returns whether the vector or the availability has changed.

        Parameters
        ----------
        row : int
        key : int
        vector : (dim,) float32
            Unit length, or 0.
        available : bool
            Whether the item may be found.
        was_available : bool
            Whether it could be found before, by the vector that it had.
        """
        self._vectors.reach(row)
        old = self._vectors.row(row)
        changed = not was_available or not np.array_equal(old, vector)
        old[:] = vector
        if not available or (self._may_lack and not vector.any()):
            self.index.remove(key)
        elif changed:
            self.index.put(key, vector)
        return changed or available != was_available

    def row(self, row: int) -> Vector:
        """Return the vector of a row itself, (dim,) float32."""
        return self._vectors.row(row)

    def vectors(self, rows: Rows) -> Vector:
        """Return a copy of the vectors in these rows, (n, dim) float32."""
        return self._vectors.take(rows)

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
