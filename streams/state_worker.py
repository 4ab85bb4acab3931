"""The state tier on Kafka: events in, states to the changelog, rank requests out.

Events are applied in memory as they come and flushed as fast as Kafka acknowledges: one changelog write and one rank
request per user and flush, however many events. Only then are the events acknowledged, so a crash repeats events and
never loses one, and `StateTier.accept` takes a repeated one only once. No timer: an idle worker flushes a single
event at once.

Knows Faust's table only as a store and a changelog topic; `worker` makes the app and the agents.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Protocol

import faust
import msgspec
from aiokafka.structs import RecordMetadata

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.interest import Vector
from ranker.counts import ItemCounts
from streams import metrics
from streams.acks import InOrder
from streams.contracts import Click, Forget, Impression, Item, Trigger
from streams.follower import Records, items_of
from streams.kafka_client import partition_of
from streams.outbox import Outbox, Outgoing
from streams.pipeline import StateTier
from streams.receive import INPUTS, BadMessage, Message, Tombstone, receive
from streams.settings import Settings

logger = logging.getLogger(__name__)

ROUTED = "routed-events"
COUNTS = "item-counts"
ORIGIN = "origin"
"""Header of a routed event: the topic that it came from."""
MOST_PENDING = 5_000
"""Events taken and not yet flushed; past it the agent waits, and Kafka keeps the rest."""
COUNTS_EVERY_S = 5.0
"""A worker that dies takes at most these seconds of co-visit counts with it; states lose nothing."""


class ItemEncoder(Protocol):
    """What puts item texts into vectors: a `TextEncoder`, or a bi-encoder that keeps them for scoring."""

    dim: int

    def encode(self, texts: Sequence[str]) -> Vector: ...


class Store(Protocol):
    """The durable side of the users: reads, and writes that the changelog has acknowledged."""

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None: ...


@dataclass
class Pending:
    """What one flush has to get out."""

    events: list[Any] = field(default_factory=list)
    requests: dict[str, tuple[Trigger | None, int | None]] = field(default_factory=dict)
    messages: list[Outgoing] = field(default_factory=list)


class StateWorker:
    """Steps 1 to 3 for the partitions of this worker.

    Parameters
    ----------
    encoder, model_thread : the model that reads items, and the thread it works in.
    store : where flushed states go; `changelog` is the topic that has them.
    """

    def __init__(
        self,
        settings: Settings,
        tier: StateTier,
        encoder: ItemEncoder,
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
        self._acks = InOrder()
        self._arrived = asyncio.Event()
        self._flushed = asyncio.Condition()

    async def take(self, event: faust.Event) -> None:
        """Steps 1 and 2 for one message; returns at once unless too much is pending."""
        kafka = event.message
        lies_in = kafka.topic.removeprefix(self._settings.topic_prefix)
        origin = dict(kafka.headers or {}).get(ORIGIN, b"").decode(errors="replace")
        topic = origin if lies_in == ROUTED and origin in INPUTS else lies_in
        message = Message(topic, kafka.partition, kafka.offset, kafka.key, kafka.value)
        self._acks.take(kafka.tp, event)
        try:
            outcome = self._apply(message, arrived_ms=round((kafka.timestamp or time.time()) * 1000))
        except BadMessage as error:
            outcome = "rejected"
            metrics.dead_letters.labels(topic, error.reason).inc()
            letter = msgspec.json.encode(replace(message, topic=lies_in).dead_letter(str(error)))
            self._emit("dead-letters", message.key, letter)
        metrics.events.labels(topic, outcome).inc()
        self._pending.events.append(event)
        self._arrived.set()
        if len(self._pending.events) >= MOST_PENDING:
            async with self._flushed:
                await self._flushed.wait_for(lambda: len(self._pending.events) < MOST_PENDING)

    async def run(self) -> None:
        """Flush for ever.

        An error other than Kafka being away is a bug and ends the worker, with nothing of the flush acknowledged.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            pending, self._pending = self._pending, Pending()
            started = time.monotonic()
            await self._flush(pending)
            self._acks.done(pending.events)
            metrics.flush_seconds.observe(time.monotonic() - started)
            async with self._flushed:
                self._flushed.notify_all()

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
        for (item, arrived_ms), vector in zip(present, vectors, strict=True):
            self.refresh(self.tier.put_item(item, vector, arrived_ms))
        metrics.catalogue_items.set(len(self.tier.catalogue))

    async def put_counts(self, records: Records) -> None:
        """Take in counts that workers stored, ours of an earlier life included."""
        for record in records:
            if record.key and record.value:
                shard, item = record.key.decode().split(":")
                self.tier.counts.put(int(shard), int(item), msgspec.msgpack.decode(record.value, type=ItemCounts))

    async def store_counts(self) -> None:
        """Run for ever: write the counts that changed."""
        while True:
            await asyncio.sleep(COUNTS_EVERY_S)
            await self._outbox.deliver(
                [
                    Outgoing(
                        self._settings.topic(COUNTS),
                        f"{shard}:{item}".encode(),
                        msgspec.msgpack.encode(counts),
                    )
                    for shard, item, counts in self.tier.counts.changes()
                ]
            )

    def refresh(self, user_ids: Sequence[str]) -> None:
        """Make new lists for users whose state changed without an event of theirs."""
        for user_id in user_ids:
            self._pending.requests.setdefault(user_id, (None, None))
            self._arrived.set()

    def _apply(self, message: Message, arrived_ms: int) -> str:
        decoded = receive(message, _now_ms())
        if isinstance(decoded, (Click, Forget)) and self._routed(message, decoded.user_id):
            return "routed"
        if isinstance(decoded, Click):
            outcome = self.tier.accept(decoded)
            if outcome != "forgotten":
                kind: Any = "purchase" if message.topic == "purchases" else "click"
                self._pending.requests[decoded.user_id] = (
                    Trigger(event_id=decoded.event_id, type=kind),
                    arrived_ms,
                )
            return outcome
        if isinstance(decoded, Forget):
            self.tier.forget(decoded.user_id, milliseconds(decoded.timestamp))
            self._pending.requests.pop(decoded.user_id, None)
            self._emit("rank-requests", decoded.user_id.encode(), None)
        elif not isinstance(decoded, (Impression, Item, Tombstone)):
            raise TypeError(f"{message.topic}: nothing here takes a {type(decoded).__name__}")
        return "accepted"

    def _routed(self, message: Message, user_id: str) -> bool:
        """Send an event that its producer put on another partition than our key hash to where its user lives."""
        key = user_id.encode()
        if partition_of(key, self._settings.kafka.partitions) == message.partition:
            return False
        self._emit(ROUTED, key, message.value, {ORIGIN: message.topic.encode()})
        metrics.repartitioned.labels(message.topic).inc()
        return True

    def _emit(
        self, topic: str, key: bytes | None, value: bytes | None, headers: dict[str, bytes] | None = None
    ) -> None:
        self._pending.messages.append(Outgoing(self._settings.topic(topic), key, value, None, headers))

    async def _flush(self, pending: Pending) -> None:
        changes = self.tier.users.begin_flush()
        states = [
            Outgoing(self._changelog, key, value, partition_of(user_id.encode(), self._settings.kafka.partitions))
            for user_id, values in changes.items()
            for key, value in values.items()
        ]
        requests = [await self._request(user_id, *why) for user_id, why in pending.requests.items()]
        places = await self._outbox.deliver([*states, *pending.messages, *requests])
        self._store.apply(
            [(state.key or b"", state.value, place) for state, place in zip(states, places, strict=False)]
        )
        self.tier.users.end_flush()
        metrics.users_flushed.inc(len(changes))
        for state in states:
            if state.value is not None and state.key and state.key[:1] == b"u":
                metrics.state_bytes.observe(len(state.value))

    async def _request(self, user_id: str, trigger: Trigger | None, arrived_ms: int | None) -> Outgoing:
        """Step 3 for one user. Lets the loop breathe: recall takes milliseconds."""
        await asyncio.sleep(0)
        request = self.tier.request(user_id, trigger, arrived_ms)
        return Outgoing(self._settings.topic("rank-requests"), user_id.encode(), msgspec.json.encode(request))


class TableStore:
    """A Faust table's store, written only with what its changelog has acknowledged, at the offset that it got."""

    def __init__(self, table: faust.types.TableT[bytes, bytes]) -> None:
        self._store: Any = table.data

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None:
        events: list[Any] = [
            SimpleNamespace(
                key=key,
                value=value,
                message=SimpleNamespace(
                    key=key,
                    value=value,
                    tp=faust.types.TP(place.topic, place.partition),
                    partition=place.partition,
                    offset=place.offset,
                ),
            )
            for key, value, place in changes
        ]
        self._store.apply_changelog_batch(events, to_key=lambda key: key, to_value=lambda value: value)


def _now_ms() -> int:
    return round(time.time() * 1000)
