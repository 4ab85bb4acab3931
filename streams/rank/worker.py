"""The rank tier on Kafka: rank requests in, lists out.

    Kafka event -> `request_decoder` -> `request_queue` -> `batcher` -> `variant_model` -> `list_publisher`

Of one user only the newest request is ranked. A request is acknowledged when its list, or a newer one of its user, is
out. Knows Faust's events, but neither its app nor its agents.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

import faust
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from encoders.describe import describe_item
from streams.kafka.acks import InOrder
from streams.kafka.compacted_reader import Records, items_of
from streams.kafka.record_time import RecordTimes
from streams.kafka.reliable_producer import ReliableProducer
from streams.publish.backfill import Backfill
from streams.rank.batcher import AT_MODEL, Batcher, RankedBatch
from streams.rank.catch_up import CatchUp
from streams.rank.list_publisher import ListPublisher
from streams.rank.request_decoder import RequestDecoder
from streams.rank.request_queue import RequestQueue
from streams.rank.tier import RankTier
from streams.rank.variant_model import VariantModel
from streams.settings import Settings

logger = logging.getLogger(__name__)

MAX_PENDING = 5_000
"""Requests received and not yet answered; above it the worker receives nothing, and Kafka keeps the rest."""


class RankWorker:
    """Steps 4 to 6, score, select and publish, of the partitions that this worker owns.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    tier : RankTier
        Makes the lists.
    producer : ReliableProducer
        Writes lists and dead letters to Kafka.
    cache : Backfill
        Writes lists to Redis.
    model_threads : Executor
        The models work on these, outside the event loop.

    Attributes
    ----------
    acks : InOrder
        The events that are received and not yet answered.
    """

    def __init__(
        self,
        settings: Settings,
        tier: RankTier,
        producer: ReliableProducer,
        cache: Backfill,
        model_threads: Executor,
    ) -> None:
        self.acks = InOrder()
        self._tier = tier
        self._model_threads = model_threads
        self._time_zone = settings.zone
        self._times = RecordTimes(settings.kafka)
        self._room = asyncio.Condition()
        self._catch_up = CatchUp()
        self._queue = RequestQueue(settings.ranker.max_wait_ms / 1000, tier.variant)
        self._decoder = RequestDecoder(settings, self._times, self._queue)
        models = [VariantModel(tier, variant, model_threads, settings.ranker) for variant in range(len(tier.scorers))]
        self._batcher = Batcher(self._queue, self._catch_up, tier, models)
        self._publisher = ListPublisher(settings.topic("recommendations"), producer, cache, self.acks, self._forget)

    async def take(self, event: faust.Event) -> None:
        """Receive one message. Returns at once, unless too many requests are pending."""
        message = event.message
        if not self.acks.take(message.tp, event):
            return
        self._catch_up.note(message.tp, message.offset, is_full=self._is_full())
        await self._decoder.decode(event)
        self._batcher.wake()
        if self._is_full():
            async with self._room:
                await self._room.wait_for(lambda: not self._is_full())

    async def run(self) -> None:
        """Rank for ever, and publish one batch while the next one is ranked.

        An error other than a failure of Kafka, Redis or a model is a bug and ends the worker.
        """
        batches: asyncio.Queue[asyncio.Task[RankedBatch]] = asyncio.Queue(AT_MODEL)
        with _exposed(self._tier.usage):
            await asyncio.gather(self._batcher.run(batches), self._publish(batches))

    async def prepare(self, records: Records) -> None:
        """Let the models process the texts of a batch of the `items` topic before requests name the items."""
        received, _ = await items_of(records, self._times, self._time_zone)
        texts = [describe_item(item) for item, _ in received.values() if item]
        await asyncio.get_running_loop().run_in_executor(self._model_threads, self._tier.prepare, texts)

    def resume(self, ends: Mapping[Any, int]) -> None:
        """Partitions were assigned.

        Parameters
        ----------
        ends : mapping
            Partition -> the offset after the last request there. Nothing is ranked before these requests are read.
        """
        self._catch_up.begin(ends)

    async def on_revoke(self, partitions: Collection[Any]) -> None:
        """Partitions were revoked: finish the batch that is going out, and drop everything else of theirs."""
        self._forget(None)
        async with self._publisher.publishing:
            self._queue.drop(partitions)
            self.acks.drop(partitions)

    async def close(self, timeout_s: float) -> None:
        """Receive nothing more, and answer the requests received, at most for this long."""
        # Before the catch-up is complete, a request received may be older than a list that is published.
        await self.acks.close(timeout_s if self._catch_up.complete else 0)

    async def _publish(self, batches: asyncio.Queue[asyncio.Task[RankedBatch]]) -> None:
        while True:
            await self._publisher.publish(await (await batches.get()))
            async with self._room:
                self._room.notify_all()

    def _forget(self, user_ids: Collection[str] | None) -> None:
        """Let the models forget these users, or all users for None, after the calls in progress."""
        self._model_threads.submit(self._tier.forget, user_ids).add_done_callback(_log_failure)

    def _is_full(self) -> bool:
        return len(self.acks) >= MAX_PENDING


@contextmanager
def _exposed(collector: Collector) -> Iterator[None]:
    """Have the collector's metrics on /metrics."""
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


def _log_failure(forgetting: Future[None]) -> None:
    if error := forgetting.exception():
        logger.error("the model could not forget users (%r); restart this worker, and it forgets all", error)
