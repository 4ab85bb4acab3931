"""What becomes of a message that cannot be accepted: counted, told of, and kept as a dead letter.

Called by both workers; `dead_letters` shows them and sends them back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from streams import metrics
from streams.kafka.message_size import outgoing_letter
from streams.kafka.outgoing import Outgoing
from streams.receive.message import BadMessage, Message
from streams.settings import Settings

logger = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two lines that sum up what was rejected meanwhile; chosen by us."""
MOST_TOLD = 5
"""Causes of one line; the rest is a number."""


class Summary:
    """Tell of the first rejection at once, and of all that follow in one line every `EVERY_S` seconds.

    The lines say where a message lies and what is wrong with it, not what it holds: that may be private.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None  # that will tell of what is counted

    def add(self, message: Message, cause: str) -> None:
        """A message was rejected; outside an event loop each is told of by itself."""
        loop = _running_loop()
        if loop is not None and loop is self._loop:
            self._counts[f"{message.topic}: {cause}"] += 1
            return
        logger.warning("rejected %s/%d/%d: %s", message.topic, message.partition, message.offset, cause)
        self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        if loop is not None:
            loop.call_later(EVERY_S, self._tell)

    def _tell(self) -> None:
        loop, self._loop = self._loop, None
        if self._counts:
            logger.warning("rejected %s more: %s", f"{self._counts.total():,}", told(self._counts))
            self._counts.clear()
            self._wait(loop)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def told(counts: Counter[str]) -> str:
    """Put counts by cause into one line, the largest first.

    >>> told(Counter({"title missing": 4812, "brand: Expected str, got array": 3}))
    'title missing (4,812), brand: Expected str, got array (3)'
    """
    parts = [f"{cause} ({count:,})" for cause, count in counts.most_common(MOST_TOLD)]
    left = counts.total() - sum(count for _, count in counts.most_common(MOST_TOLD))
    return ", ".join([*parts, f"others ({left:,})"] if left else parts)


_summary = Summary()


def rejected(settings: Settings, message: Message, error: BadMessage) -> Outgoing:
    """Give the dead letter to send."""
    metrics.dead_letters.labels(message.topic, error.reason).inc()
    _summary.add(message, error.cause)
    return outgoing_letter(settings.topic("dead-letters"), message.dead_letter(str(error), error.cause))
