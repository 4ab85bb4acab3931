"""Scores by the cosines of a user's events and a candidate: the cheapest scorer, the default on a CPU.

Nothing is encoded when a list is made. The vector of an event is that of its item's text: it is made once, when the
item arrives, and serves all users. Does not know lengths of texts and batches (`TextEncoder` does).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.text.encoder import TextEncoder
from encoders.text.fit import count_dropped
from encoders.text.vector_store import StoredEncoder, identity
from ranker.score import ScoreRequest
from ranker.scorers.vector_cache import VectorCache

CACHE_BYTES = 256 * 2**20
"""About 140,000 texts of MiniLM."""
EVENT_DECAY = np.float32(0.8)
"""An event's weight relative to the next newer one. Chosen by us: of .7 to 1 it was the best, or equally good, on a
generated shop and on Online Retail. There a half-life of the age on top (an hour to 100 days) and another weight of
purchases (.5, 2) changed NDCG@10 by less than its error; the features of a head have means that decay by age."""
MAX_EVENTS = 64
"""Events that count, the newest; an older one would weigh less than a millionth."""


class BiEncoder:
    """Cosine of event and candidate by an embedding model, averaged over the events; see `Scorer` for the contract.

    With the events from the newest, k = 0, to the oldest, and g = `EVENT_DECAY`,
    `score(c) = sum_k g^k cos(event_k, c) / sum_k g^k`: -1 to 1, and 0 where there is no event. The plain form is
    `tests.references.bi_encoder`. Events are embedded one by one because the vector of a whole history is near to no
    item: on a generated shop it ranked worse, and no part of it can be cached.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    cache_bytes : int
        Memory for vectors of items and events; the least recently used are dropped.
    """

    feature_set = None
    reads_events = True

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", cache_bytes: int = CACHE_BYTES) -> None:
        self._encoder = TextEncoder(model, device, dtype)
        self._cache = VectorCache(self._encoder.dim, cache_bytes)
        self._on_disk: tuple[StoredEncoder, StoredEncoder] | None = None
        self.name = model
        self.dim = self._encoder.dim
        self.tokens = self._encoder.tokens
        self.placement = self._encoder.placement
        self.usage = self._encoder.usage

    def keep_vectors(self, path: Path) -> None:
        """Read vectors that are not cached from a file, and write new ones there: a restart encodes nothing again.

        Parameters
        ----------
        path : Path
            See `StoredEncoder`. The vectors of items are those that a worker's encoder of this model stores.
        """
        model = identity(self.name, self.placement.dtype)
        events = _EventEncoder(self._encoder)
        self._on_disk = StoredEncoder(self._encoder, model, path), StoredEncoder(events, f"{model} events", path)

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        histories = [self._newest(request.event_texts()) if request.candidates else [] for request in requests]
        texts = list(chain.from_iterable(request.candidates for request in requests))
        events = [self._event_key(text) for history in histories for text in history]
        self.usage.requests += len(requests)
        self.usage.candidates += len(texts)
        self._count_cached([*texts, *events])
        item_vectors, event_vectors = self._items(texts), self._events(events)
        scores, first_item, first_event = [], 0, 0
        for request, history in zip(requests, histories, strict=True):
            end_item, end_event = first_item + len(request.candidates), first_event + len(history)
            of_items, of_events = item_vectors[first_item:end_item], event_vectors[first_event:end_event]
            scores.append(_mean_cosines(of_events, of_items))
            first_item, first_event = end_item, end_event
        return scores

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed items' texts as `TextEncoder.encode` does, and cache the vectors for when they are candidates."""
        return self._items(texts)

    def encode_events(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed what users say, as `TextEncoder.encode_events` does; nothing is cached."""
        return self._encoder.encode_events(texts)

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """See `Scorer.prepare`: caches the vectors."""
        self._items(texts)
        self._events([self._event_key(text) for text in events])

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: the cached texts are those of items, which belong to no user."""

    def _newest(self, events: Sequence[str]) -> Sequence[str]:
        if len(events) <= MAX_EVENTS:
            return events
        count_dropped(events, MAX_EVENTS, self._encoder.tokens, self.usage)
        return events[-MAX_EVENTS:]

    def _event_key(self, text: str) -> str:
        """The text under which the vector of an event is cached: the item's own if the model reads both alike."""
        return text if self._encoder.reads_events_as_items else _EVENT + text

    def _items(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._cache.vectors(texts, self._encode)

    def _events(self, keys: Sequence[str]) -> NDArray[np.float32]:
        return self._cache.vectors(
            keys, lambda new: self._encode([key.removeprefix(_EVENT) for key in new], are_events=True)
        )

    def _encode(self, texts: Sequence[str], are_events: bool = False) -> NDArray[np.float32]:
        """Compute vectors, or read them from disk."""
        if self._on_disk is None:
            return self._encoder.encode_events(texts) if are_events else self._encoder.encode(texts)
        encoder = self._on_disk[are_events and not self._encoder.reads_events_as_items]
        read, computed = encoder.hits, encoder.misses
        vectors = encoder.encode(texts)
        self.usage.vectors_read += encoder.hits - read
        self.usage.vectors_computed += encoder.misses - computed
        return vectors

    def _count_cached(self, keys: Sequence[str]) -> None:
        misses = self._cache.missing(keys)
        self.usage.vector_hits += len(keys) - misses
        self.usage.vector_misses += misses


class _EventEncoder:
    """The encoder of events' texts."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.dim = encoder.dim
        self.encode = self.encode_events = encoder.encode_events


def _mean_cosines(events: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each item's weighted mean cosine with the events, which are newest last: (len(items),) float32."""
    if not len(events):
        return np.zeros(len(items), np.float32)
    weights = _DECAYS[MAX_EVENTS - len(events) :]
    mean: NDArray[np.float32] = weights @ events / weights.sum()
    return items @ mean


_EVENT = "\n"
"""Before the text of an event that has another vector than the item: no text begins so."""
_DECAYS = EVENT_DECAY ** np.arange(MAX_EVENTS, dtype=np.float32)[::-1]
