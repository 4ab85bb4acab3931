"""When a batch of requests is ranked, and how large it is.

There is no timer, after Text Embeddings Inference's batcher: while the model works, requests gather, and what has
gathered is the next batch. A full batch is handed to the model while it still works on the previous one, so that the
model never waits. Requests that have been waiting too long get a list without the model: a list now is worth more than
a better one later. Requests that nobody waits for, and lists that went out without the model, are ranked while nobody
else waits, in short batches. Knows neither Kafka nor Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from streams import metrics
from streams.contracts import Recommendations
from streams.kafka.record_time import now_ms
from streams.rank.catch_up import CatchUp
from streams.rank.request_queue import PendingRequest, RejectedRequest, RequestQueue
from streams.rank.tier import RankTier
from streams.rank.variant_model import VariantModel

AT_MODEL = 2
"""Batches at the models: the one in progress, and the next."""


class RankedBatch(NamedTuple):
    """A batch that is ready to be published.

    Attributes
    ----------
    pending : list of PendingRequest
        The requests. Those of users who are to be forgotten, and those for lists to be ranked again for which there was
        no time, have no list.
    lists : list of Recommendations
        The lists of the others.
    rejected : list of RejectedRequest
        Dead letters that go out with the lists.
    """

    pending: list[PendingRequest]
    lists: list[Recommendations]
    rejected: list[RejectedRequest]


class Batcher:
    """Starts batches, in the order in which they are to be published.

    Parameters
    ----------
    queue : RequestQueue
        Where the requests come from.
    catch_up : CatchUp
        Nothing is ranked before it is complete.
    tier : RankTier
        Makes the lists without a model.
    models : sequence of VariantModel
        By variant.
    """

    def __init__(self, queue: RequestQueue, catch_up: CatchUp, tier: RankTier, models: Sequence[VariantModel]) -> None:
        self._queue = queue
        self._catch_up = catch_up
        self._tier = tier
        self._models = models
        self._at_model: set[asyncio.Task[RankedBatch]] = set()
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """The queue has something new."""
        self._awake.set()

    def ahead(self) -> int:
        """How many lists that are to be ranked again should be on their way to the models."""
        return sum(model.ahead() for model in self._models)

    async def run(self, batches: asyncio.Queue[asyncio.Task[RankedBatch]]) -> None:
        """Start batches for ever: when a model is free, or a full one ahead of that.

        Parameters
        ----------
        batches : asyncio.Queue
            Gets each batch when it starts; waits while the queue is full.
        """
        while True:
            await self._awake.wait()
            await self._catch_up.wait()
            rejected, overdue, stale = self._queue.take_rejected(), self._queue.take_overdue(), self._queue.take_stale()
            if overdue or rejected or stale:
                await batches.put(asyncio.create_task(self._without_model(overdue, stale, rejected)))
            batch = self._start_at_model()
            if batch is None:
                self._awake.clear()
            else:
                await batches.put(batch)

    def _start_at_model(self) -> asyncio.Task[RankedBatch] | None:
        """The next batch, if there is one and a model may take it."""
        variant = self._queue.next_variant()
        model = self._models[variant]
        anyone_waits = self._queue.anyone_waits()
        limit = model.batch_limit() if anyone_waits else model.short_limit()
        if len(self._at_model) >= (AT_MODEL if anyone_waits and self._queue.awaited >= limit else 1):
            return None
        pending = self._queue.take_batch(variant, limit)
        if not pending:
            return None
        task = asyncio.create_task(self._with_model(model, pending))
        self._at_model.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[RankedBatch]) -> None:
        self._at_model.discard(task)
        self._awake.set()

    async def _with_model(self, model: VariantModel, pending: list[PendingRequest]) -> RankedBatch:
        return RankedBatch(pending, await model.rank(pending), [])

    async def _without_model(
        self, overdue: list[PendingRequest], stale: list[PendingRequest], rejected: list[RejectedRequest]
    ) -> RankedBatch:
        requests = [pending.request for pending in overdue if pending.request is not None]
        for pending in overdue:
            model = self._tier.model(self._tier.variant(pending.user_id))
            metrics.queue_seconds.labels(model).observe(time.monotonic() - pending.since_s)
        lists = self._tier.rank_without_model(requests, "overload", now_ms())
        return RankedBatch([*overdue, *stale], lists, rejected)
