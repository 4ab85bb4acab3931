"""Say how far a worker is in restoring its users' states from the changelog: a metric, and a line every few seconds.

Faust restores; this only looks. Called by `worker`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import faust

from streams import metrics

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
SAY_EVERY_S = 5.0


async def watch_restore(app: faust.App) -> None:
    """Run for ever, from the first assignment on: Faust starts an app's own tasks only when all is restored."""
    tables: Any = app.tables
    recovery = tables.recovery
    begun_s, said_s, total = 0.0, 0.0, 0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        left = recovery.active_remaining_total() if recovery.in_recovery else 0
        metrics.restore_remaining.set(left)
        now_s = time.monotonic()
        if left > 0 and not total:
            begun_s, said_s, total = now_s, now_s, left
        if total and not left:
            if said_s > begun_s:
                logger.info("restored %d state records in %.0f s", total, now_s - begun_s)
            total = 0
        elif left > 0 and now_s - said_s > SAY_EVERY_S:
            said_s, per_s = now_s, (total - left) / (now_s - begun_s)
            rest = f"about {left / per_s:.0f} s to go" if per_s > 0 else "waiting for Kafka"
            logger.info("restored %d of %d state records (%.0f a second, %s)", total - left, total, per_s, rest)
