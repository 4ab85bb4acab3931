"""Whether producers send many events twice, or give several events one id: a gauge, a line in the log, a check.

A shop that gives several events the same id loses all but the first of them, and no dead letter shows it. So the share
of repeats is watched. Only messages that a producer wrote after this worker got its partitions are looked at (by their
time in Kafka): an older one may be read a second time for a good reason, after a crash, a rebalance, or offsets that
were set back. Knows no Kafka.
"""

from __future__ import annotations

import logging
import time

from streams import metrics

logger = logging.getLogger(__name__)

WINDOW = 1_000
"""Events that the share is taken over, up to twice as many; chosen by us."""
MANY = 0.05
LEAST = 5
"""Repeats below which their share means nothing: a producer that sent again after an error is no fault."""
SAY_EVERY_S = 600.0
ADVICE = "give each event an event_id of its own: it has to be unique for a user, an item and a topic"


class Repeats:
    """The share of repeats among the latest events of this worker."""

    def __init__(self) -> None:
        self._said_s = -SAY_EVERY_S
        self.begin()

    def begin(self) -> None:
        """Count anew: other workers may have taken in what was written until now."""
        self._since_ms = time.time() * 1000
        self._events = self._repeats = 0
        self._events_before = self._repeats_before = 0

    def note(self, written_ms: int, is_repeat: bool) -> None:
        """Count an event that was written to Kafka at this time."""
        if written_ms < self._since_ms:
            return
        if self._events == WINDOW:
            self._events_before, self._repeats_before = self._events, self._repeats
            self._events = self._repeats = 0
        self._events += 1
        self._repeats += is_repeat

    def publish(self) -> None:
        """Set the gauge, and write a line to the log if there are too many; at most one in ten minutes."""
        repeats, events = self._repeats + self._repeats_before, self._events + self._events_before
        share = repeats / events if repeats >= LEAST else 0.0
        metrics.duplicates_ratio.set(share)
        if share > MANY and time.monotonic() - self._said_s > SAY_EVERY_S:
            self._said_s = time.monotonic()
            logger.warning(
                "%d of the last %d clicks and purchases are repeats and do not count; expected at most %.0f%%: %s",
                repeats,
                events,
                100 * MANY,
                ADVICE,
            )
