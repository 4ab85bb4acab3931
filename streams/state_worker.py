"""The state tier on Kafka: events in, states to the changelog, rank requests out.

Events are applied in memory as they come. States are flushed as fast as Kafka acknowledges, one changelog write per
user and flush, however many events; then their rank requests go out, one per user, however many flushes. Only then are
the events acknowledged, so a crash repeats events and never loses one, and `StateTier.accept` takes a repeated one only
once. No timer: an idle worker flushes a single event at once.

Knows Faust's table only as a store and a changelog topic; `worker` makes the app and the agents.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import faust
import msgspec
from aiokafka.structs import RecordMetadata

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.vector_store import Encoder
from ranker.counts import decode_counts, encode_counts
from streams import metrics
from streams.acks import InOrder
from streams.contracts import Click, EventType, Forget, Impression, Item, Purchase, Trigger
from streams.follower import Records, items_of
from streams.kafka_client import latest_ms, partition_of
from streams.lease import LeaseLost
from streams.outbox import Outbox, Outgoing
from streams.pipeline import StateTier
from streams.pseudonym import under_pseudonym
from streams.receive import INPUTS, BadMessage, Message, Tombstone, receive
from streams.reject import rejected
from streams.settings import Settings

logger = logging.getLogger(__name__)

ROUTED = "routed-events"
COUNTS = "item-counts"
ORIGIN = "origin"
"""Header of a routed event: the topic that it came from."""
ITEMS_AT_ONCE = 16
"""Items that enter the catalogue before events get a turn: a few milliseconds in a large one."""
COUNTS_AT_ONCE = 16
COUNTS_PAUSE_S = 0.01
"""Counts go out a few at a time: all at once they would hold up the events for a tenth of a second."""
MOST_PENDING = 5_000
"""Events taken and not yet answered; past it the agent waits, and Kafka keeps the rest."""
BURST = 64
"""Events in one flush from which on they count as a burst; an idle or moderately busy worker never sees one."""
BURST_WAIT_S = 0.5
MOST_REQUESTS = 64
REQUEST_SLICE_S = 0.05
"""Chosen by us: longer than a few requests take, shorter than anybody notices."""
COUNTS_EVERY_S = 5.0
"""A worker that dies takes at most these seconds of co-visit counts with it; states lose nothing."""


class Store(Protocol):
    """The durable side of the users: reads, and writes that the changelog has acknowledged."""

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None: ...


@dataclass
class Pending:
    """What the next flush has to get out, and the events that it answers."""

    events: list[Any] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)


@dataclass
class Wanted:
    """A user who needs a new list, why (the newest event), and the events that the request will answer."""

    trigger: Trigger | None = None
    arrived_ms: int | None = None
    events: list[Any] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, newer: Wanted) -> None:
        """One request will answer both."""
        self.events.extend(newer.events)
        if newer.trigger is not None:
            self.trigger, self.arrived_ms = newer.trigger, newer.arrived_ms


class StateWorker:
    """Steps 1 to 3 for the partitions of this worker.

    Parameters
    ----------
    encoder, model_thread : the model that reads items, and the thread that waits for it.
    store : where flushed states go; `changelog` is the topic that has them.
    """

    def __init__(
        self,
        settings: Settings,
        tier: StateTier,
        encoder: Encoder,
        model_thread: Executor,
        outbox: Outbox,
        store: Store,
        changelog: str,
    ) -> None:
        self.tier = tier
        self._settings = settings
        self._encoder = encoder
        self._model_thread = model_thread
        self._outbox = outbox
        self._store = store
        self._changelog = changelog
        self._pending = Pending()
        self._touched: dict[str, Wanted] = {}  # since the last flush
        self._wanted: dict[str, Wanted] = {}  # flushed: a request may go out
        self._in_burst: set[str] = set()  # users of a large flush: more of theirs may be on the way
        self.acks = InOrder()
        self._arrived = asyncio.Event()
        self._flushed = asyncio.Condition()
        self._turn = asyncio.Lock()

    async def take(self, event: faust.Event) -> None:
        """Steps 1 and 2 for one message; returns at once unless too much is pending."""
        kafka = event.message
        lies_in = kafka.topic.removeprefix(self._settings.topic_prefix)
        origin = dict(kafka.headers or {}).get(ORIGIN, b"").decode(errors="replace")
        topic = origin if lies_in == ROUTED and origin in INPUTS else lies_in
        message = Message(topic, kafka.partition, kafka.offset, kafka.key, kafka.value)
        self.acks.take(kafka.tp, event)
        try:
            arrived_ms = round((kafka.timestamp or time.time()) * 1000)
            outcome = self._apply(message, event, arrived_ms, routed_here=lies_in == ROUTED)
        except BadMessage as error:
            outcome = "rejected"
            self._pending.messages.append(rejected(self._settings, replace(message, topic=lies_in), error))
            self._pending.events.append(event)
        metrics.events.labels(topic, outcome).inc()
        self._arrived.set()
        if len(self.acks) >= MOST_PENDING:
            async with self._flushed:
                await self._flushed.wait_for(lambda: len(self.acks) < MOST_PENDING)

    async def run(self) -> None:
        """Flush for ever.

        An error other than Kafka being away is a bug and ends the worker, with nothing of the flush acknowledged.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            async with self._turn:
                try:
                    await self._flush()
                    await self._request()
                except LeaseLost as error:
                    self._abandon(error)
            if self._wanted:
                self._arrived.set()
            async with self._flushed:
                self._flushed.notify_all()

    async def hand_over(self, partitions: Collection[object]) -> None:
        """These partitions are somebody else's now: finish writing, and leave the rest to who gets the events again."""
        async with self._turn:
            try:
                await self._flush()
            except LeaseLost as error:
                self._abandon(error)
            self.acks.drop(partitions)
            self._wanted = {}
            self.tier.suspend()

    async def put_items(self, records: Records) -> None:
        """Take a batch of the `items` topic into the catalogue; encode it outside the loop."""
        items = items_of(records)
        present = [(item, arrived_ms) for item, arrived_ms in items.values() if item]
        started = time.monotonic()
        texts = [describe_item(item) for item, _ in present]
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._model_thread, self._encoder.encode, texts)
        metrics.encode_seconds.observe(time.monotonic() - started)
        for item_id, (item, _) in items.items():
            if item is None:
                self.tier.delete_item(item_id)
        for place, ((item, arrived_ms), vector) in enumerate(zip(present, vectors, strict=True)):
            self.refresh(self.tier.put_item(item, vector, arrived_ms))
            if place % ITEMS_AT_ONCE == 0:
                await asyncio.sleep(0)
        metrics.catalogue_items.set(len(self.tier.catalogue))

    async def put_counts(self, records: Records) -> None:
        """Take in counts that workers stored, ours of an earlier life included."""
        for record in records:
            if record.value is None:
                continue
            try:
                shard, item, counts = decode_counts(record.key, record.value)
            except ValueError as error:
                metrics.counts_unread.inc()
                logger.warning("%s/%d/%d: %s", record.topic, record.partition, record.offset, error)
                continue
            if not self.tier.counts.knows_better(shard, item):
                self.tier.counts.put(shard, item, counts)

    async def store_counts(self) -> None:
        """Run for ever: write the counts that changed."""
        while True:
            await asyncio.sleep(COUNTS_EVERY_S)
            changes = iter(self.tier.counts.changes())
            while few := list(islice(changes, COUNTS_AT_ONCE)):
                topic = self._settings.topic(COUNTS)
                with suppress(LeaseLost):  # statistics: the next change of an item writes all of its counts
                    await self._outbox.deliver(
                        [Outgoing(topic, *encode_counts(shard, item, counts)) for shard, item, counts in few]
                    )
                await asyncio.sleep(COUNTS_PAUSE_S)

    def refresh(self, user_ids: Sequence[str]) -> None:
        """Make new lists for users whose state changed without an event of theirs."""
        for user_id in user_ids:
            self._touched.setdefault(user_id, Wanted())
            self._arrived.set()

    def _abandon(self, error: LeaseLost) -> None:
        """Who has the partitions now takes these events in again; none of them was acknowledged."""
        logger.warning("%s", error)
        metrics.leases_lost.labels("state").inc()
        self._pending, self._touched, self._wanted = Pending(), {}, {}
        self.tier.users.discard()
        self.tier.suspend()

    def _apply(self, message: Message, event: Any, arrived_ms: int, routed_here: bool) -> str:
        """Take the message in; its event goes to what will answer it: the user's next request, or the next flush."""
        decoded = receive(message, latest_ms(arrived_ms))
        if isinstance(decoded, (Click, Impression, Forget)) and not routed_here:
            decoded = under_pseudonym(decoded, self._settings.pseudonym_key)
        answered_by = self._pending.events
        outcome = "accepted"
        if isinstance(decoded, (Click, Forget)) and self._routed(message, decoded):
            outcome = "routed"
        elif isinstance(decoded, Click):
            outcome = self.tier.accept(decoded)
            if outcome != "forgotten":
                wanted = self._touched.setdefault(decoded.user_id, Wanted())
                kind: EventType = "purchase" if isinstance(decoded, Purchase) else "click"
                wanted.trigger, wanted.arrived_ms = Trigger(event_id=decoded.event_id, type=kind), arrived_ms
                answered_by = wanted.events
        elif isinstance(decoded, Forget):
            self.tier.forget(decoded.user_id, milliseconds(decoded.timestamp))
            for waiting in (self._touched, self._wanted):
                answered_by.extend(waiting.pop(decoded.user_id, Wanted()).events)
            self._emit("rank-requests", decoded.user_id.encode(), None)
        elif not isinstance(decoded, (Impression, Item, Tombstone)):
            raise TypeError(f"{message.topic}: nothing here takes a {type(decoded).__name__}")
        answered_by.append(event)
        return outcome

    def _routed(self, message: Message, decoded: Click | Forget) -> bool:
        """Send an event that lies on another partition than our hash of its user's name to where its user lives."""
        key = decoded.user_id.encode()
        if partition_of(key, self._settings.kafka.partitions) == message.partition:
            return False
        value = message.value if self._settings.pseudonym_key is None else msgspec.json.encode(decoded)
        self._emit(ROUTED, key, value, {ORIGIN: message.topic.encode()})
        metrics.repartitioned.labels(message.topic).inc()
        return True

    def _emit(
        self, topic: str, key: bytes | None, value: bytes | None, headers: dict[str, bytes] | None = None
    ) -> None:
        self._pending.messages.append(Outgoing(self._settings.topic(topic), key, value, None, headers))

    async def _flush(self) -> None:
        """Make durable what was taken in since the last flush; then its users may get their requests."""
        started = time.monotonic()
        pending, self._pending = self._pending, Pending()
        touched, self._touched = self._touched, {}
        changes = self.tier.users.begin_flush()
        states = [
            Outgoing(self._changelog, key, value, partition_of(user_id.encode(), self._settings.kafka.partitions))
            for user_id, values in changes.items()
            for key, value in values.items()
        ]
        places = await self._outbox.deliver([*states, *pending.messages])
        self._store.apply(
            [(state.key or b"", state.value, place) for state, place in zip(states, places, strict=False)]
        )
        self.tier.users.end_flush()
        self.acks.done(pending.events)
        for user_id, newer in touched.items():
            self._wanted.setdefault(user_id, Wanted()).add(newer)
        self._in_burst = set(touched) if sum(len(newer.events) for newer in touched.values()) >= BURST else set()
        metrics.flush_seconds.observe(time.monotonic() - started)
        metrics.users_flushed.inc(len(changes))
        for state in states:
            if state.value is not None and state.key and state.key[:1] == b"u":
                metrics.state_bytes.observe(len(state.value))

    async def _request(self) -> None:
        """Step 3 for the users who have waited longest, at most `REQUEST_SLICE_S` at a time.

        Recall takes milliseconds. Under load it gets half of the time and events the other half, and who has just been
        in a burst waits for the rest of it: the more events a request answers, the fewer there are to make.
        """
        started = time.monotonic()
        messages, answered = [], []
        due = (u for u, w in self._wanted.items() if u not in self._in_burst or started - w.since > BURST_WAIT_S)
        for user_id in list(islice(due, MOST_REQUESTS)):
            wanted = self._wanted.pop(user_id, None)
            if wanted is None:  # forgotten meanwhile
                continue
            answered.extend(wanted.events)
            if self.tier.users.get(user_id).interest.version:  # else forgotten meanwhile
                request = self.tier.request(user_id, wanted.trigger, wanted.arrived_ms)
                topic = self._settings.topic("rank-requests")
                messages.append(Outgoing(topic, user_id.encode(), msgspec.json.encode(request)))
            await asyncio.sleep(0)
            if time.monotonic() - started > REQUEST_SLICE_S:
                break
        if messages and self._in_burst:
            await asyncio.sleep(time.monotonic() - started)
        await self._outbox.deliver(messages)
        self.acks.done(answered)
