"""What keeps Redis from its work: each refusal counted, each reason told once. Knows no command."""

from __future__ import annotations

import logging
import time

from streams import metrics
from streams.publish.redis_refusal import OWN, REASONS, Refusal

logger = logging.getLogger(__name__)

QUIET_S = 30.0
"""A reason that was not seen for so long is told again."""

metrics.from_zero(metrics.cache_refusals, REASONS)


class Trouble:
    """The refusals of one kind of work.

    Parameters
    ----------
    what, meanwhile : "Redis …" and what follows from it, for the log.
    """

    def __init__(self, what: str, meanwhile: str) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._seen_s: dict[str, float] = {}
        self._told = False

    def note(self, refusal: Refusal) -> None:
        metrics.cache_refusals.labels(refusal.reason).inc()
        now_s = time.monotonic()
        if now_s - self._seen_s.get(refusal.reason, float("-inf")) > QUIET_S:
            logger.warning("Redis %s (%s); %s", self._what, refusal.text, self._meanwhile)
            self._told |= refusal.reason not in OWN
        self._seen_s[refusal.reason] = now_s

    def over(self) -> None:
        """All is well again: told if the trouble was."""
        if self._told:
            logger.info("Redis %s: that is over", self._what)
        self._told = False
