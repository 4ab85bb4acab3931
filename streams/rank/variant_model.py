"""One variant's model at work: its deadline, its fallbacks and its pace.

Whatever the model does, each request gets a list: if the model fails, takes too long or still works on a call that took
too long, the lists keep the order of retrieval and say so. Knows no Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor

from streams import metrics
from streams.contracts import RankRequest, Recommendations
from streams.kafka.record_time import now_ms
from streams.rank.request_queue import PendingRequest
from streams.rank.tier import RankTier
from streams.settings import RankerSettings

logger = logging.getLogger(__name__)


class VariantModel:
    """Ranks batches of one variant's users.

    Parameters
    ----------
    tier : RankTier
        Has the scorer.
    variant : int
        The variant's number in the tier.
    threads : Executor
        The model works on these, outside the event loop.
    settings : Ranker
        `timeout_ms`, `max_wait_ms` and `batch_lists` are used.
    """

    def __init__(self, tier: RankTier, variant: int, threads: Executor, settings: RankerSettings) -> None:
        self._tier = tier
        self._variant = variant
        self._threads = threads
        self._settings = settings
        self._overdue: asyncio.Future[list[Recommendations]] | None = None  # a call that its batch did not wait for
        self._free_since_s = 0.0  # when the latest batch was done
        self._lists_per_s = 0.0  # a moving average

    def batch_limit(self) -> int:
        """How many lists the next batch may have.

        A batch may take half of the longest wait: a large batch on a slow model would make all its requests overdue.
        """
        if not self._lists_per_s:
            return self._settings.batch_lists
        in_time = int(self._lists_per_s * self._settings.max_wait_ms / 2000)
        return min(self._settings.batch_lists, max(1, in_time))

    async def rank(self, batch: Sequence[PendingRequest]) -> list[Recommendations]:
        """Rank a batch and note the pace. Users who are to be forgotten get no list."""
        started_s = time.monotonic()
        lists = await self._lists(batch)
        now_s = time.monotonic()
        per_s = len(batch) / (now_s - max(started_s, self._free_since_s))
        self._lists_per_s = (self._lists_per_s + per_s) / 2 if self._lists_per_s else per_s
        self._free_since_s = now_s
        return lists

    async def _lists(self, batch: Sequence[PendingRequest]) -> list[Recommendations]:
        requests = [pending.request for pending in batch if pending.request is not None]
        at_ms = now_ms()
        if not requests:
            return []
        if self._overdue is not None and not self._overdue.done():
            return self._tier.rank_without_model(requests, "model-busy", at_ms)
        queue_seconds = metrics.queue_seconds.labels(self._tier.model(self._variant))
        for pending in batch:
            queue_seconds.observe(time.monotonic() - pending.since_s)
        return await self._call_model(requests, at_ms)

    async def _call_model(self, requests: Sequence[RankRequest], at_ms: int) -> list[Recommendations]:
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._tier.rank, requests, at_ms)
        try:
            return await asyncio.wait_for(asyncio.shield(call), self._settings.timeout_ms / 1000)
        except asyncio.TimeoutError:
            self._overdue = call
            logger.error("the model took over %d ms; the lists keep the order of retrieval", self._settings.timeout_ms)
            return self._tier.rank_without_model(requests, "model-timeout", at_ms)
        except Exception as error:  # whatever a model raises, its users still get a list
            logger.exception("the model failed (%r); the lists keep the order of retrieval", error)
            return self._tier.rank_without_model(requests, "model-error", at_ms)
