"""Approximate nearest-neighbour search over rows of vectors, with inserts and deletes while it serves.

A graph (HNSW, by usearch) beside a small set of rows that are not in it yet. A new row waits in that set, where search
is exact; once it is full, the oldest go into the graph, a few at a time, so that no single call takes long. Knows no
item and keeps no vectors but the graph's own copies in float16; used by `ranker.catalogue`, from one thread at a time.

Why usearch: hnswlib has no wheels, and faiss's HNSW cannot delete.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice

import numpy as np
import numpy.typing as npt
from usearch.index import BatchMatches, Index

from encoders.interest import Vector

Rows = npt.NDArray[np.intp]

EXACT = 8_192
"""Rows below which exact search is as fast: 2.3 ms for 6 queries of 384 dimensions on one core."""
_WAITING = 256
"""Rows not in the graph yet, once there is one: 0.1 ms of a search."""
_AT_ONCE = 16
"""Rows that enter the graph in one call: 2 to 5 ms of the caller's time."""
_INSERT_THREADS = min(8, os.cpu_count() or 1)
_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 900
"""Shared between the queries: one query needs all of the answer, each of six about a sixth.

Seen on 2 busy cores with 100,000 vectors of 384 dimensions, 50 to a cluster, spectrum falling as text's: recall@100
.999 for one query in 2.9 ms and 1.000 for six in 4.2 ms (exact: 42 ms). Each of six on its own: .957 at 128 for each,
.981 at 192, .990 at 256. Connectivity 24 with 200 at insertion: .995 at 256, but 1.4 times the search and more than
twice the build. Isotropic clusters, each of six on its own at 200: .999 with 500 to a cluster, .904 with 50, where
half of the nearest 100 are strangers. int8 at 200 (20,000 vectors, 50 to a cluster): .926 where float16 has .968.
"""
_LEAST_EXPANSION_SEARCH = 128


class NearestItems:
    """The rows that may be found.

    Parameters
    ----------
    vectors : gives the vectors of rows, (n,) intp -> (n, dim) float32, unit length.
    exact : with no more rows than these there is no graph, and search is exact.
    """

    def __init__(self, dim: int, vectors: Callable[[Rows], Vector], exact: int = EXACT) -> None:
        self._vectors = vectors
        self._exact = exact
        self._waiting: dict[int, None] = {}  # oldest first
        self._graph = Index(
            ndim=dim,
            metric="ip",
            dtype="f16",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
        )

    @property
    def is_exact(self) -> bool:
        """No row is in the graph: reading all vectors gives the same and is faster."""
        return len(self._graph) == 0

    def put(self, row: int) -> None:
        """Let a row be found by its vector of now, which stays the same until the next `put` or `remove`."""
        self.remove(row)
        self._waiting[row] = None
        if len(self._waiting) > (self._exact if self.is_exact else _WAITING):
            rows = np.fromiter(islice(self._waiting, _AT_ONCE), np.intp)
            self._graph.add(rows, self._vectors(rows), threads=_INSERT_THREADS)
            for entered in rows.tolist():
                del self._waiting[entered]

    def remove(self, row: int) -> None:
        """Let a row be found no more; nothing happens if it is not here."""
        if row in self._waiting:
            del self._waiting[row]
        elif row in self._graph:
            self._graph.remove(row, threads=1)

    def search(self, queries: Vector, count: int) -> tuple[Rows, Vector]:
        """Rows nearest to any of the queries, by inner product.

        Which rows are found is approximate; their similarities, and so their order, are exact.

        Parameters
        ----------
        queries : (q, dim) float32, q >= 1, unit length.

        Returns
        -------
        Rows, each once, and (n,) float32, the similarity to the query it is nearest to; best first, at most `count`.
        """
        found = [np.fromiter(self._waiting, np.intp, len(self._waiting))]
        if not self.is_exact:
            share = max(_EXPANSION_SEARCH // len(queries), _LEAST_EXPANSION_SEARCH)
            self._graph.expansion_search = share  # type: ignore[misc]  # mypy misses the setter
            # one thread: beside other work, starting more took longer than they saved
            matches = self._graph.search(queries, count, threads=1)
            by_query = matches if isinstance(matches, BatchMatches) else [matches]
            found += [match.keys.astype(np.intp) for match in by_query]
        rows = np.unique(np.concatenate(found))
        similarities: Vector = (queries @ self._vectors(rows).T).max(axis=0)
        best = top(similarities, count)
        return rows[best], similarities[best]


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
