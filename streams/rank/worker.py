"""The rank tier on Kafka: rank requests in, lists out to the topic and to Redis.

A micro-batcher after Text Embeddings Inference's: no timer; while the model works, requests gather, and what has
gathered is the next batch; a full one is handed over while the model still works, so that it never waits for us. Of
one user only the newest request is ranked. If the model fails or takes too long, the batch is ranked without it and
the lists say so. A request is acknowledged when its list, or a
newer one of its user, is out. Knows no Faust but its events; `worker` makes the app and the agent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any, NamedTuple

import faust
import msgspec

from encoders.describe import describe_item
from encoders.models.usage import Usage
from ranker.score import Learner, LearningTotals, Scorer
from streams import metrics
from streams.contracts import COLD_START_USER, RankRequest, Recommendations
from streams.faust_compat.fencing import MembershipLost
from streams.kafka.acks import InOrder
from streams.kafka.compacted_reader import Records, items_of
from streams.kafka.message_size import outgoing_list
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import is_our_request
from streams.kafka.record_time import Record, RecordTimes, counted_at, receive_dated
from streams.kafka.reject import rejected
from streams.kafka.reliable_producer import ReliableProducer
from streams.publish.backfill import Refill
from streams.publish.list_cache import Published
from streams.rank.tier import RankTier
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import Settings

logger = logging.getLogger(__name__)

MOST_PENDING = 5_000
"""Requests taken and not yet ranked; past it the agent waits, and Kafka keeps the rest."""


CATCH_UP_S = 5.0
"""Chosen by us: reading `MOST_PENDING` requests takes a second; what retention deleted never comes."""
MOST_LATE = 256
"""Lists made without the model at a time, so that publishing goes on."""
AT_MODEL = 2
"""Batches at the model: the one it works on, and the next."""


@dataclass
class Waiting:
    """One user's newest request, and every event that it answers. `request` is None for a user to be forgotten."""

    user_id: str
    request: RankRequest | None
    events: list[Any] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


@dataclass
class Pace:
    """How it goes with one arm's model."""

    overdue: asyncio.Future[list[Recommendations]] | None = None
    """A call that its batch did not wait for."""
    free_since: float = 0.0
    """When it was done with its last batch."""
    lists_per_s: float = 0.0
    """Lately."""
    scorer: Scorer | None = None
    usage: Usage = field(default_factory=Usage)
    """Of that scorer, as last published."""
    learning: LearningTotals = field(default_factory=LearningTotals)


class Ranked(NamedTuple):
    """A batch that is ready to be published, and dead letters with the events that they are of."""

    batch: list[Waiting]
    lists: list[Recommendations]
    letters: list[tuple[Outgoing, Any]]


class RankWorker:
    """Steps 4 to 6."""

    def __init__(
        self, settings: Settings, tier: RankTier, producer: ReliableProducer, cache: Refill, model_threads: Executor
    ) -> None:
        self._settings = settings
        self._tier = tier
        self._producer = producer
        self._cache = cache
        self._waiting: dict[str, Waiting] = {}
        self._letters: list[tuple[Outgoing, Any]] = []
        self.acks = InOrder()
        self._times = RecordTimes(settings.kafka)
        self._arrived = asyncio.Event()
        self._room = asyncio.Condition()
        self._publishing = asyncio.Lock()
        self._behind: dict[Any, int] = {}  # partition -> offset up to which requests lay there when it became ours
        self._caught_up = asyncio.Event()
        self._caught_up.set()
        self._model_threads = model_threads
        self._at_model: set[asyncio.Task[Ranked]] = set()
        self._paces = [Pace() for _ in tier.scorers]

    async def take(self, event: faust.Event) -> None:
        """Note one message; returns at once unless too many wait."""
        kafka = event.message
        message = Message("rank-requests", kafka.partition, kafka.offset, kafka.key, kafka.value)
        if not self.acks.take(kafka.tp, event):
            return
        if kafka.offset + 1 >= self._behind.get(kafka.tp, float("inf")):
            del self._behind[kafka.tp]
        if not self._behind or len(self.acks) >= MOST_PENDING:
            self._caught_up.set()
        await self._times.look([Record.of(kafka)])
        try:
            received = self._receive(message, kafka)
        except BadMessage as error:
            metrics.events.labels("rank-requests", "rejected").inc()
            self._letters.append((rejected(self._settings, message, error), event))
        else:
            metrics.events.labels("rank-requests", "accepted").inc()
            if isinstance(received, RankRequest):
                self._replace(Waiting(received.user_id, received), event)
            else:
                self._replace(Waiting(received.key, None), event)
        self._arrived.set()
        if len(self.acks) >= MOST_PENDING:
            async with self._room:
                await self._room.wait_for(lambda: len(self.acks) < MOST_PENDING)

    def _receive(self, message: Message, kafka: Any) -> RankRequest | Tombstone:
        """Decode a request; one of our own state tier's is taken whatever time it bears, for it was bounded there."""
        ours, taken = is_our_request(kafka.headers), list[str]()
        received, written_ms = receive_dated(self._times, Record.of(kafka), message, self._settings.zone, ours, taken)
        for kind in taken:
            metrics.values_coerced.labels("rank-requests", kind).inc()
        if isinstance(received, Tombstone):
            return received
        if not isinstance(received, RankRequest):
            raise TypeError(f"rank-requests: nothing here takes a {type(received).__name__}")
        return received if ours else counted_at(received, written_ms)

    async def run(self) -> None:
        """Rank for ever, and publish one batch while the next is ranked.

        An error other than Kafka, Redis or the model failing is a bug and ends the worker.
        """
        batches: asyncio.Queue[asyncio.Task[Ranked]] = asyncio.Queue(AT_MODEL)
        await asyncio.gather(self._rank_all(batches), self._publish_all(batches))

    def resume(self, behind: Mapping[Any, int]) -> None:
        """Partitions became ours. Nothing is ranked before what lies there is read up to these offsets.

        Who had them may have died with lists out and their requests not committed: answering the older request of a
        user first would send the user's list back.
        """
        self._behind = dict(behind)
        if behind:
            self._caught_up.clear()

    async def _rank_all(self, batches: asyncio.Queue[asyncio.Task[Ranked]]) -> None:
        """Start a batch when the model is free, or a full one ahead of that; `_arrived` says that either may be."""
        while True:
            await self._arrived.wait()
            if not self._caught_up.is_set():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._caught_up.wait(), CATCH_UP_S)
                self._caught_up.set()
            letters, self._letters = self._letters, []
            late = self._take_late()
            if late or letters:
                await batches.put(asyncio.create_task(self._without_model(late, letters)))
            variant = self._next_variant()
            most = self._most(variant)
            room = len(self._at_model) < (AT_MODEL if len(self._waiting) >= most else 1)
            if room and (batch := self._take(variant, most)):
                task = asyncio.create_task(self._with_model(variant, batch))
                self._at_model.add(task)
                task.add_done_callback(self._came_back)
                await batches.put(task)
            else:
                self._arrived.clear()

    def _came_back(self, task: asyncio.Task[Ranked]) -> None:
        self._at_model.discard(task)
        self._arrived.set()

    async def _with_model(self, variant: int, batch: list[Waiting]) -> Ranked:
        started = time.monotonic()
        lists = await self._rank(variant, batch)
        now = time.monotonic()
        pace = self._paces[variant]
        per_s = len(batch) / (now - max(started, pace.free_since))
        pace.lists_per_s = (pace.lists_per_s + per_s) / 2 if pace.lists_per_s else per_s
        pace.free_since = now
        return Ranked(batch, lists, [])

    async def _without_model(self, late: list[Waiting], letters: list[tuple[Outgoing, Any]]) -> Ranked:
        requests = [one.request for one in late if one.request is not None]
        return Ranked(late, self._tier.rank_without_model(requests, "overload", _now_ms()), letters)

    def _take_late(self) -> list[Waiting]:
        """Requests that waited too long: a list now without the model beats a better one some day."""
        oldest_since = time.monotonic() - self._settings.ranker.max_wait_ms / 1000
        late = takewhile(lambda user_id: self._waiting[user_id].since < oldest_since, self._waiting)
        return [self._waiting.pop(user_id) for user_id in list(islice(late, MOST_LATE))]

    def _next_variant(self) -> int:
        """That of the user who waits longest."""
        return next((self._tier.variant(user_id) for user_id in self._waiting), 0)

    def _take(self, variant: int, most: int) -> list[Waiting]:
        """A batch is of one arm's users: a model that fails or is slow must not harm the other's."""
        theirs = (user_id for user_id in self._waiting if self._tier.variant(user_id) == variant)
        taken = [self._waiting.pop(user_id) for user_id in list(islice(theirs, most))]
        metrics.requests_pending.set(len(self._waiting))
        return taken

    def _most(self, variant: int) -> int:
        """It may take half of what a request may wait: a large batch on a slow model would make all of it late."""
        ranker, lists_per_s = self._settings.ranker, self._paces[variant].lists_per_s
        in_time = max(1, int(lists_per_s * ranker.max_wait_ms / 2000)) if lists_per_s else ranker.batch_lists
        return min(ranker.batch_lists, in_time)

    async def _publish_all(self, batches: asyncio.Queue[asyncio.Task[Ranked]]) -> None:
        while True:
            done = await (await batches.get())
            async with self._publishing:
                try:
                    await self._publish(self._ours(done))
                except MembershipLost as error:
                    logger.warning("%s", error)
                    metrics.leases_lost.labels("rank").inc()
            async with self._room:
                self._room.notify_all()

    async def prepare(self, records: Records) -> None:
        """Let the model see a batch of the `items` topic ahead of its requests."""
        received, _ = await items_of(records, self._times, self._settings.zone)
        texts = [describe_item(item) for item, _ in received.values() if item]
        await asyncio.get_running_loop().run_in_executor(self._model_threads, self._tier.prepare, texts)

    async def hand_over(self, partitions: Collection[Any]) -> None:
        """These partitions are somebody else's now: finish what is going out, leave them the rest, keep nothing."""
        self._forget(None)
        async with self._publishing:
            for user_id, one in list(self._waiting.items()):
                if any(event.message.tp in partitions for event in one.events):
                    del self._waiting[user_id]
            self.acks.drop(partitions)

    async def close(self, timeout_s: float) -> None:
        """Before the end: take nothing more, and finish what was taken as far as the time allows."""
        # Where we did not catch up, a request that was taken may be older than a list that is out.
        await self.acks.close(timeout_s if self._caught_up.is_set() else 0)

    def _ours(self, done: Ranked) -> Ranked:
        """Without what was handed over while the model had it: the new owner may have published newer lists."""
        batch = [one for one in done.batch if self.acks.holds(one.events[-1])]
        users = {one.user_id for one in batch}
        return Ranked(
            batch,
            [list_ for list_ in done.lists if list_.user_id in users],
            [(letter, event) for letter, event in done.letters if self.acks.holds(event)],
        )

    def _forget(self, users: Collection[str] | None) -> None:
        """Have the model erase what is kept of them, once it is done with what it has in hand; of all, for None."""
        if users is None or users:
            self._model_threads.submit(self._tier.forget, users).add_done_callback(_tell)

    def _replace(self, newer: Waiting, event: Any) -> None:
        older = self._waiting.get(newer.user_id)
        if older is not None:
            metrics.requests_superseded.inc()
            newer.events, newer.since = older.events, older.since
            if older.request and newer.request and older.request.feedback:
                feedback = [*older.request.feedback, *newer.request.feedback]
                newer.request = msgspec.structs.replace(newer.request, feedback=feedback)
        newer.events.append(event)
        self._waiting[newer.user_id] = newer

    async def _rank(self, variant: int, batch: list[Waiting]) -> list[Recommendations]:
        """Steps 4 and 5, outside the loop."""
        requests = [one.request for one in batch if one.request is not None]
        now_ms = _now_ms()
        if not requests:
            return []
        pace, ranker = self._paces[variant], self._settings.ranker
        if pace.overdue is not None and not pace.overdue.done():
            return self._tier.rank_without_model(requests, "model-busy", now_ms)
        for one in batch:
            metrics.queue_seconds.labels(self._tier.model(variant)).observe(time.monotonic() - one.since)
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._model_threads, self._tier.rank, requests, now_ms)
        try:
            ranked = await asyncio.wait_for(asyncio.shield(call), ranker.timeout_ms / 1000)
        except asyncio.TimeoutError:
            pace.overdue = call
            logger.error("the model took over %d ms; lists keep their candidates' order", ranker.timeout_ms)
            return self._tier.rank_without_model(requests, "model-timeout", now_ms)
        except Exception as error:  # whatever a model raises, its users still get a list
            logger.exception("the model failed (%r); lists keep their candidates' order", error)
            return self._tier.rank_without_model(requests, "model-error", now_ms)
        self._observe_usage(variant, len(requests))
        return ranked

    async def _publish(self, done: Ranked) -> None:
        """Step 6; then its requests are acknowledged."""
        batch, ranked = done.batch, done.lists
        requests = {one.user_id: one.request for one in batch}
        forgotten = [Published(user_id, None) for user_id, request in requests.items() if request is None]
        published = [Published.of(list_) for list_ in ranked] + forgotten
        topic = self._settings.topic("recommendations")
        lists = [outgoing_list(topic, one.user_id, one.payload) for one in published]
        places = await self._producer.deliver([*lists, *(letter for letter, _ in done.letters)])
        if published:
            await self._cache.write(published, places[: len(lists)])
        if forgotten:
            self._forget({one.user_id for one in forgotten})
        self.acks.done([event for one in batch for event in one.events] + [event for _, event in done.letters])
        metrics.lists_forgotten.inc(len(forgotten))
        now_ms = _now_ms()
        for list_ in ranked:
            metrics.lists.labels(list_.model).inc()
            if list_.user_id == COLD_START_USER:  # nobody's event, and cold as it is meant to be
                continue
            if list_.degraded:
                metrics.lists_degraded.labels(list_.model, list_.degraded).inc()
            metrics.list_age_seconds.labels(list_.model).set((now_ms - list_.as_of) / 1000)
            request = requests[list_.user_id]
            if list_.trigger and request and request.arrived_at:
                arrived = metrics.event_to_list_seconds.labels(list_.model, "arrival")
                arrived.observe(max(0, now_ms - request.arrived_at) / 1000)
                metrics.event_to_list_seconds.labels(list_.model, "event").observe(max(0, now_ms - list_.as_of) / 1000)

    def _observe_usage(self, variant: int, lists: int) -> None:
        scorer, pace = self._tier.scorers[variant], self._paces[variant]
        if scorer is None:
            return
        if scorer is not pace.scorer:
            pace.scorer, pace.usage, pace.learning = scorer, Usage(), LearningTotals()
        model, before, now = scorer.name, pace.usage, scorer.usage
        if now.requests < before.requests:  # its process began anew
            before = Usage()
        metrics.batch_lists.labels(model).observe(lists)
        tokens = now.context_tokens + now.candidate_tokens - before.context_tokens - before.candidate_tokens
        metrics.batch_tokens.labels(model).observe(tokens)
        metrics.padding_tokens.labels(model).inc(now.padding_tokens - before.padding_tokens)
        reused = now.context_tokens_reused - before.context_tokens_reused
        metrics.context_tokens_reused.labels(model).inc(reused)
        metrics.contexts.labels(model, "some").inc(now.context_hits - before.context_hits)
        metrics.contexts.labels(model, "none").inc(now.context_misses - before.context_misses)
        metrics.context_bytes.labels(model).set(now.context_bytes)
        metrics.truncated_contexts.labels(model).inc(now.truncated_contexts - before.truncated_contexts)
        metrics.truncated_texts.labels(model).inc(now.truncated_candidates - before.truncated_candidates)
        metrics.tokenise_seconds.labels(model).observe(now.tokenise_seconds - before.tokenise_seconds)
        metrics.inference_seconds.labels(model).observe(now.inference_seconds - before.inference_seconds)
        pace.usage = replace(now)
        self._observe_lessons(scorer, pace)

    def _observe_lessons(self, scorer: Scorer, pace: Pace) -> None:
        now = scorer.learning if isinstance(scorer, Learner) else None
        if now is None:
            return
        before, model = pace.learning, scorer.name
        if now.feedback < before.feedback:  # its process began anew
            before = LearningTotals()
        metrics.heads_rolled_back.labels(model).inc(now.rolled_back - before.rolled_back)
        metrics.feedback_loss.labels(model, "live").inc(now.live_loss - before.live_loss)
        metrics.feedback_loss.labels(model, "frozen").inc(now.frozen_loss - before.frozen_loss)
        pace.learning = replace(now)


def _tell(forgetting: Future[None]) -> None:
    if error := forgetting.exception():
        logger.error("the model kept what it was to forget (%r); its process is to be restarted", error)


def _now_ms() -> int:
    return round(time.time() * 1000)
