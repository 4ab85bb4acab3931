"""The state tier on Kafka: events in, states to the changelog, rank requests out.

Events are only noted as they come. A flush takes all that came since the last one, applies it user by user, and writes
one state per user to the changelog, however many events; then rank requests go out (`requests`). Only then are the
events acknowledged, so a crash repeats events and never loses one, and `StateTier.accept` takes a repeated one only
once. No timer: an idle worker flushes a single event at once, and the further it is behind, the more a flush takes.

Knows Faust's table only as a store and a changelog topic; `worker` makes the app and the agents.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple, Protocol

import msgspec
from aiokafka.structs import RecordMetadata
from faust.types import EventT

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.text.vector_store import Encoder
from ranker.recall.count_records import decode_counts, encode_counts
from streams import metrics
from streams.contracts import COLD_START_USER, Click, Feedback, Forget, Impression, Item, Trigger
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.acks import InOrder
from streams.kafka.client import partition_of
from streams.kafka.compacted_reader import Records, items_of
from streams.kafka.message_size import outgoing_request
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import OUR_REQUEST, origin, routed_headers, written_ms
from streams.kafka.record_time import Record, RecordTimes, counted_at, receive_dated
from streams.kafka.reject import rejected, told
from streams.kafka.reliable_producer import ReliableProducer
from streams.receive.decode import FUTURE_MS, INPUTS, BadMessage, Message, Tombstone
from streams.receive.pseudonym import under_pseudonym
from streams.settings import Settings
from streams.state.known_items import KnownItems
from streams.state.rank_requests import Requests, Wanted
from streams.state.repeats import Repeats
from streams.state.tier import StateTier, type_of

logger = logging.getLogger(__name__)

ROUTED = "routed-events"
COUNTS = "item-counts"
ITEMS_AT_ONCE = 16
"""Items that enter the catalogue before events get a turn: a few milliseconds in a large one."""
COUNTS_AT_ONCE = 16
COUNTS_PAUSE_S = 0.01
"""Counts go out a few at a time: all at once they would hold up the events for a tenth of a second."""
MOST_AT_ONCE = 5_000
"""Events of one flush: more would coalesce little better, and hold up a rebalance."""
MOST_UNANSWERED = 30_000
"""Events taken and not yet acknowledged, about 1.5 KB each; past it the agent waits, and Kafka keeps the rest."""
LAST_FLUSH_S = 2.0
"""How long the end waits for a flush that is under way."""
EVENTS_AT_ONCE = 64
"""Events, or users, that are worked on before others get a turn: some milliseconds."""
COUNTS_EVERY_S = 5.0
"""A worker that dies takes at most these seconds of co-visit counts with it; states lose nothing."""
SKEW_MS = 60_000
"""How far ahead of its record an event may be for its time to be the time of what it tells of; chosen by us."""
NEWCOMERS_EVERY_S = 5.0
"""Chosen by us: a recall of some milliseconds, and a list at the most, this often."""


class Store(Protocol):
    """The durable side of the users: writes that the changelog has acknowledged, and whose users are ours now."""

    def partitions(self) -> Collection[int]: ...

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None: ...


@dataclass
class Pending:
    """What the next flush has to get out, and the events that it answers."""

    events: list[Any] = field(default_factory=list)
    messages: list[Outgoing] = field(default_factory=list)


class Change(NamedTuple):
    """A message that changes a user's state, and its event.

    Attributes
    ----------
    decoded : dated at the latest when its record was written.
    ahead_ms : the time that it gives itself, where that is long after its record; else 0.
    """

    message: Message
    decoded: Click | Forget
    event: EventT[Any]
    ahead_ms: int


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
        producer: ReliableProducer,
        store: Store,
        changelog: str,
    ) -> None:
        self.tier = tier
        self._settings = settings
        self._encoder = encoder
        self._model_thread = model_thread
        self._producer = producer
        self._store = store
        self._changelog = changelog
        self._written_ms = 0  # when the newest record that was read was written
        self._times = RecordTimes(settings.kafka)
        self._known_items = KnownItems(tier.catalogue)
        self._items_refused = Counter[str]()  # of all partitions, by cause
        self._pending = Pending()
        self._taken: list[EventT[Any]] = []  # not looked at yet
        self._homes: Collection[int] = ()  # partitions of users, as of the last look
        self._touched: dict[str, Wanted] = {}  # since the last flush
        self.acks = InOrder()
        self._repeats = Repeats()
        self._requests = Requests(tier, producer, settings.topic("rank-requests"), self.acks)
        self._arrived = asyncio.Event()
        self._flushed = asyncio.Condition()
        self._turn = asyncio.Lock()
        self._closed = asyncio.Event()

    async def take(self, events: Sequence[EventT[Any]]) -> None:
        """Note messages for the next flush; returns at once unless too much is pending."""
        self._taken.extend([event for event in events if self.acks.take(event.message.tp, event)])
        self._arrived.set()
        if len(self.acks) >= MOST_UNANSWERED:
            async with self._flushed:
                await self._flushed.wait_for(lambda: len(self.acks) < MOST_UNANSWERED)

    async def run(self) -> None:
        """Flush until closed.

        An error other than Kafka being away is a bug and ends the worker, with nothing of the flush acknowledged.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            async with self._turn:
                if self._closed.is_set():
                    return
                started = time.monotonic()
                taken, self._taken = self._taken[:MOST_AT_ONCE], self._taken[MOST_AT_ONCE:]
                try:
                    await self._apply(taken)
                    await self._flush()
                    flush_s = time.monotonic() - started
                    metrics.flush_seconds.observe(flush_s)
                    if self._closed.is_set():
                        return
                    await self._requests.send(flush_s)
                except MembershipLost as error:
                    self._abandon(error)
            if self._taken or self._requests:
                self._arrived.set()
            async with self._flushed:
                self._flushed.notify_all()

    async def hand_over(self, partitions: Collection[object]) -> None:
        """These partitions are somebody else's now: finish writing, and leave the rest to who gets the events again."""
        if self._closed.is_set():
            return
        async with self._turn:
            try:
                await self._flush()
            except MembershipLost as error:
                self._abandon(error)
            self._taken = [event for event in self._taken if event.message.tp not in partitions]
            self.acks.drop(partitions)
            self._requests.drop()
            self._repeats.begin()
            self.tier.suspend()

    async def close(self, timeout_s: float) -> None:
        """Before the end: take nothing more, finish what was taken as far as the time allows, then read no user again.

        Faust closes the store next, and every user reads as unknown from then on.
        """
        await self.acks.close(timeout_s)
        self._closed.set()
        self._arrived.set()
        with suppress(asyncio.TimeoutError):  # Kafka is away: nothing more gets out
            await asyncio.wait_for(self._turn.acquire(), LAST_FLUSH_S)

    async def put_items(self, records: Records) -> None:
        """Take a batch of the `items` topic into the catalogue; encode it outside the loop."""
        items, refused = await items_of(records, self._times, self._settings.zone)
        self._items_refused.update(refused)
        present = [(item, arrived_ms) for item, arrived_ms in items.values() if item]
        self._written_ms = max([self._written_ms, *(arrived_ms for _, arrived_ms in items.values())])
        started = time.monotonic()
        texts = [describe_item(item) for item, _ in present]
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._model_thread, self._encoder.encode, texts)
        metrics.encode_seconds.observe(time.monotonic() - started)
        for item_id, (item, _) in items.items():
            if item is None:
                self._known_items.deleted(item_id)
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
            if not self.tier.counts.has_newer(shard, item):
                self.tier.counts.put(shard, item, counts)

    async def store_counts(self) -> None:
        """Run for ever: write the counts that changed."""
        while True:
            await asyncio.sleep(COUNTS_EVERY_S)
            async with self._turn:  # so that no event is in the stored counts before it is in its user's stored state
                changes = iter(self.tier.counts.changes())
            while few := list(islice(changes, COUNTS_AT_ONCE)):
                topic = self._settings.topic(COUNTS)
                with suppress(MembershipLost):  # statistics: the next change of an item writes all of its counts
                    await self._producer.deliver(
                        [Outgoing(topic, *encode_counts(shard, item, counts)) for shard, item, counts in few]
                    )
                await asyncio.sleep(COUNTS_PAUSE_S)

    async def serve_cold_start(self) -> None:
        """Run for ever: have a list made for whoever has none, whenever it would be another one.

        It is as of the newest record that was read, by Kafka's word and not by our clock, which may be wrong by days.
        """
        home = partition_of(COLD_START_USER.encode(), self._settings.kafka.partitions)
        before: list[str] = []
        while True:
            await asyncio.sleep(NEWCOMERS_EVERY_S)
            if home not in self._store.partitions():
                before = []
                continue
            request = self.tier.cold_start_request(self._written_ms)
            candidates = [candidate.item_id for candidate in request.candidates]
            if candidates != before:
                topic = self._settings.topic("rank-requests")
                with suppress(MembershipLost):  # who has the partition now makes it
                    await self._producer.deliver([outgoing_request(topic, request)])
                    before = candidates

    def notes(self) -> list[str]:
        """What a person should know: an empty catalogue, for then every list is empty."""
        refused = Counter(dict.copy(self._items_refused))  # asked for by another thread
        if len(self.tier.catalogue):
            return []
        why = f"; {refused.total():,} messages of items were rejected: {told(refused)}" if refused else ""
        return [f"state: the catalogue is empty{why}"]

    def refresh(self, user_ids: Sequence[str]) -> None:
        """Make new lists for users whose state changed without an event of theirs."""
        for user_id in user_ids:
            self._touched.setdefault(user_id, Wanted())
            self._arrived.set()

    def _abandon(self, error: MembershipLost) -> None:
        """Who has the partitions now takes these events in again; none of them was acknowledged."""
        logger.warning("%s", error)
        metrics.leases_lost.labels("state").inc()
        self._pending, self._taken, self._touched = Pending(), [], {}
        self._requests.drop()
        self._repeats.begin()
        self.tier.users.discard()
        self.tier.suspend()

    async def _apply(self, events: Sequence[EventT[Any]]) -> None:
        """Steps 1 and 2; each event goes to what will answer it: its user's next request, or the next flush."""
        self._homes = self._store.partitions()
        changes: dict[str, list[Change]] = {}
        await self._times.look(map(Record.of, (event.message for event in events)))
        for place, event in enumerate(events):
            if place % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            message = self._message(event)
            try:
                change = self._receive(message, event)
            except BadMessage as error:
                self._reject(message, event, error)
                continue
            if change is not None:
                changes.setdefault(change.decoded.user_id, []).append(change)
        for place, (user_id, several) in enumerate(changes.items()):
            if place % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            for kind, some in groupby(several, lambda change: isinstance(change.decoded, Forget)):
                (self._forget if kind else self._accept)(user_id, list(some))

    def _receive(self, message: Message, event: EventT[Any]) -> Change | None:
        """Step 1: what an event changes; None for one that changes nothing here, and is answered by the next flush."""
        taken, ours = list[str](), self._lies_in(event) == ROUTED
        decoded, when = receive_dated(self._times, Record.of(event.message), message, self._settings.zone, ours, taken)
        if ours:
            when = written_ms(event.message.headers) or when
        self._written_ms = max(self._written_ms, when)
        for kind in taken:
            metrics.values_coerced.labels(message.topic, kind).inc()
        if isinstance(decoded, (Click, Impression, Forget)) and not ours:
            decoded = under_pseudonym(decoded, self._settings.pseudonym_key)
        if isinstance(decoded, (Click, Forget)):
            if not self._routed(message, decoded, when, rewritten=bool(taken)):
                claimed_ms = milliseconds(decoded.timestamp)
                ahead_ms = claimed_ms if claimed_ms > when + SKEW_MS else 0
                return Change(message, counted_at(decoded, when), event, ahead_ms)
        elif isinstance(decoded, (Impression, Item, Tombstone)):
            metrics.events.labels(message.topic, self._known_items.outcome(decoded)).inc()
        else:
            raise TypeError(f"{message.topic}: nothing here takes a {type(decoded).__name__}")
        self._pending.events.append(event)
        return None

    def _message(self, event: EventT[Any]) -> Message:
        kafka = event.message
        topic = self._lies_in(event)
        if topic == ROUTED and (came_from := origin(kafka.headers)) in INPUTS:
            topic = came_from
        return Message(topic, kafka.partition, kafka.offset, kafka.key, kafka.value)

    def _lies_in(self, event: EventT[Any]) -> str:
        return event.message.topic.removeprefix(self._settings.topic_prefix)

    def _reject(self, message: Message, event: EventT[Any], error: BadMessage) -> None:
        metrics.events.labels(message.topic, "rejected").inc()
        self._pending.messages.append(rejected(self._settings, replace(message, topic=self._lies_in(event)), error))
        self._pending.events.append(event)

    def _accept(self, user_id: str, several: Sequence[Change]) -> None:
        clicks = [self._or_erased(change) for change in several]
        outcomes = self.tier.accept(user_id, clicks)
        for change, click, outcome in zip(several, clicks, outcomes, strict=True):
            self._repeats.note(_arrived_ms(change.event), outcome == "duplicate")
            if outcome == "forgotten":
                self._pending.events.append(change.event)
            else:
                wanted = self._touched.setdefault(user_id, Wanted())
                wanted.events.append(change.event)
                wanted.trigger = Trigger(event_id=click.event_id, type=type_of(click))
                wanted.arrived_ms = _arrived_ms(change.event)
                if click.list_id is not None and outcome == "accepted":
                    wanted.feedback.append(Feedback(list_id=click.list_id, item_id=click.item_id))
        for (topic, outcome), many in Counter(zip((c.message.topic for c in several), outcomes, strict=True)).items():
            metrics.events.labels(topic, outcome).inc(many)
        self._repeats.publish()

    def _or_erased(self, change: Change) -> Click:
        """The event; one whose own time tells nothing, and that may be older than a wish to be forgotten, is erased.

        It counts when its record was written, so a producer that sends it once more makes it a new one. No event was
        taken that was over `FUTURE_MS` ahead; so for that long after the wish nobody can tell such an event from one
        that was erased.
        """
        assert isinstance(change.decoded, Click)
        until_ms = self.tier.users.forgotten_until(change.decoded.user_id) if change.ahead_ms else 0
        if change.ahead_ms > until_ms + FUTURE_MS or not until_ms:
            return change.decoded
        return msgspec.structs.replace(change.decoded, timestamp=until_ms)

    def _forget(self, user_id: str, several: Sequence[Change]) -> None:
        """Erase the user; if they came back after wishes that are only repeated, have the list made again instead."""
        is_new = [self.tier.forget(user_id, milliseconds(change.decoded.timestamp)) for change in several]
        for change in several:
            metrics.events.labels(change.message.topic, "accepted").inc()
            self._pending.events.append(change.event)
        if any(is_new) or not self.tier.users.get(user_id).interest.version:
            self._pending.events += self._touched.pop(user_id, Wanted()).events + self._requests.forget(user_id)
            topic = self._settings.topic("rank-requests")
            self._pending.messages.append(Outgoing(topic, user_id.encode(), None, headers=OUR_REQUEST))
        else:
            self.refresh([user_id])

    def _routed(self, message: Message, decoded: Click | Forget, when: int, rewritten: bool) -> bool:
        """Send an event to where its user lives, unless it lies there: our hash of the user's name tells.

        An input topic that has another number of partitions than ours is divided among the workers in another way.
        """
        key = decoded.user_id.encode()
        home = partition_of(key, self._settings.kafka.partitions)
        if home == message.partition and home in self._homes:
            return False
        rewritten = rewritten or self._settings.pseudonym_key is not None
        value = msgspec.json.encode(decoded) if rewritten else message.value
        routed = Outgoing(self._settings.topic(ROUTED), key, value, None, routed_headers(message.topic, when))
        self._pending.messages.append(routed._replace(smaller=partial(self._too_large_to_route, message)))
        metrics.repartitioned.labels(message.topic).inc()
        metrics.events.labels(message.topic, "routed").inc()
        return True

    def _too_large_to_route(self, message: Message, most: int) -> Outgoing:
        """Its producer's compression got it in; on its way to its user's partition it has none."""
        metrics.messages_cut.labels(ROUTED).inc()
        why = f"{message.topic}: got {len(message.value or b'')} bytes, expected at most {most} where the key is not"
        advice = "the one that our partitioner takes; send less text, or partition by murmur2 of the user_id"
        return rejected(self._settings, message, BadMessage("too-large", f"{why} {advice}"))

    async def _flush(self) -> None:
        """Make durable what was applied since the last flush; then its users may get their requests."""
        pending, self._pending = self._pending, Pending()
        touched, self._touched = self._touched, {}
        changes = self.tier.users.begin_flush()
        states = [
            Outgoing(self._changelog, key, value, partition_of(user_id.encode(), self._settings.kafka.partitions))
            for user_id, values in changes.items()
            for key, value in values.items()
        ]
        places = await self._producer.deliver([*states, *pending.messages])
        self._store.apply(
            [(state.key or b"", state.value, place) for state, place in zip(states, places, strict=False)]
        )
        self.tier.users.end_flush()
        self.acks.done(pending.events)
        for user_id, newer in touched.items():
            self._requests.want(user_id, newer)
        metrics.users_flushed.inc(len(changes))
        for state in states:
            if state.value is not None and state.key and state.key[:1] == b"u":
                metrics.state_bytes.observe(len(state.value))


def _arrived_ms(event: EventT[Any]) -> int:
    return round((event.message.timestamp or time.time()) * 1000)
