"""What the newest messages of the inputs are like: how many would be rejected and why, what is taken though loose.

Reads a bounded number of messages within a bounded time, without a consumer group, and changes nothing. Called by the
doctor. Knows nothing of a worker: it says what any worker would make of these messages.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.contracts import DeadLetter, Item
from streams.kafka import client as kafka_client
from streams.kafka.own_messages import is_our_request
from streams.kafka.record_time import Record, RecordTimes, receive_dated
from streams.kafka.reject import summary
from streams.receive.decode import INPUTS
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import Settings

MOST_MESSAGES, MOST_LETTERS, SECONDS = 1_000, 10_000, 5.0
"""Of each input, of the dead letters, and for all of them: chosen by us, for a person waits."""
MANY = 0.05
"""Share of rejected messages from which on something is wrong with a producer; chosen by us."""


@dataclass
class Finding:
    """Of one input's newest messages.

    Attributes
    ----------
    rejected, taken : how many by cause, and how many values by kind (`lenient`).
    items : ids that are in the catalogue, of the topic `items`.
    whole : the whole topic was read.
    """

    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    items: set[str] = field(default_factory=set)
    whole: bool = True

    @property
    def too_many(self) -> bool:
        """Whether so many are rejected that it is no accident."""
        return self.rejected.total() > MANY * self.read

    def __str__(self) -> str:
        if not self.read:
            return "none"
        parts = [f"newest {self.read:,}: {self.rejected.total():,} rejected"]
        parts += [f"causes: {summary(self.rejected)}"] if self.rejected else []
        parts += [f"taken though loose: {summary(self.taken)}"] if self.taken else []
        return "; ".join(parts)


@dataclass
class Letters:
    """Of the newest dead letters: how many rejected messages of which topic, by cause, and how many it has in all."""

    causes: dict[str, Counter[str]] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join(
            f"{topic}: {causes.total():,} of {self.messages[topic]:,} rejected: {summary(causes)}"
            for topic, causes in self.causes.items()
        )


async def look(settings: Settings, present: Mapping[str, int]) -> tuple[dict[str, Finding], Letters]:
    """Read the newest messages of every input that is there, and the newest dead letters.

    Parameters
    ----------
    present : topics in Kafka, by full name, and how many partitions each has.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer, or does not let us read.
    """
    consumer = kafka_client.consumer(settings.kafka, group_id=None)
    names = {settings.topic(topic): topic for topic in INPUTS if settings.topic(topic) in present}
    deadline = time.monotonic() + SECONDS
    found = {topic: Finding() for topic in names.values()}
    letters = Letters()
    async with kafka_client.started(consumer, settings.kafka):
        times = RecordTimes(settings.kafka)
        for name, topic in names.items():
            async for records, whole in _newest(consumer, name, present[name], MOST_MESSAGES, deadline):
                await _judge(settings, times, topic, records, found[topic])
                found[topic].whole &= whole
        if (name := settings.topic("dead-letters")) in present:
            await _read_letters(settings, consumer, name, present, deadline, letters)
    return found, letters


async def _newest(
    consumer: AIOKafkaConsumer, topic: str, partitions: int, most: int, deadline: float
) -> AsyncIterator[tuple[Sequence[Any], bool]]:
    """The newest records, in batches; with each, whether nothing of its partition is left out."""
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(parts)
    begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    each = max(1, most // partitions)
    for part in parts:
        consumer.seek(part, max(begins[part], ends[part] - each))
    while time.monotonic() < deadline:
        unread = [part for part in parts if await consumer.position(part) < ends[part]]
        if not unread:
            return
        for part, records in (await consumer.getmany(*unread, timeout_ms=500)).items():
            yield [record for record in records if record.offset < ends[part]], ends[part] - each <= begins[part]
    yield [], False  # there was no time for the rest


async def _judge(settings: Settings, times: RecordTimes, topic: str, records: Sequence[Any], finding: Finding) -> None:
    await times.look(map(Record.of, records))
    for record in records:
        finding.read += 1
        taken: list[str] = []
        message = Message(topic, record.partition, record.offset, record.key, record.value)
        ours = topic == "rank-requests" and is_our_request(record.headers)
        try:
            received, _ = receive_dated(times, Record.of(record), message, settings.zone, ours, taken)
        except BadMessage as error:
            finding.rejected[error.cause] += 1
            continue
        finding.taken.update(taken)
        if isinstance(received, Item):
            finding.items.add(received.item_id)
        elif isinstance(received, Tombstone):
            finding.items.discard(received.key)


async def _read_letters(
    settings: Settings,
    consumer: AIOKafkaConsumer,
    name: str,
    present: Mapping[str, int],
    deadline: float,
    letters: Letters,
) -> None:
    seen: dict[str, dict[tuple[int, int], str]] = {}
    async for records, _ in _newest(consumer, name, present[name], MOST_LETTERS, deadline):
        for record in records:
            try:
                letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            # By its place: the same message may have two letters, if a worker died in between.
            seen.setdefault(letter.topic, {})[letter.partition, letter.offset] = letter.cause or "cause not noted"
    for topic in sorted(seen.keys() & {topic for topic in INPUTS if settings.topic(topic) in present}):
        parts = [TopicPartition(settings.topic(topic), number) for number in range(present[settings.topic(topic)])]
        begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        span = {part.partition: range(begins[part], ends[part]) for part in parts}
        causes = Counter(cause for (part, at), cause in seen[topic].items() if at in span.get(part, ()))
        if causes:
            letters.causes[topic] = causes
            letters.messages[topic] = sum(map(len, span.values()))
