"""The rank tier on Kafka: rank requests in, lists out.

    Kafka event -> `request_decoder` -> `request_queue` -> `batcher` -> `variant_model` -> `list_publisher`

Of one user and placement only the newest request is ranked. A request is acknowledged when its list, or a newer one, is
out. Knows Faust's events, but neither its app nor its agents.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

import faust
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from encoders.describe import describe_event, describe_item
from ranker.rules.item_table import ItemTable
from streams.kafka.acks import InOrder
from streams.kafka.compacted_reader import Records, items_of
from streams.kafka.record_reader import RecordReader
from streams.kafka.record_time import RecordTimes
from streams.kafka.reliable_producer import ReliableProducer
from streams.models.text_model import Writes
from streams.publish.backfill import Backfill
from streams.rank.batcher import AT_MODEL, Batcher, RankedBatch
from streams.rank.catch_up import CatchUp
from streams.rank.completion import Completion
from streams.rank.list_publisher import ListPublisher
from streams.rank.lists_reader import ListsReader
from streams.rank.published_lists import PublishedLists
from streams.rank.rank_again import RankAgain
from streams.rank.reason_writer import ReasonWriter
from streams.rank.request_decoder import RequestDecoder
from streams.rank.request_queue import RequestQueue
from streams.rank.stale_lists import StaleLists
from streams.rank.tier import RankTier
from streams.rank.variant_model import VariantModel
from streams.rank.withdrawal import Withdrawal
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
        times = RecordTimes(settings.kafka)
        self._reader = RecordReader(settings, times)
        self._room = asyncio.Condition()
        self._catch_up = CatchUp()
        self._queue = RequestQueue(settings.ranker.max_wait_ms / 1000, tier.variant, settings.ranker.placements)
        models = [VariantModel(tier, variant, model_threads, settings.ranker) for variant in range(len(tier.scorers))]
        self._batcher = Batcher(self._queue, self._catch_up, tier, models)
        self._completion = Completion(settings, tier, producer, self._done, self._batcher.wake)
        self._decoder = RequestDecoder(settings, times, self._queue, self._completion, tier.rules)
        self._stale = StaleLists(PublishedLists(settings.ranker.list_size), tier.gone)
        self._again = RankAgain(settings, self._queue, self._batcher, self._completion, producer, self._stale)
        self._publisher = ListPublisher(settings, producer, cache, self._stale, self.acks, self._again, self._forget)
        self._texts = ReasonWriter(settings, tier, self._publisher, cache, self._stale)
        self._lists = ListsReader(settings, self._stale)
        self._withdrawal = Withdrawal(settings, self._stale, self._publisher, cache, lambda: len(self.acks) > 0)
        self._missing: set[str] = set()  # items that are deleted or not available
        self._prepared: set[int] = set()  # hashes of texts

    async def take(self, event: faust.Event) -> None:
        """Receive one message. Returns at once, unless too many requests are pending."""
        message = event.message
        if not self.acks.take(message.tp, event):
            return
        self._catch_up.note(message.tp, message.offset, is_full=self._is_full())
        await self._decoder.decode(event)
        if self._is_full():
            self._queue.hurry()
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
            await asyncio.gather(
                self._batcher.run(batches), self._publish(batches), self._completion.run(), self._again.run()
            )

    async def prepare(self, records: Records) -> None:
        """Take a batch of the `items` topic: lists do without items that are gone, and the models process new texts.

        They do so before requests name the items. An item that is sent again costs nothing.
        """
        received, _ = await items_of(records, self._reader)
        present = {item_id: item for item_id, (item, _) in received.items() if item and item.available}
        gone = received.keys() - present.keys()
        self._missing |= gone
        self._missing -= present.keys()
        self._stale.change(gone, present.keys() - self._tier.rules.table.excluded)
        self._tier.exposure.know([item_id for item_id, (item, _) in received.items() if item])
        items = [item for item, _ in received.values() if item]  # users have events about unavailable ones too
        described = {hash((describe_item(item), describe_event(item))): item for item in items}
        new = [item for key, item in described.items() if key not in self._prepared]
        if not new:
            return  # an upload of what is known
        self._prepared.update(described)
        await asyncio.get_running_loop().run_in_executor(self._model_threads, self._tier.prepare, new)

    def keep_rules(self, table: ItemTable, excluded: Set[str], released: Set[str]) -> None:
        """Rank by these rules from now on. Published lists do without the items that they exclude from all lists."""
        self._tier.rules.keep(table)
        self._stale.change(excluded, released - self._missing)

    async def follow_lists(self) -> None:
        """Keep the index of published lists, for ever."""
        await self._lists.run()

    async def withdraw(self) -> None:
        """Publish lists again that show items which are gone, for ever."""
        await self._withdrawal.run()

    async def word_reasons(self, model: Writes) -> None:
        """Publish lists again with reasons in the words of a language model, for ever; see `ReasonWriter.run`."""
        await self._texts.run(model)

    def own(self, partitions: Collection[int]) -> None:
        """Withdraw items from the lists of these partitions, by number, and rank them again; and of no others."""
        self._lists.own(partitions)
        self._again.own(partitions if any(self._tier.scorers) else ())

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
            self._again.revoke({partition.partition for partition in partitions})
            self._completion.clear()
            self._stale.complete.clear()
            self.acks.drop(partitions)

    async def close(self, timeout_s: float) -> None:
        """Receive nothing more, and answer the requests received, at most for this long."""
        # Before the catch-up is complete, a request received may be older than a list that is published.
        await self.acks.close(timeout_s if self._catch_up.complete else 0)

    async def _publish(self, batches: asyncio.Queue[asyncio.Task[RankedBatch]]) -> None:
        while True:
            ranked = await (await batches.get())
            await self._publisher.publish(ranked)
            self._texts.note(ranked)
            await self._done([])

    async def _done(self, events: Sequence[Any]) -> None:
        """Acknowledge events, and let those callers of `take` go on that wait for room."""
        self.acks.done(events)
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
