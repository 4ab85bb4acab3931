"""The log and the metric of what Redis refuses: each one is counted, each reason is logged once.

A Redis that is away is one line for all kinds of work. Sends no command.
"""

from __future__ import annotations

import logging
import time

from streams import metrics
from streams.kafka.outage import Outage
from streams.publish.redis_refusal import REASONS, SINGLE_KEY, Refusal

logger = logging.getLogger(__name__)

QUIET_S = 30.0
"""A reason that was absent for this long is logged again; chosen by us."""

metrics.from_zero(metrics.cache_refusals, REASONS)


class CacheErrors:
    """The refusals of one kind of work.

    Parameters
    ----------
    failure : str
        What Redis does not do, as it follows "Redis" in the log.
    consequence : str
        What happens until Redis does it again, for the log.
    outage : Outage
        Of this Redis; shared by all kinds of work on it.
    """

    def __init__(self, failure: str, consequence: str, outage: Outage) -> None:
        self._outage = outage
        self._failure = failure
        self._consequence = consequence
        self._seen_s: dict[str, float] = {}  # reason -> monotonic time
        self._logged = False

    def note(self, refusal: Refusal) -> None:
        """Count a refusal, and log it if its reason is new."""
        metrics.cache_refusals.labels(refusal.reason).inc()
        if refusal.reason == "away":
            self._outage.seen(refusal.text, lasts_s=0)
            return
        now_s = time.monotonic()
        if now_s - self._seen_s.get(refusal.reason, float("-inf")) > QUIET_S:
            logger.warning("Redis %s (%s); %s", self._failure, refusal.text, self._consequence)
            self._logged |= refusal.reason not in SINGLE_KEY
        self._seen_s[refusal.reason] = now_s

    def resolved(self) -> None:
        """Log that Redis works again, if it was logged that it does not."""
        self._outage.back(calm_s=0)
        if self._logged:
            logger.info("Redis %s: resolved", self._failure)
        self._logged = False
