"""Send the messages of a replay to Kafka, and know at each moment which of them Kafka has.

Every item is acknowledged before the first event is sent. The events go at full speed, or paced by their own times. The
event's time is in its value; the Kafka record's time is the time of sending. Knows no file.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from ranker.progress import Progress
from streams.datasets.messages import Replay, ReplayMessage
from streams.faust_compat.constants import NO_RIGHT
from streams.kafka.client import admin, client_options, started
from streams.kafka.topics import TopicError, ensure_topics, partitions_by_topic, topic_specs
from streams.settings import Settings

WINDOW = 5_000  # messages sent before their acknowledgements are awaited: bounds memory, costs no speed
BATCH_BYTES = 1 << 17
LINGER_MS = 5
GIVE_UP_MS = 40_000  # aiokafka's own default: a broker that starts again is back by then
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


@dataclass(frozen=True)
class SendPlan:
    """Which events are sent, and how fast.

    Attributes
    ----------
    speed : float, optional
        X times as fast as the events occurred, by their own times; by default as fast as Kafka accepts them.
    limit : int, optional
        Most events to send; items are not counted.
    skip : int
        Messages at the beginning that are not sent, because Kafka has them from an earlier run.
    """

    speed: float | None = None
    limit: int | None = None
    skip: int = 0


class Sender:
    """Sends the messages of one replay, and counts what Kafka acknowledged.

    Parameters
    ----------
    replay : Replay
    settings : Settings
    plan : SendPlan
    progress : Progress, optional
        In the unit of the replay.

    Attributes
    ----------
    sent : Counter
        Topic, without the prefix -> the messages that Kafka acknowledged.
    too_large : int
        Messages that Kafka does not take because of their size.
    done : int
        The first so many messages of the replay are done: skipped, acknowledged or too large.
    seconds, events_per_s : float
        The time for all messages; the rate of the events, without the time for the items.
    """

    def __init__(
        self, replay: Replay, settings: Settings, plan: SendPlan = SendPlan(), progress: Progress | None = None
    ) -> None:
        self._replay, self._settings, self._plan, self._progress = replay, settings, plan, progress
        self.sent: Counter[str] = Counter()
        self.too_large = 0
        self.done = plan.skip
        self.seconds = self.events_per_s = 0.0
        self._waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self._producer: Any = None

    async def run(self) -> None:
        """Send all items, then the events, and return once Kafka has acknowledged them all.

        Raises
        ------
        streams.kafka.client.KafkaUnavailable
            Kafka does not answer, or lost or refused a message after aiokafka's own retries.
        streams.kafka.topics.TopicError
            A topic is missing and must not be created, or has settings that the worker cannot use, or was deleted.
        """
        needed = {self._settings.topic(topic) for topic in self._replay.topics}
        await ensure_topics(self._settings, [spec for spec in topic_specs(self._settings) if spec.name in needed])
        self._producer = AIOKafkaProducer(
            **client_options(self._settings.kafka),
            acks="all",
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=GIVE_UP_MS,
        )
        try:
            async with started(self._producer, self._settings.kafka):
                try:
                    await self._send_all()
                except KafkaError as error:
                    if not isinstance(error, NO_RIGHT):
                        await self._look_for(needed)
                    raise
        finally:  # the producer has stopped: what it sends is acknowledged, or never will be
            self._collect()

    async def _send_all(self) -> None:
        began = items_done = time.monotonic()
        events, first_ms = 0, None
        for message in self._messages():
            if message.topic != "items":
                if events == self._plan.limit:
                    break
                if events == 0:
                    await self._flush()
                    items_done = time.monotonic()
                if self._plan.speed is not None and message.time_ms is not None:
                    first_ms = message.time_ms if first_ms is None else first_ms
                    await self._wait_until(items_done + (message.time_ms - first_ms) / 1000 / self._plan.speed)
                events += 1
            await self._put(message)
        await self._flush()
        self.seconds = time.monotonic() - began
        sent_events = self.sent.total() - self.sent["items"]
        self.events_per_s = sent_events / (time.monotonic() - items_done) if sent_events else 0.0

    def _messages(self) -> Iterator[ReplayMessage]:
        return islice(self._replay.messages(), self._plan.skip, None)

    async def _put(self, message: ReplayMessage) -> None:
        topic, key, value, _ = message
        try:
            future = await self._producer.send(self._settings.topic(topic), value, key)
        except TOO_LARGE as error:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
        self._waiting.append((topic, future))
        if len(self._waiting) >= WINDOW:
            await self._flush()

    async def _wait_until(self, due: float) -> None:
        if due > time.monotonic():
            await self._flush()
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _flush(self) -> None:
        if self._waiting:
            await asyncio.wait([future for _, future in self._waiting])
        if failure := self._collect():
            raise failure
        if self._progress:
            self._progress(*self._replay.progress(self.done))

    def _collect(self) -> BaseException | None:
        """Count the messages that are done; return why the first one that is not cannot be."""
        failure = None
        for topic, future in self._waiting:
            unfinished = not future.done() or future.cancelled()
            error = asyncio.CancelledError() if unfinished else future.exception()
            if error is None:
                self.sent[topic] += 1
            elif isinstance(error, TOO_LARGE):
                self.too_large += 1
            else:
                failure = failure or error
            self.done += failure is None
        self._waiting.clear()
        return failure

    async def _look_for(self, needed: set[str]) -> None:
        """Raise an error that names a topic which is there no more."""
        async with admin(self._settings.kafka) as client:
            missing = sorted(needed - set(await partitions_by_topic(client)))
        if missing:
            raise TopicError(
                f"topic {missing[0]}: got none any more, expected it until all is sent; create it again: "
                "afterclick topics --apply"
            )
