"""Approximate nearest-neighbour search over vectors by key, with inserts and deletes while it serves.

A graph (HNSW, by usearch) and a small set of waiting keys that are not in it yet. A new key waits in that set, where
search is exact; when the set is full, a few keys at a time enter the graph, so that no single call takes long. The
graph holds copies of the vectors in int8, which find; the caller's float32 vectors order what was found. Knows no item.
For one thread at a time.

Why usearch: hnswlib has no wheels, and faiss's HNSW cannot delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from usearch.index import BatchMatches, Index

from encoders.interest import Vector

Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int8]

EXACT = 8_192
"""Keys below which exact search is as fast: 2.3 ms for 6 queries of 384 dimensions on one core."""
_WAITING = 256
"""Keys that wait once there is a graph: 0.1 ms of a search."""
_ENTER_AT_ONCE = 8
"""Keys that enter the graph in one call: 3.4 ms of the caller's time at 60,000 keys."""
_KEYS_AT_ONCE = 2_048
"""Keys in one step of `forget_unknown`: about a millisecond."""
_INSERT_THREADS = 1
"""Concurrent inserts of usearch leave keys without a link to them, so no search finds them: with 2 threads up to 11 of
512, and some at every size tried up to 4,000. With one thread there were none, at 1.9 times the time of two."""
_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 900
"""Divided among the queries: one query needs all of the result, each of six about a sixth.

Measured on 2 busy cores with 100,000 vectors of 384 dimensions, clustered and of a falling spectrum, six queries:
recall@100 .974 at 96 for each, .983 at 128, .985 at 150, .992 at 192, .995 at 256. bfloat16 instead of int8: the same
within .002, up to twice the time of a search, 1.2 times that of an insert and 1.8 times the memory; int8 in a four
times finer scale: no better.
"""
_EXPANSION_SIZE, _EXPANSION_GROWTH = 100_000, 0.16
"""From this size on it grows with this power of it: 1,301 at 1,000,000, where recall@100 was .935 at 900, .951 at
1,200, .958 at 1,500 and .965 at 1,800."""
_MIN_EXPANSION_SEARCH = 128
_EXTRA_RESULTS = 16
"""Codes of near neighbours tie or swap their order, so the vectors decide among a few more than requested."""
_REMOVED_SHARE = 4_096
"""usearch scans the whole graph at the first search or insert after a remove, 45 ms at 1,000,000 keys. One in this many
keys is therefore removed at once, about 0.2 ms each. Until then they are left out of the results."""
_INT8_SCALE = 127
"""No component of a unit vector exceeds 1. The codes are coarse, but the vectors themselves order what they find."""


def new_graph(dim: int) -> Index:
    """Return an empty graph for vectors of this length."""
    return Index(ndim=dim, metric="ip", dtype="i8", connectivity=_CONNECTIVITY, expansion_add=_EXPANSION_ADD)


class NearestItems:
    """The keys that a search may find.

    Parameters
    ----------
    dim : int
        Length of a vector.
    rows : callable
        Returns the caller's rows of keys; -1 for a key that must not be found.
    vectors : callable
        Returns the vectors of rows, (n,) intp -> (n, dim) float32, unit length.
    exact : int
        With at most this many keys there is no graph, and search is exact.
    graph : Index, optional
        A graph from an earlier process. Outdated entries make no result wrong, see `put` and `forget_unknown`.

    Attributes
    ----------
    graph : Index
    changes : int
        Number of inserts into the graph and removes from it.
    """

    def __init__(
        self,
        dim: int,
        rows: Callable[[Iterable[int]], Rows],
        vectors: Callable[[Rows], Vector],
        exact: int = EXACT,
        graph: Index | None = None,
    ) -> None:
        self.graph = graph if graph is not None else new_graph(dim)
        self.changes = 0
        self._rows = rows
        self._vectors = vectors
        self._exact = exact
        self._slot: dict[int, int] = {}  # of a waiting key
        self._keys: list[int] = []  # by slot
        self._waiting = np.zeros((_WAITING + _ENTER_AT_ONCE, dim), np.float32)  # by slot
        self._outdated: set[int] = set()  # keys whose entry in the graph must not be found

    def put(self, key: int, vector: Vector) -> None:
        """Let a key be found by this vector. An entry that the graph has already is compared when the key enters."""
        self._wait(key, vector)
        if len(self._keys) > (_WAITING + len(self._outdated) if len(self.graph) else self._exact):
            self._enter()

    def _wait(self, key: int, vector: Vector) -> None:
        slot = self._slot.setdefault(key, len(self._keys))
        if slot == len(self._keys):
            self._keys.append(key)
            if slot == len(self._waiting):
                self._waiting = np.concatenate([self._waiting, np.zeros_like(self._waiting)])
        self._waiting[slot] = vector

    def remove(self, key: int) -> None:
        """Let a key be found no more; nothing happens if it is unknown."""
        if key in self._slot:
            self._unwait(key)
        if key in self.graph:
            self._outdated.add(key)
            self._remove_outdated()

    def search(self, queries: Vector, count: int) -> tuple[Rows, Vector]:
        """Search the rows nearest to any of the queries, by inner product.

        The search may miss some; the similarities of the results, and so their order, are exact.

        Parameters
        ----------
        queries : (q, dim) float32
            q >= 1, unit length.
        count : int

        Returns
        -------
        rows : (n,) intp
            Each once, best first, n <= `count`.
        similarities : (n,) float32
            To the nearest query.
        """
        # with few queries this order of the product takes 0.6 of the time of the other
        similarities: Vector = (self._waiting[: len(self._keys)] @ queries.T).max(axis=1)
        rows = np.full(len(similarities), -1)
        if len(self.graph):
            in_graph = self._rows([key for key in self._search_graph(queries, count) if key not in self._slot])
            in_graph = in_graph[in_graph >= 0]
            rows = np.concatenate([rows, in_graph])
            similarities = np.concatenate([similarities, (queries @ self._vectors(in_graph).T).max(axis=0)])
        best = top(similarities, count)
        rows, is_waiting = rows[best], best < len(self._keys)
        rows[is_waiting] = self._rows([self._keys[slot] for slot in best[is_waiting].tolist()])
        return rows, similarities[best]

    def forget_unknown(self) -> Iterator[None]:
        """Remove from the graph of an earlier process the keys that must not be found any more.

        A generator: each step takes about a millisecond, so that the caller can do other work in between.
        """
        keys = np.asarray(self.graph.keys, np.uint64)
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            step = keys[begin : begin + _KEYS_AT_ONCE]
            self._outdated.update(step[self._rows(step.tolist()) < 0].tolist())
            self._remove_outdated()
            yield

    def _search_graph(self, queries: Vector, count: int) -> list[int]:
        """Keys near to any of the queries, each once, nearest first by the codes: a few more than asked for."""
        count += len(self._outdated) + _EXTRA_RESULTS
        growth = max(1.0, len(self.graph) / _EXPANSION_SIZE) ** _EXPANSION_GROWTH
        share = max(round(_EXPANSION_SEARCH * growth) // len(queries), _MIN_EXPANSION_SEARCH, count)
        self.graph.expansion_search = share  # type: ignore[misc]  # mypy misses the setter
        # one thread: beside other work, starting more threads takes longer than they save
        matches = self.graph.search(_codes(queries), count, threads=1)
        keys, distances = matches.keys, matches.distances
        if isinstance(matches, BatchMatches):  # of several queries, each of which may have fewer results
            found = np.arange(keys.shape[1]) < matches.counts[:, None]
            keys, distances = keys[found], distances[found]
        nearest_first: list[int] = keys[np.argsort(distances)].tolist()
        return list(dict.fromkeys(nearest_first))[:count]

    def _enter(self) -> None:
        """Move a few waiting keys into the graph; a key with an outdated entry there waits on, as the last one."""
        keys = np.array(self._keys[:_ENTER_AT_ONCE], np.uint64)
        vectors = self._waiting[: len(keys)].copy()
        codes = _codes(vectors)
        entries = cast("tuple[Codes | None, ...]", self.graph.get(keys)) if len(self.graph) else [None] * len(keys)
        new = np.array([entry is None for entry in entries])
        if new.any():
            self.graph.add(keys[new], codes[new], threads=_INSERT_THREADS)
            self.changes += int(new.sum())
        for key, vector, code, entry in zip(keys.tolist(), vectors, codes, entries, strict=True):
            self._unwait(key)
            if entry is not None and not np.array_equal(entry, code):
                self._outdated.add(key)
                self._wait(key, vector)
            else:
                self._outdated.discard(key)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        """Remove outdated entries from the graph once there are so many that the cost of each is small."""
        if len(self._outdated) > len(self.graph) // _REMOVED_SHARE:
            self.changes += int(np.sum(self.graph.remove(np.fromiter(self._outdated, np.uint64), threads=1)))
            self._outdated = set()

    def _unwait(self, key: int) -> None:
        """Remove a key from the waiting keys; the last one gets its slot."""
        slot, last = self._slot.pop(key), self._keys.pop()
        if last != key:
            self._keys[slot], self._slot[last] = last, slot
            self._waiting[slot] = self._waiting[len(self._keys)]


def top(scores: npt.NDArray[np.floating], count: int) -> Rows:
    """Return the indices of the `count` largest finite scores, largest first; ties by index.

    >>> top(np.array([1.0, 3.0, -np.inf, 3.0]), 3).tolist()
    [1, 3, 0]
    """
    finite = np.flatnonzero(np.isfinite(scores))
    if len(finite) > count:
        threshold = np.partition(scores[finite], len(finite) - count)[len(finite) - count]
        finite = finite[scores[finite] >= threshold]
    return finite[np.argsort(-scores[finite], kind="stable")][:count]


def index_in(ascending: npt.NDArray[Any], values: npt.NDArray[Any]) -> Rows:
    """Return the index of each value in an ascending array, (n,) intp; -1 for one that is not there.

    >>> index_in(np.array([2, 5, 9]), np.array([9, 1, 5])).tolist()
    [2, -1, 1]
    """
    if not len(ascending):
        return np.full(len(values), -1, np.intp)
    index = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[index] == values, index, -1)


def _codes(vectors: Vector) -> Codes:
    codes: Codes = np.rint(vectors * _INT8_SCALE).astype(np.int8)
    return codes
