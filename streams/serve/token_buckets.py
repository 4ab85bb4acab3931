"""Token buckets: how many requests a client may make. Knows no HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from cachetools import LRUCache

MAX_CLIENTS = 10_000
"""Buckets in memory; chosen by us: 2 MB. One that is dropped was not used for the longest time, and is full again."""


class TokenBuckets:
    """One bucket for each key. A bucket holds a second's requests, and fills at the rate.

    Parameters
    ----------
    rate_per_s : float
        Requests per second; 0 for no limit.
    clock : callable
        Returns monotonic seconds.

    >>> limit = TokenBuckets(2.0, clock=lambda: 0.0)
    >>> [limit.wait_s("ann") for _ in range(3)]
    [0.0, 0.0, 0.5]
    """

    def __init__(self, rate_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._size = max(1.0, rate_per_s)
        self._clock = clock
        self._buckets: LRUCache[Hashable, tuple[float, float]] = LRUCache(MAX_CLIENTS)  # tokens, at which time

    def wait_s(self, key: Hashable) -> float:
        """Take one request from the bucket; return 0, or how many seconds to wait if it is empty."""
        if not self._rate_per_s:
            return 0.0
        now_s = self._clock()
        tokens, at_s = self._buckets.get(key, (self._size, now_s))
        tokens = min(self._size, tokens + (now_s - at_s) * self._rate_per_s)
        allowed = tokens >= 1.0
        self._buckets[key] = (tokens - allowed, now_s)
        return 0.0 if allowed else (1.0 - tokens) / self._rate_per_s
