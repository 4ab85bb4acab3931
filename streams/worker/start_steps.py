"""When each step of a worker's start ended, from the start of its process."""

from __future__ import annotations

import os
import time
from pathlib import Path

from streams import metrics

_STAT = Path("/proc/self/stat")
_STARTED_AT = 19
"""The index of `starttime` among the fields after the command's name, which may hold blanks: see proc_pid_stat(5)."""


class StartSteps:
    """The steps of one process. Every step but the last may be noted again, by another tier: the later end counts."""

    def __init__(self) -> None:
        self._began_s = _began_s()
        self._ended = False

    def end(self, step: str, at_s: float | None = None) -> None:
        """Note the end of a step; after `finish` nothing is noted.

        Parameters
        ----------
        step : str
        at_s : float, optional
            When it ended, by the monotonic clock; by default now.
        """
        if not self._ended:
            metrics.start_seconds.labels(step).set((time.monotonic() if at_s is None else at_s) - self._began_s)

    def age_s(self) -> float:
        """Return how long ago this process started, in seconds."""
        return time.monotonic() - self._began_s

    def finish(self) -> None:
        """Note that the worker is ready for the first time."""
        self.end("ready")
        self._ended = True


def _began_s() -> float:
    """When this process started, by the monotonic clock; Linux knows it to a hundredth of a second."""
    fields = _STAT.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[_STARTED_AT]) / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - age_s


steps = StartSteps()
