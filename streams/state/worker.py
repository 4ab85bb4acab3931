"""The state tier on Kafka: events in, states to the changelog, rank requests out.

`StateWorker` puts the parts together and runs them in turn; `flush` describes the way of an event through them. Knows
Faust's table only as a `Store` and a changelog topic, and neither the Faust app nor its agents.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from faust.types import EventT

from encoders.interest import Vector
from encoders.text.vector_store import Encoder
from streams import metrics
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.acks import InOrder
from streams.kafka.compacted_reader import Records
from streams.kafka.record_reader import RecordReader
from streams.kafka.reliable_producer import ReliableProducer
from streams.kafka.schema_registry import registry_of
from streams.models.text_model import Writes
from streams.settings import Settings
from streams.state.catalogue_feed import CatalogueFeed
from streams.state.changelog import Changelog, Store
from streams.state.cold_start import ColdStart
from streams.state.due_requests import DueRequests
from streams.state.event_applier import EventApplier
from streams.state.event_receiver import EventReceiver
from streams.state.event_router import EventRouter
from streams.state.flush import Flush
from streams.state.intake import Intake
from streams.state.item_counts import ItemCountExchange
from streams.state.merger import Merger
from streams.state.pending import Pending
from streams.state.tier import StateTier

logger = logging.getLogger(__name__)

SENDING_TURNS = 8
"""Turns of the event loop until the states are on the network: aiokafka takes four, our tasks before it the rest."""
LAST_FLUSH_S = 2.0
"""How long `close` waits for a flush that is under way."""


class StateWorker:
    """Steps 1 to 3 for the partitions of this worker.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    tier : StateTier
        Steps 2 and 3 in memory.
    encoder : Encoder
        Computes the vectors of the items' texts.
    model_thread : Executor
        The thread that waits for the encoder.
    producer : ReliableProducer
        Sends messages until Kafka has acknowledged them.
    store : Store
        Holds the flushed states.
    changelog : str
        Full name of the topic that holds the same states.

    Attributes
    ----------
    acks : InOrder
        The events that were taken and not yet acknowledged.
    """

    def __init__(
        self,
        settings: Settings,
        tier: StateTier,
        encoder: Encoder,
        model_thread: Executor,
        producer: ReliableProducer,
        store: Store,
        changelog: str,
    ) -> None:
        self.acks = InOrder()
        self._tier = tier
        self._store = store
        self._pending = Pending()
        self._turn = asyncio.Lock()  # held while users are changed or written
        self._closed = asyncio.Event()
        self._storing_s = 0.0  # how long the latest flush took
        requests_topic = settings.topic("rank-requests")

        async def encode(texts: Sequence[str]) -> Vector:
            return await asyncio.get_running_loop().run_in_executor(model_thread, encoder.encode, texts)

        async def encode_queries(texts: Sequence[str]) -> Vector:
            return await asyncio.get_running_loop().run_in_executor(model_thread, encoder.encode_events, texts)

        reader = RecordReader(settings)
        self._intake = Intake(self.acks)
        registry_of(settings.kafka).on_learnt.append(self._intake.wake)
        self._feed = CatalogueFeed(tier, encoder, model_thread, reader, self.refresh)
        self._router = EventRouter(settings, self._pending)
        known_items = self._feed.known_items
        self._receiver = EventReceiver(settings, reader, self._router, known_items, self._pending, self.acks)
        self._requests = DueRequests(tier, producer, requests_topic, self.acks, encode, settings.candidates.domains)
        self._merger = Merger(settings, tier, self._router, self._requests, self._pending)
        self._applier = EventApplier(
            tier, self._receiver, self._requests, self._merger, settings, self._pending, encode_queries
        )
        durable = Changelog(producer, store, changelog, settings.kafka.partitions)
        self._flush = Flush(tier.users, self._pending, durable, self.acks, self._requests)
        self._counts = ItemCountExchange(tier.counts, tier.dates, store, producer, settings, self._turn)
        self._cold_start = ColdStart(settings, tier, store, producer, self._newest_ms)

    async def take(self, events: Sequence[EventT[Any]]) -> None:
        """Queue events for the next flush. Returns at once unless too many events are unacknowledged."""
        await self._intake.take(events)

    async def run(self) -> None:
        """Flush until closed.

        An error other than Kafka being away is a bug. It ends the worker, and no event of the flush is acknowledged.
        """
        while True:
            await self._intake.wait()
            async with self._turn:
                if self._closed.is_set():
                    return
                try:
                    await self._work()
                except MembershipLost as error:
                    self._abandon(error)
            if self._intake.has_more or self._requests or self._merger.is_busy():
                self._intake.wake()
            await self._intake.flushed()

    async def _work(self) -> None:
        """Steps 1 to 5 of `flush` for the events that arrived. Requests are made while Kafka stores the states."""
        started = time.monotonic()
        self._router.held_partitions = self._store.partitions()
        await self._applier.apply(self._intake.next_batch(self._receiver.is_ready))
        flush_s = time.monotonic() - started + self._storing_s
        storing = asyncio.create_task(self._flush_since(started))
        try:
            for _ in range(SENDING_TURNS):
                await asyncio.sleep(0)
            await self._requests.send(flush_s, self._intake.__len__, storing)
        finally:
            storing.cancel()  # it is done, unless an error or the end of the worker came first

    async def _flush_since(self, started_s: float) -> bool:
        """Return whether requests may be sent: a worker that is closed leaves them to the next one."""
        begin_s = time.monotonic()
        await self._flush.run()
        self._storing_s = time.monotonic() - begin_s
        metrics.flush_seconds.observe(time.monotonic() - started_s)
        return not self._closed.is_set()

    async def on_revoke(self, partitions: Collection[object]) -> None:
        """Write what was applied, and discard the rest: another worker holds these partitions from now on.

        Kafka delivers the events that are not acknowledged to that worker.
        """
        if self._closed.is_set():
            return
        async with self._turn:
            try:
                await self._flush.run()
            except MembershipLost as error:
                self._abandon(error)
            self._intake.drop(partitions)
            self.acks.drop(partitions)
            self._requests.clear()
            self._merger.clear()
            self._applier.waiting_wishes.clear()
            self._applier.repeats.begin()
            self._tier.suspend()

    async def close(self, timeout_s: float) -> None:
        """Take no more events, finish those that were taken as far as the time allows, then read no user again.

        Faust closes the store next, and every user reads as unknown from then on.
        """
        await self.acks.close(timeout_s)
        self._closed.set()
        self._intake.wake()
        with suppress(asyncio.TimeoutError):  # Kafka is away: no more messages get out
            await asyncio.wait_for(self._turn.acquire(), LAST_FLUSH_S)

    async def put_items(self, records: Records) -> None:
        """Take a batch of the topic `items` into the catalogue."""
        await self._feed.put(records)

    async def put_counts(self, records: Records) -> None:
        """Take in a batch of the topic `item-counts`."""
        await self._counts.put(records)

    async def store_counts(self) -> None:
        """Store the changed counts at intervals, until cancelled."""
        await self._counts.run()

    async def store_dates(self) -> None:
        """Store when new items appeared, until cancelled. To be called once the catalogue is read."""
        await self._counts.run_dates()

    async def serve_cold_start(self) -> None:
        """Have the cold-start list made whenever it would differ from the last one, until cancelled."""
        await self._cold_start.run()

    async def read_wishes(self, model: Writes) -> None:
        """Let a language model read the wishes that the patterns do not understand, for ever; see `WaitingWishes`."""
        await self._applier.waiting_wishes.run(model, self._intake.wake)

    def notes(self) -> list[str]:
        """Tell an operator what is wrong although the worker is ready. Any thread may call this."""
        return self._feed.notes()

    def refresh(self, user_ids: Sequence[str]) -> None:
        """Make new lists for users whose states new items have changed, and for some who had no candidate before."""
        for user_id in [*user_ids, *self._requests.take_empty()]:
            self._pending.request(user_id)
            self._intake.wake()

    def _newest_ms(self) -> int:
        """When the newest record that was read was written."""
        return max(self._receiver.newest_ms, self._feed.newest_ms)

    def _abandon(self, error: MembershipLost) -> None:
        """Discard all that is in flight: none of it was acknowledged, and another worker gets these events again."""
        logger.warning("%s", error)
        metrics.memberships_lost.labels("state").inc()
        self._pending.clear()
        self._intake.clear()
        self._requests.clear()
        self._merger.clear()
        self._applier.waiting_wishes.clear()
        self._applier.repeats.begin()
        self._tier.users.discard()
        self._tier.suspend()
