"""A log that nothing floods: of lines made from one template only so many in a while, and how many there were more.

While Kafka is away its client alone writes over a thousand lines a second, all alike. Set up by the command line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

WINDOW_S = 10.0
MOST = 10
"""Lines of one template in a window; chosen by us: a rebalance says the same of a few partitions."""
MOST_TEMPLATES = 1_000
"""A text made beforehand is a template of its own; past so many all begin anew."""


class Sparing(logging.Filter):
    """Keeps back what repeats itself; the first line of the next window says how much that was.

    >>> spare = Sparing(clock=lambda: 0.0)
    >>> record = lambda: logging.LogRecord("kafka", logging.ERROR, "", 0, "no node %d", (1,), None)
    >>> sum(spare.filter(record()) for _ in range(500))
    10
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.name, record.levelno, str(record.msg)
        since, count = self._seen.get(kind, (float("-inf"), 0))
        now = self._clock()
        if now - since >= WINDOW_S:
            if count > MOST:
                record.msg = f"{record.msg} (and {count - MOST} lines like this were kept back)"
            since, count = now, 0
        if len(self._seen) >= MOST_TEMPLATES:
            self._seen.clear()
        self._seen[kind] = since, count + 1
        return count < MOST
