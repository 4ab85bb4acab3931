"""Scores by the cosine of a context's and a candidate's vectors: the cheapest scorer, the default on a CPU.

Items recur from list to list, so their vectors are kept. Knows nothing of lengths and batches (`TextEncoder`
does); loaded by `load_scorer`.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from encoders.text import TextEncoder
from ranker.score import ScoreRequest

CACHE_BYTES = 256 * 2**20  # about 150,000 items of MiniLM


class BiEncoder:
    """Cosine of context and candidate, -1 to 1, by an embedding model; see `Scorer` for the contract.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    cache_bytes : int
        Memory for candidates' vectors; the least recently used go.
    """

    def __init__(
        self, model: str, device: str = "auto", dtype: str = "auto", cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._encoder = TextEncoder(model, device, dtype)
        self._vectors = VectorCache(cache_bytes)
        self.name = model
        self.placement = self._encoder.placement
        self.usage = self._encoder.usage

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        contexts = self._encoder.encode(
            [request.context for request in requests if request.candidates], truncation_side="left"
        )
        vectors = self._candidates({text: None for request in requests for text in request.candidates})
        rows = iter(contexts)
        return [
            np.stack([vectors[text] for text in request.candidates]) @ next(rows)
            if request.candidates
            else np.empty(0, dtype=np.float32)
            for request in requests
        ]

    def _candidates(self, texts: dict[str, None]) -> dict[str, NDArray[np.float32]]:
        """Return the vector of each of the distinct texts, encoding those that are not kept."""
        vectors = {text: vector for text in texts if (vector := self._vectors.get(text)) is not None}
        missing = [text for text in texts if text not in vectors]
        for text, row in zip(missing, self._encoder.encode(missing), strict=True):
            vectors[text] = row.copy()  # a view would keep the whole batch's array in memory
            self._vectors.put(text, vectors[text])
        return vectors


class VectorCache:
    """Vectors by text, the least recently used dropped so that keys and vectors stay within `max_bytes`.

    >>> cache = VectorCache(max_bytes=1_000)
    >>> for text in "abc":
    ...     cache.put(text, np.zeros(100, dtype=np.float32))
    >>> [text for text in "abc" if cache.get(text) is not None]
    ['b', 'c']
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def get(self, text: str) -> NDArray[np.float32] | None:
        """Return the vector of `text`, which is now the most recently used; None if it is not kept."""
        vector = self._kept.get(text)
        if vector is not None:
            self._kept.move_to_end(text)
        return vector

    def put(self, text: str, vector: NDArray[np.float32]) -> None:
        """Keep the vector of a `text` that is not kept yet."""
        self._kept[text] = vector
        self._bytes += _size(text, vector)
        while self._bytes > self._max_bytes:
            self._bytes -= _size(*self._kept.popitem(last=False))


def _size(text: str, vector: NDArray[np.float32]) -> int:
    return sys.getsizeof(text) + vector.nbytes
