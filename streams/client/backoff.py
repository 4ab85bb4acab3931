"""Waits between attempts: exponential, with jitter, within one time limit. Knows nothing of what is attempted."""

from __future__ import annotations

import asyncio
import random
import time

FIRST_S, LONGEST_S = 0.1, 2.0
"""The first and the longest wait; chosen by us: a broker's restart takes seconds, a lost connection milliseconds."""
ATTEMPTS = 3
"""How often a call can be tried within its time limit if a server takes a request and never answers; chosen by us."""


class Backoff:
    """The waits of one call.

    Parameters
    ----------
    limit_s : float
        The whole call ends after this time.
    """

    def __init__(self, limit_s: float) -> None:
        self._end_s = time.monotonic() + limit_s
        self._wait_s = FIRST_S

    @property
    def left_s(self) -> float:
        """The time that is left, in seconds; at least 0."""
        return max(0.0, self._end_s - time.monotonic())

    async def wait(self, at_least_s: float = 0.0) -> bool:
        """Wait before the next attempt. Return False at once if the time limit ends before the wait does."""
        wait_s = max(at_least_s, self._wait_s * random.uniform(0.5, 1.0))
        self._wait_s = min(LONGEST_S, self._wait_s * 2)
        if wait_s >= self.left_s:
            return False
        await asyncio.sleep(wait_s)
        return True
