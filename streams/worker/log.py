"""The log: lines on stderr, and no flood of them, whatever comes in. The command line calls `set_up`."""

from __future__ import annotations

import logging
import sys
import time

from streams.kafka import outage
from streams.settings import Settings, service_links

logger = logging.getLogger(__name__)

BURST = 10
"""Lines of one kind that go out in a row; chosen by us: enough to see a pattern."""
EVERY_S = 10.0
"""Each kind gets so many again after this time, and says how many it left out."""
MOST_KINDS = 1_000


class RateLimit(logging.Filter):
    """Let `BURST` lines of a kind pass in `EVERY_S`. A kind is what one call in the code says, whatever it fills in."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str, int], list[float]] = {}  # since when, how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line goes out."""
        now, kind = time.monotonic(), (record.name, record.pathname, record.lineno)
        since, count = self._kinds.get(kind, (now, 0))
        left_out = 0
        if now - since >= EVERY_S:
            since, count, left_out = now, 0, max(0, int(count) - BURST)
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind] = [since, count + 1]
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", None
        return count < BURST


def set_up(settings: Settings) -> None:
    """Log to stderr as the settings say; libraries only what is wrong, unless all is asked for."""
    level = settings.log_level.upper()
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("faust", "mode", "aiokafka", "streams.faust_compat"):
        logging.getLogger(chatty).setLevel("DEBUG" if level == "DEBUG" else "WARNING")
    for handler in logging.getLogger().handlers:
        handler.addFilter(outage.Quiet(outage.kafka, keep=level == "DEBUG"))
        if level != "DEBUG":
            handler.addFilter(RateLimit())
    if ignored := service_links():
        logger.debug("no settings of ours, for an orchestrator made them: %s", ", ".join(sorted(ignored)))
