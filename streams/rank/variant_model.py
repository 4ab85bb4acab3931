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
from concurrent.futures.process import BrokenProcessPool

from streams import metrics
from streams.contracts import RankRequest, Recommendations
from streams.kafka.record_time import now_ms
from streams.rank.call_time import CallTime
from streams.rank.request_queue import PendingRequest
from streams.rank.tier import RankTier
from streams.settings import RankerSettings

logger = logging.getLogger(__name__)

SHORT_S = 0.1
"""How long a batch of lists to be ranked again should take; chosen by us."""
AHEAD_S = 2.0
"""The model's work that is on its way through the state tier and back; chosen by us: more than that takes."""


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
        self._calls = CallTime()

    def batch_limit(self) -> int:
        """How many lists the next batch may have.

        A batch may take half of the longest wait: a large batch on a slow model would make all its requests overdue.
        """
        return self._limit(self._calls.lists_in(self._half_wait_s) if self._calls else self._settings.batch_lists)

    def short_limit(self) -> int:
        """How many lists the next batch may have if nobody waits for them: who comes meanwhile waits for the batch."""
        if not self._calls:
            return 1
        return min(self.batch_limit(), self._limit(max(self._calls.lists_in(SHORT_S), self._calls.worthwhile())))

    def ahead(self) -> int:
        """How many lists in short batches should be on their way to the model, so that it always has the next batch."""
        if not self._calls:
            return 1
        lists = self.short_limit()
        overhead_s, list_s = self._calls.fit()
        return max(2 * lists, round(lists * min(AHEAD_S, self._half_wait_s) / (overhead_s + lists * list_s)))

    @property
    def _half_wait_s(self) -> float:
        return self._settings.max_wait_ms / 2000

    def _limit(self, lists: float) -> int:
        return min(self._settings.batch_lists, max(1, int(lists)))

    async def rank(self, batch: Sequence[PendingRequest]) -> list[Recommendations]:
        """Rank a batch and note the pace. Users who are to be forgotten get no list."""
        requests = [pending.request for pending in batch if pending.request is not None]
        if not requests:
            return []
        queue_seconds = metrics.queue_seconds.labels(self._tier.model(self._variant))
        for pending in batch:
            if not (pending.again or pending.later):
                queue_seconds.observe(time.monotonic() - pending.since_s)
        if self._overdue is not None and not self._overdue.done():
            return self._tier.rank_without_model(requests, "model-busy", now_ms())
        started_s = time.monotonic()
        lists = await self._call_model(requests, now_ms())
        now_s = time.monotonic()
        self._calls.note(len(requests), now_s - max(started_s, self._free_since_s))
        self._free_since_s = now_s
        return lists

    async def _call_model(self, requests: Sequence[RankRequest], at_ms: int) -> list[Recommendations]:
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._tier.rank, requests, at_ms)
        try:
            return await asyncio.wait_for(asyncio.shield(call), self._settings.timeout_ms / 1000)
        except asyncio.TimeoutError:
            self._overdue = call
            logger.error("the model took over %d ms; the lists keep the order of retrieval", self._settings.timeout_ms)
            return self._tier.rank_without_model(requests, "model-timeout", at_ms)
        except BrokenProcessPool:  # the client of the models' process has logged it
            return self._tier.rank_without_model(requests, "model-error", at_ms)
        except Exception as error:  # whatever a model raises, its users still get a list
            logger.exception("the model failed (%r); the lists keep the order of retrieval", error)
            return self._tier.rank_without_model(requests, "model-error", at_ms)
