"""Which cases of a log are asked where there is no time for all of them: evenly fewer, so that the newest are there.

A log is read in the order of time. Who asks case by case until the time is over lacks the newest ones, which tell most
of what users will choose next. So each case is taken or passed over by what the rest of the log costs, as measured so
far. Knows no pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from ranker.evaluation.protocols import Case

MEASURED_CASES = 20
"""Asked before anything is passed over."""
RECENT_CASES = 200
"""A case costs what about so many of the last ones did: the more of the log is read, the more a case costs."""
OUTLIER = 10.0
"""Times that mean: a case that took longer also paid for a learnt source, which places all items when first asked."""
MARGIN = 1.25
"""By which the rest costs more than measured; chosen by us. Time that is left in the end goes to the last cases."""


class CasePace:
    """Gives the cases for which there is time.

    Parameters
    ----------
    cases : sequence of Case
        In the order of the log.
    deadline : float
        Seconds of the clock. After it no case is given.
    clock : callable
        Seconds.
    """

    def __init__(self, cases: Sequence[Case], deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cases, self._deadline, self._clock = cases, deadline, clock
        self._asked, self._asking_s, self._recent_s = 0, 0.0, 0.0
        self._read = 0  # events of the log

    def __iter__(self) -> Iterator[Case]:
        """Give the cases; between two of them, `note` is called."""
        begun_s, credit = self._clock(), 0.0
        for number, case in enumerate(self._cases):
            now_s = self._clock()
            if self._asked and now_s > self._deadline:
                return
            credit += self._share(len(self._cases) - number, begun_s, now_s)
            if credit >= 1:
                credit, self._read = credit - 1, case.log_index
                yield case

    def note(self, seconds: float) -> None:
        """Note what the last case took, beside reading the log."""
        self._asked += 1
        self._asking_s += seconds
        if self._asked > MEASURED_CASES:
            seconds = min(seconds, OUTLIER * self._recent_s)
        self._recent_s += (seconds - self._recent_s) / min(self._asked, RECENT_CASES)

    def _share(self, cases: int, begun_s: float, now_s: float) -> float:
        """Which share of so many cases, the rest, there is time for."""
        if self._asked < MEASURED_CASES:
            return 1.0
        reading_s = (now_s - begun_s - self._asking_s) / max(1, self._read)
        left_s = (self._deadline - now_s) / MARGIN - reading_s * (self._cases[-1].log_index - self._read)
        return min(1.0, max(0.0, left_s / max(1e-9, self._recent_s * cases)))
