"""Scores by the cosines of a context's events and a candidate: the cheapest scorer, the default on a CPU.

Events and items recur from list to list, so their vectors are cached: a click costs about one new line. Does not know
lengths and batches (`TextEncoder` does).
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from encoders.text.encoder import TextEncoder
from encoders.text.fit import newest_events
from ranker.score import ScoreRequest

CACHE_BYTES = 256 * 2**20
"""About 130,000 texts of MiniLM."""
ENTRY_BYTES = 335
"""Of the cache, beside text and vector, as measured on CPython 3.11."""
EVENT_DECAY = np.float32(0.8)
"""An event's weight relative to the next newer one; chosen by us: .7 and .8 were equally good, and the best of .5 to
.95, on two generated shops."""
MAX_EVENTS = 64
"""Events of a context that count, the newest; an older one would weigh less than a millionth."""


class BiEncoder:
    """Cosine of event and candidate by an embedding model, averaged over the events; see `Scorer` for the contract.

    With the lines of the context from the newest, k = 0, to the oldest, and g = `EVENT_DECAY`,
    `score(c) = sum_k g^k cos(line_k, c) / sum_k g^k`: -1 to 1, and 0 where the context is empty. Lines are embedded one
    by one because the vector of a whole history is near to no item: on a generated shop it ranked worse, and no part of
    it can be cached.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    cache_bytes : int
        Memory for vectors of items and events; the least recently used are dropped.
    """

    needs_features = False

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", cache_bytes: int = CACHE_BYTES) -> None:
        self._encoder = TextEncoder(model, device, dtype)
        self._cache = VectorCache(cache_bytes)
        self.name = model
        self.dim = self._encoder.dim
        self.placement = self._encoder.placement
        self.usage = self._encoder.usage

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        contexts = [request.context if request.candidates else "" for request in requests]
        histories = newest_events(contexts, MAX_EVENTS, self._encoder.tokens, self.usage)
        tokens_before = self.usage.context_tokens
        events = self._embedded("event", (line for history in histories for line in history))
        computed = self.usage.context_tokens - tokens_before
        total = sum(events[line].tokens for history in histories for line in history)
        self.usage.context_tokens_reused += total - computed
        items = self._embedded("item", (text for request in requests for text in request.candidates))
        return [
            _mean_cosines(
                [events[line].vector for line in history], [items[text].vector for text in request.candidates]
            )
            for request, history in zip(requests, histories, strict=True)
        ]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed items' texts as `TextEncoder.encode` does, and cache the vectors for when they are candidates."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        items = self._embedded("item", texts)
        return np.stack([items[text].vector for text in texts])

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`: caches the vectors."""
        self.encode(texts)

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: the cached texts are those of items and of events, which belong to no user."""

    def _embedded(self, kind: Kind, texts: Iterable[str]) -> dict[str, EmbeddedText]:
        """The vectors of the distinct texts; those that are not cached are computed."""
        distinct = dict.fromkeys(texts)
        embedded = {text: hit for text in distinct if (hit := self._cache.get((kind, text))) is not None}
        missing = [text for text in distinct if text not in embedded]
        if kind == "event":
            rows, tokens = self._encoder.encode_events(missing)
        else:
            rows, tokens = self._encoder.encode(missing), [0] * len(missing)
        for text, row, count in zip(missing, rows, tokens, strict=True):
            # a copy, because a view would keep the array of the whole batch in memory
            embedded[text] = EmbeddedText(text, row.copy(), count)
            self._cache.put(kind, embedded[text])
        return embedded


def _mean_cosines(events: list[NDArray[np.float32]], items: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Each item's weighted mean cosine with the events, which are newest last: (len(items),) float32."""
    if not events or not items:
        return np.zeros(len(items), dtype=np.float32)
    weights = EVENT_DECAY ** np.arange(len(events), dtype=np.float32)[::-1]
    mean: NDArray[np.float32] = weights @ np.stack(events) / weights.sum()
    return np.stack(items) @ mean


Kind = Literal["event", "item"]
"""Events and items are cached apart, because a text that is too long is cut differently as an event and as an item."""


class EmbeddedText(NamedTuple):
    """A text, its vector, and its number of tokens, which is counted for events only."""

    text: str
    vector: NDArray[np.float32]
    tokens: int

    @property
    def bytes(self) -> int:
        """Memory of its entry in a `VectorCache`."""
        return sys.getsizeof(self.text) + sys.getsizeof(self.vector) + ENTRY_BYTES


class VectorCache(LRUCache[tuple[Kind, str], EmbeddedText]):
    """Vectors by kind and text within `max_bytes`; the least recently used are dropped first.

    >>> cache = VectorCache(max_bytes=1_900)
    >>> for text in "abc":
    ...     cache.put("item", EmbeddedText(text, np.zeros(100, dtype=np.float32), tokens=3))
    >>> [text for text in "abc" if cache.get(("item", text))]
    ['b', 'c']
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=lambda embedded: embedded.bytes)

    def put(self, kind: Kind, embedded: EmbeddedText) -> None:
        """Add a text; a text over `max_bytes` is not kept."""
        if embedded.bytes <= self.maxsize:
            self[kind, embedded.text] = embedded
