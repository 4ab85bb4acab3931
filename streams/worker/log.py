"""The log: lines on stderr, with a limit on repeated lines."""

from __future__ import annotations

import logging
import sys
import time

from streams.kafka import outage
from streams.settings import Settings, service_links

logger = logging.getLogger(__name__)

BURST = 10
"""Lines of one kind that are logged in a row; chosen by us: enough to see a pattern."""
EVERY_S = 10.0
"""After this time, in seconds, `BURST` lines of a kind are logged again. The first says how many were left out."""
MAX_KINDS = 1_000


class RateLimit(logging.Filter):
    """Let `BURST` lines of a kind pass in `EVERY_S`. All lines of one call in the code are of one kind."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str, int], list[float]] = {}  # kind -> start of its time window, lines in it

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        now, kind = time.monotonic(), (record.name, record.pathname, record.lineno)
        since, count = self._kinds.get(kind, (now, 0))
        left_out = 0
        if now - since >= EVERY_S:
            since, count, left_out = now, 0, max(0, int(count) - BURST)
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = [since, count + 1]
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", None
        return count < BURST


def set_up(settings: Settings) -> None:
    """Log to stderr at the settings' level; libraries log only warnings and errors, unless that level is debug."""
    level = settings.log_level.upper()
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("faust", "mode", "aiokafka", "streams.faust_compat"):
        logging.getLogger(chatty).setLevel("DEBUG" if level == "DEBUG" else "WARNING")
    for handler in logging.getLogger().handlers:
        handler.addFilter(outage.Quiet(outage.kafka, keep=level == "DEBUG"))
        if level != "DEBUG":
            handler.addFilter(RateLimit())
    if ignored := service_links():
        logger.debug("ignored variables, which an orchestrator made for its services: %s", ", ".join(sorted(ignored)))
