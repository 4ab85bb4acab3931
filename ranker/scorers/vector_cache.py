"""Vectors by text within a limit of memory, as rows of one array. Knows no model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
ENTRY_BYTES = 150
"""Of a text, beside the string and its vector, as measured on CPython 3.11."""
DROPPED_SHARE = 1 / 16
"""Of the texts: so many of the least recently used make room at once. Chosen by us: finding them reads all rows' last
uses, which takes too long to be done for each new text."""


class VectorCache:
    """Vectors of texts; the least recently used texts make room for new ones.

    Parameters
    ----------
    dim : int
        Length of a vector.
    max_bytes : int
        Memory for texts and vectors. The system gives memory to rows that were written only.

    Examples
    --------
    >>> cache = VectorCache(dim=2, max_bytes=2**20)
    >>> def compute(texts):
    ...     print("computes", texts)
    ...     return np.array([[len(text), 1] for text in texts], np.float32)
    >>> cache.vectors(["hat", "tent", "hat"], compute).tolist()
    computes ['hat', 'tent']
    [[3.0, 1.0], [4.0, 1.0], [3.0, 1.0]]
    >>> cache.vectors(["tent", "lamp"], compute).tolist()
    computes ['lamp']
    [[4.0, 1.0], [4.0, 1.0]]
    """

    def __init__(self, dim: int, max_bytes: int) -> None:
        self._vector_bytes = dim * np.dtype(np.float32).itemsize
        rows = max(1, max_bytes // (self._vector_bytes + ENTRY_BYTES))
        self._max_bytes = max_bytes
        self._bytes = 0
        self._row_of: dict[str, int] = {}
        self._vectors: Vectors = np.zeros((rows, dim), np.float32)
        self._last_use = np.zeros(rows, np.int64)
        self._calls = 0
        self._free: list[int] = []
        self._begun = 0  # rows that were ever used

    def __len__(self) -> int:
        return len(self._row_of)

    def missing(self, texts: Sequence[str]) -> int:
        """Return the number of texts that are not cached."""
        return sum(text not in self._row_of for text in texts)

    def vectors(self, texts: Sequence[str], compute: Callable[[list[str]], Vectors]) -> Vectors:
        """Return the vectors of texts, and cache them.

        Parameters
        ----------
        texts : sequence of str
            In any order; a text may occur more than once.
        compute : callable
            Called with the distinct texts that are not cached, returns their vectors.

        Returns
        -------
        ndarray of float32, (len(texts), dim)
        """
        self._calls += 1
        rows = np.fromiter(map(self._row_of.get, texts, repeat(-1)), np.intp, len(texts))
        vectors: Vectors = self._vectors.take(rows, axis=0, mode="clip")
        is_missing = rows < 0
        if not is_missing.any():
            self._last_use[rows] = self._calls
            return vectors
        self._last_use[rows[~is_missing]] = self._calls
        places = np.flatnonzero(is_missing).tolist()
        new = {text: number for number, text in enumerate(dict.fromkeys(texts[place] for place in places))}
        computed = compute(list(new))
        vectors[places] = computed[[new[texts[place]] for place in places]]
        for text, number in new.items():
            self._put(text, computed[number])
        return vectors

    def _put(self, text: str, vector: Vectors) -> None:
        needed = self._entry_bytes(text)
        if needed > self._max_bytes:
            return
        while self._bytes + needed > self._max_bytes:
            self._make_room()
        if not self._free:
            self._free.append(self._begun)
            self._begun += 1
        row = self._free.pop()
        self._row_of[text] = row
        self._vectors[row] = vector
        self._last_use[row] = self._calls
        self._bytes += needed

    def _make_room(self) -> None:
        texts, rows = list(self._row_of), np.array(list(self._row_of.values()), np.intp)
        count = max(1, round(len(rows) * DROPPED_SHARE))
        for index in np.argsort(self._last_use[rows], kind="stable")[:count].tolist():
            self._free.append(self._row_of.pop(texts[index]))
            self._bytes -= self._entry_bytes(texts[index])

    def _entry_bytes(self, text: str) -> int:
        return sys.getsizeof(text) + self._vector_bytes + ENTRY_BYTES
