"""Reject a message: count it, log it, and make its dead letter."""

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
"""Seconds between two lines that sum up rejections; chosen by us."""
CAUSES_IN_A_LINE = 5
"""The other causes are summed up in a number."""


class Summary:
    """Logs the first rejection at once, and those that follow in one line every `EVERY_S` seconds.

    A line says where a message lies and what is wrong with it. It leaves out the content, which may be private.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None  # that will log the counts

    def add(self, message: Message, cause: str) -> None:
        """Note a rejected message. Outside an event loop each one is logged by itself."""
        loop = _running_loop()
        if loop is not None and loop is self._loop:
            self._counts[f"{message.topic}: {cause}"] += 1
            return
        logger.warning("rejected %s/%d/%d: %s", message.topic, message.partition, message.offset, cause)
        self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        if loop is not None:
            loop.call_later(EVERY_S, self._log)

    def _log(self) -> None:
        loop, self._loop = self._loop, None
        if self._counts:
            logger.warning("rejected %s more: %s", f"{self._counts.total():,}", summary(self._counts))
            self._counts.clear()
            self._wait(loop)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def summary(counts: Counter[str]) -> str:
    """Return counts by cause in one line, the largest first.

    >>> summary(Counter({"title missing": 4812, "brand: Expected str, got array": 3}))
    'title missing (4,812), brand: Expected str, got array (3)'
    """
    parts = [f"{cause} ({count:,})" for cause, count in counts.most_common(CAUSES_IN_A_LINE)]
    left = counts.total() - sum(count for _, count in counts.most_common(CAUSES_IN_A_LINE))
    return ", ".join([*parts, f"others ({left:,})"] if left else parts)


_summary = Summary()


def rejected(settings: Settings, message: Message, error: BadMessage) -> Outgoing:
    """Count and log a rejected message, and return its dead letter."""
    metrics.dead_letters.labels(message.topic, error.reason).inc()
    _summary.add(message, error.cause)
    return outgoing_letter(settings.topic("dead-letters"), message.dead_letter(str(error), error.cause))
