"""Approximate nearest-neighbour search over vectors by key, with inserts and deletes while it serves.

A graph (HNSW, by usearch) beside a small set of keys that are not in it yet. A new key waits in that set, where search
is exact; once it is full, some go into the graph, a few at a time, so that no single call takes long. The graph has
copies of the vectors in int8, which find; the caller's own, in float32, order what was found. Knows no item; used by
`ranker.recall.catalogue`, from one thread at a time; `ranker.recall.graph_file` keeps the graph on disk.

Why usearch: hnswlib has no wheels, and faiss's HNSW cannot delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import numpy as np
import numpy.typing as npt
from usearch.index import BatchMatches, Index

from encoders.interest import Vector

Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int8]

EXACT = 8_192
"""Keys below which exact search is as fast: 2.3 ms for 6 queries of 384 dimensions on one core."""
_WAITING = 256
"""Keys not in the graph yet, once there is one: 0.1 ms of a search."""
_AT_ONCE = 8
"""Keys that enter the graph in one call: 3.4 ms of the caller's time at 60,000 keys."""
_KEYS_AT_ONCE = 2_048
"""Keys looked at in one step of `forget_unknown`: about a millisecond."""
_INSERT_THREADS = 1
"""Concurrent inserts of usearch leave keys that no link leads to, so no search finds them: with 2 threads up to 11 of
512, and some at every size tried up to 4,000. With one thread there were none, at 1.9 times the time of two."""
_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 900
"""Shared between the queries: one query needs all of the answer, each of six about a sixth.

Seen on 2 busy cores with 100,000 vectors of 384 dimensions, clustered and of a falling spectrum, six queries:
recall@100 .974 at 96 for each, .983 at 128, .985 at 150, .992 at 192, .995 at 256. bfloat16 instead of int8: the same
within .002, up to twice the time of a search, 1.2 times that of an insert and 1.8 times the memory; int8 in a four
times finer scale: no better.
"""
_EXPANSION_SIZE, _EXPANSION_GROWTH = 100_000, 0.16
"""From this size on it grows with this power of it: 1,301 at 1,000,000, where recall@100 was .935 at 900, .951 at
1,200, .958 at 1,500 and .965 at 1,800."""
_LEAST_EXPANSION_SEARCH = 128
_MORE_THAN_ASKED = 16
"""Codes of near neighbours tie, or come in the other order: the vectors decide among a few more than were asked for."""
_REMOVED_SHARE = 4_096
"""usearch looks through the whole graph at the first search or insert after a remove, 45 ms at 1,000,000 keys: so it is
told of as many at once as cost each about 0.2 ms. Until then they are left out of what it found."""
_INT8_SCALE = 127
"""No component of a unit vector exceeds 1. Coarse: but what a code finds, the vector itself puts in order."""


def new_graph(dim: int) -> Index:
    """An empty graph for vectors of this length."""
    return Index(ndim=dim, metric="ip", dtype="i8", connectivity=_CONNECTIVITY, expansion_add=_EXPANSION_ADD)


class NearestItems:
    """The keys that may be found.

    Parameters
    ----------
    rows : gives the caller's rows of keys, -1 for one that must not be found.
    vectors : gives the vectors of rows, (n,) intp -> (n, dim) float32, unit length.
    exact : with no more keys than these there is no graph, and search is exact.
    graph : one from an earlier life; what is old in it makes no result wrong, see `put` and `forget_unknown`.

    Attributes
    ----------
    graph : read by `ranker.recall.graph_file`.
    changes : of the graph, counted.
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
        self._waiting = np.zeros((_WAITING + _AT_ONCE, dim), np.float32)  # by slot
        self._old: set[int] = set()  # keys that are in the graph and must not be, or not as they are there

    def put(self, key: int, vector: Vector) -> None:
        """Let a key be found by this vector. What the graph has of it is compared when it is its turn to enter."""
        self._wait(key, vector)
        if len(self._keys) > (_WAITING + len(self._old) if len(self.graph) else self._exact):
            self._enter()

    def _wait(self, key: int, vector: Vector) -> None:
        slot = self._slot.setdefault(key, len(self._keys))
        if slot == len(self._keys):
            self._keys.append(key)
            if slot == len(self._waiting):
                self._waiting = np.concatenate([self._waiting, np.zeros_like(self._waiting)])
        self._waiting[slot] = vector

    def remove(self, key: int) -> None:
        """Let a key be found no more; nothing happens if it is not here."""
        if key in self._slot:
            self._leave(key)
        if key in self.graph:
            self._old.add(key)
            self._forget_old()

    def search(self, queries: Vector, count: int) -> tuple[Rows, Vector]:
        """Rows nearest to any of the queries, by inner product.

        Which ones are found is approximate; their similarities, and so their order, are exact.

        Parameters
        ----------
        queries : (q, dim) float32, q >= 1, unit length.

        Returns
        -------
        Rows, each once, and (n,) float32, the similarity to the query it is nearest to; best first, at most `count`.
        """
        # this way around: with few queries the product took 0.6 of the time
        similarities: Vector = (self._waiting[: len(self._keys)] @ queries.T).max(axis=1)
        best = top(similarities, count)
        rows, similarities = self._rows(self._keys[slot] for slot in best.tolist()), similarities[best]
        if len(self.graph):
            found = self._rows(key for key in self._found(queries, count) if key not in self._slot)
            found = found[found >= 0]
            rows = np.concatenate([rows, found])
            similarities = np.concatenate([similarities, (queries @ self._vectors(found).T).max(axis=0)])
            best = top(similarities, count)
            rows, similarities = rows[best], similarities[best]
        return rows, similarities

    def forget_unknown(self) -> Iterator[None]:
        """Take out of a graph from an earlier life what must not be found any more: it would be in the way.

        Goes on when it is asked for the next step, so that others get a turn.
        """
        keys = np.asarray(self.graph.keys, np.uint64)
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[begin : begin + _KEYS_AT_ONCE]
            self._old.update(some[self._rows(some.tolist()) < 0].tolist())
            self._forget_old()
            yield

    def _found(self, queries: Vector, count: int) -> list[int]:
        count += len(self._old) + _MORE_THAN_ASKED
        growth = max(1.0, len(self.graph) / _EXPANSION_SIZE) ** _EXPANSION_GROWTH
        share = max(round(_EXPANSION_SEARCH * growth) // len(queries), _LEAST_EXPANSION_SEARCH, count)
        self.graph.expansion_search = share  # type: ignore[misc]  # mypy misses the setter
        # one thread: beside other work, starting more took longer than they saved
        matches = self.graph.search(_codes(queries), count, threads=1)
        by_query = matches if isinstance(matches, BatchMatches) else [matches]
        found: list[int] = np.unique(np.concatenate([match.keys for match in by_query])).tolist()
        return found

    def _enter(self) -> None:
        """Move a few from the waiting into the graph; those of which it has an old vector wait on, at the end."""
        keys = np.array(self._keys[:_AT_ONCE], np.uint64)
        vectors = self._waiting[: len(keys)].copy()
        codes = _codes(vectors)
        kept = cast("tuple[Codes | None, ...]", self.graph.get(keys)) if len(self.graph) else [None] * len(keys)
        new = np.array([code is None for code in kept])
        if new.any():
            self.graph.add(keys[new], codes[new], threads=_INSERT_THREADS)
            self.changes += int(new.sum())
        for key, vector, code, known in zip(keys.tolist(), vectors, codes, kept, strict=True):
            self._leave(key)
            if known is not None and not np.array_equal(known, code):
                self._old.add(key)
                self._wait(key, vector)
            else:
                self._old.discard(key)
        self._forget_old()

    def _forget_old(self) -> None:
        """Take what is old out of the graph, once it is so much that the price is small for each."""
        if len(self._old) > len(self.graph) // _REMOVED_SHARE:
            self.changes += int(np.sum(self.graph.remove(np.fromiter(self._old, np.uint64), threads=1)))
            self._old = set()

    def _leave(self, key: int) -> None:
        """Take a key out of the waiting; the last one gets its slot."""
        slot, last = self._slot.pop(key), self._keys.pop()
        if last != key:
            self._keys[slot], self._slot[last] = last, slot
            self._waiting[slot] = self._waiting[len(self._keys)]


def top(scores: npt.NDArray[np.floating], count: int) -> Rows:
    """Positions of the `count` largest finite scores, largest first; ties by position.

    >>> top(np.array([1.0, 3.0, -np.inf, 3.0]), 3).tolist()
    [1, 3, 0]
    """
    finite = np.flatnonzero(np.isfinite(scores))
    if len(finite) > count:
        threshold = np.partition(scores[finite], len(finite) - count)[len(finite) - count]
        finite = finite[scores[finite] >= threshold]
    return finite[np.argsort(-scores[finite], kind="stable")][:count]


def _codes(vectors: Vector) -> Codes:
    codes: Codes = np.rint(vectors * _INT8_SCALE).astype(np.int8)
    return codes
