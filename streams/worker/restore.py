"""Report how far a worker is in restoring its users' states from the changelog: a metric, and a line every few seconds.

Faust restores; this only looks.
"""

from __future__ import annotations

import asyncio
import logging
import time

import faust

from streams import metrics
from streams.faust_compat.app import records_to_restore

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
LOG_EVERY_S = 10.0


async def watch_restore(app: faust.App) -> None:
    """Watch for ever, from before the first restore on."""
    started_s, logged_s, total = 0.0, 0.0, 0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        left = records_to_restore(app)
        metrics.restore_remaining.set(left)
        now_s = time.monotonic()
        if left > 0 and not total:
            started_s, logged_s, total = now_s, now_s, left
        if total and not left:
            if logged_s > started_s:
                logger.info("restored %d state records in %.0f s", total, now_s - started_s)
            total = 0
        elif left > 0 and now_s - logged_s > LOG_EVERY_S:
            logged_s, per_s = now_s, (total - left) / (now_s - started_s)
            rest = f"about {left / per_s:.0f} s to go" if per_s > 0 else "waiting for Kafka"
            logger.info("restored %d of %d state records (%.0f a second, %s)", total - left, total, per_s, rest)
