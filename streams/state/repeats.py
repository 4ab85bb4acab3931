"""The share of repeated events: a gauge, and a warning in the log when the share is high.

If a producer gives several events the same id, all but the first do not count, and no dead letter shows it. So the
share of repeats is watched. It covers only events whose records were written after this worker got its partitions. An
older record may be read again for a good reason: a crash, a rebalance, or offsets that were reset. Knows no Kafka.
"""

from __future__ import annotations

import logging
import time

from streams import metrics

logger = logging.getLogger(__name__)

WINDOW = 1_000
"""The share is taken over the latest 1,000 to 2,000 events; chosen by us."""
MANY = 0.05
LEAST = 5
"""With fewer repeats the share is 0, because a producer may send an event again after an error."""
WARN_EVERY_S = 600.0
ADVICE = "give each event an event_id of its own: it has to be unique for a user, an item and a topic"


class Repeats:
    """The share of repeats among the latest events of this worker."""

    def __init__(self) -> None:
        self._warned_s = -WARN_EVERY_S
        self.begin()

    def begin(self) -> None:
        """Count anew: other workers may have accepted the events that were written until now."""
        self._since_ms = time.time() * 1000
        self._events = self._repeats = 0
        self._events_before = self._repeats_before = 0

    def note(self, written_ms: int, is_repeat: bool) -> None:
        """Count an event whose record was written at this time (milliseconds)."""
        if written_ms < self._since_ms:
            return
        if self._events == WINDOW:
            self._events_before, self._repeats_before = self._events, self._repeats
            self._events = self._repeats = 0
        self._events += 1
        self._repeats += is_repeat

    def publish(self) -> None:
        """Set the gauge, and log a warning if the share is too high; at most one warning in ten minutes."""
        repeats, events = self._repeats + self._repeats_before, self._events + self._events_before
        share = repeats / events if repeats >= LEAST else 0.0
        metrics.duplicates_ratio.set(share)
        if share > MANY and time.monotonic() - self._warned_s > WARN_EVERY_S:
            self._warned_s = time.monotonic()
            logger.warning(
                "%d of the last %d clicks and purchases are repeats and do not count; expected at most %.0f%%: %s",
                repeats,
                events,
                100 * MANY,
                ADVICE,
            )
