"""How long a call of a model takes: an overhead, and a time for each list. Knows no model.

A small batch says little of a large one. On a busy machine a call of one list may take 200 ms and one of eight 260 ms.
From the lists per second alone, batches that have become small would stay small.
"""

from __future__ import annotations

DECAY = 0.75
"""Weight of a call at the next call."""
ASSUMED_VARIANCE = 0.1
"""Weight of the assumption that the overhead is the time of one list, as a variance of the sizes (lists squared)."""
OVERHEAD_SHARE = 0.2
"""In a batch that is worth its call, the overhead takes no more of the time."""


class CallTime:
    """Least squares over the recent calls of one model."""

    def __init__(self) -> None:
        self._weight = self._lists = self._seconds = self._lists2 = self._products = 0.0

    def __bool__(self) -> bool:
        return self._weight > 0

    def note(self, lists: int, seconds: float) -> None:
        """Learn from a call."""
        self._weight = DECAY * self._weight + 1
        self._lists = DECAY * self._lists + lists
        self._seconds = DECAY * self._seconds + seconds
        self._lists2 = DECAY * self._lists2 + lists**2
        self._products = DECAY * self._products + lists * seconds

    def fit(self) -> tuple[float, float]:
        """Return the overhead of a call and the time of a list (both in seconds), after at least one call."""
        lists, seconds = self._lists / self._weight, self._seconds / self._weight
        variance = self._lists2 / self._weight - lists**2
        covariance = self._products / self._weight - lists * seconds
        alike = seconds / (lists + 1)  # the time of a list, if the overhead is as much
        list_s = (covariance + ASSUMED_VARIANCE * alike) / (max(0.0, variance) + ASSUMED_VARIANCE)
        list_s = min(max(list_s, alike / 2), seconds / lists)  # calls vary; a fit must not promise too much
        return seconds - lists * list_s, list_s

    def lists_in(self, seconds: float) -> float:
        """How many lists a call of this length has."""
        overhead_s, list_s = self.fit()
        return (seconds - overhead_s) / list_s

    def worthwhile(self) -> float:
        """How many lists a call has to have, for the overhead to be only its `OVERHEAD_SHARE`."""
        overhead_s, list_s = self.fit()
        return overhead_s / list_s * (1 / OVERHEAD_SHARE - 1)
