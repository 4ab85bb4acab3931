"""Scores by the cosines of a context's events and a candidate: the cheapest scorer, the default on a CPU.

Events and items recur from list to list, so their vectors are kept: a click costs about one new line. Knows nothing of
lengths and batches (`TextEncoder` does); loaded by `load_scorer`.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders.text.encoder import TextEncoder
from encoders.text.fit import newest_events
from ranker.score import ScoreRequest

CACHE_BYTES = 256 * 2**20  # about 130,000 texts of MiniLM
ENTRY_BYTES = 230  # of the cache, beside text and vector, as measured on CPython 3.11
EVENT_DECAY = np.float32(0.8)
"""An event's weight relative to the next newer one; chosen by us: .7 and .8 were the best of .5 to .95 on two
generated shops, and alike."""
MOST_EVENTS = 64
"""Events of a context that count, the newest; one older than that would weigh less than a millionth."""


class BiEncoder:
    """Cosine of event and candidate by an embedding model, averaged over the events; see `Scorer` for the contract.

    With the lines of the context from the newest, k = 0, to the oldest, and g = `EVENT_DECAY`,
    `score(c) = sum_k g^k cos(line_k, c) / sum_k g^k`: -1 to 1, and 0 where the context is empty. Apart, because the
    vector of a whole history is near to no item: on a generated shop it ranked worse, and no part of it can be kept.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    cache_bytes : int
        Memory for vectors of items and events; the least recently used go.
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
        histories = newest_events(contexts, MOST_EVENTS, self._encoder.tokens, self.usage)
        before = self.usage.context_tokens
        events = self._embedded("event", (line for history in histories for line in history))
        computed = self.usage.context_tokens - before
        read = sum(events[line].tokens for history in histories for line in history)
        self.usage.context_tokens_reused += read - computed
        items = self._embedded("item", (text for request in requests for text in request.candidates))
        return [
            _mean_cosines(
                [events[line].vector for line in history], [items[text].vector for text in request.candidates]
            )
            for request, history in zip(requests, histories, strict=True)
        ]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed items' texts as `TextEncoder.encode` does, and keep the vectors for when they come as candidates."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        items = self._embedded("item", texts)
        return np.stack([items[text].vector for text in texts])

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`: keeps the vectors."""
        self.encode(texts)

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: what is kept are texts of items and of events, of no user in particular."""

    def _embedded(self, kind: Kind, texts: Iterable[str]) -> dict[str, Embedded]:
        """Return the vectors of the distinct texts, computing those that are not kept."""
        distinct = dict.fromkeys(texts)
        found = {text: kept for text in distinct if (kept := self._cache.get(kind, text)) is not None}
        missing = [text for text in distinct if text not in found]
        if kind == "event":
            rows, tokens = self._encoder.encode_events(missing)
        else:
            rows, tokens = self._encoder.encode(missing), [0] * len(missing)
        for text, row, count in zip(missing, rows, tokens, strict=True):
            found[text] = Embedded(row.copy(), count)  # a view would keep the whole batch's array in memory
            self._cache.put(kind, text, found[text])
        return found


def _mean_cosines(events: list[NDArray[np.float32]], items: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Weigh the events, newest last, and return each item's mean cosine with them: float32, (len(items),)."""
    if not events or not items:
        return np.zeros(len(items), dtype=np.float32)
    weights = EVENT_DECAY ** np.arange(len(events), dtype=np.float32)[::-1]
    mean: NDArray[np.float32] = weights @ np.stack(events) / weights.sum()
    return np.stack(items) @ mean


Kind = Literal["event", "item"]
"""A text that is too long is cut differently as an event and as an item, so they are kept apart."""


class Embedded(NamedTuple):
    """A text's vector, and the tokens that it took: counted for events only."""

    vector: NDArray[np.float32]
    tokens: int


class VectorCache:
    """Vectors by kind and text, the least recently used dropped so that all of it stays within `max_bytes`.

    >>> cache = VectorCache(max_bytes=1_700)
    >>> for text in "abc":
    ...     cache.put("item", text, Embedded(np.zeros(100, dtype=np.float32), tokens=3))
    >>> [text for text in "abc" if cache.get("item", text)]
    ['b', 'c']
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[Kind, str], Embedded] = OrderedDict()

    def get(self, kind: Kind, text: str) -> Embedded | None:
        """Return what is kept of `text`, which is now the most recently used; None if nothing is."""
        kept = self._kept.get((kind, text))
        if kept is not None:
            self._kept.move_to_end((kind, text))
        return kept

    def put(self, kind: Kind, text: str, embedded: Embedded) -> None:
        """Keep the vector of a `text` that is not kept yet."""
        self._kept[kind, text] = embedded
        self._bytes += _size(text, embedded)
        while self._bytes > self._max_bytes:
            (_, oldest), dropped = self._kept.popitem(last=False)
            self._bytes -= _size(oldest, dropped)


def _size(text: str, embedded: Embedded) -> int:
    return sys.getsizeof(text) + sys.getsizeof(embedded.vector) + ENTRY_BYTES
