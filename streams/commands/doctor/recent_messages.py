"""Read the newest messages of the inputs: how many a worker would reject and why, and which deviations it accepts.

Reads a bounded number of messages within a bounded time, without a consumer group, and changes nothing. Knows nothing
of a running worker.
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

MAX_MESSAGES, MAX_LETTERS, TIME_LIMIT_S = 1_000, 10_000, 5.0
"""Messages of each input, dead letters, and seconds for all of them. Chosen by us, because a person waits."""
MAX_REJECTED_SHARE = 0.05
"""Above this share of rejected messages something is wrong with a producer. Chosen by us."""


@dataclass
class Finding:
    """The newest messages of one input, counted.

    Attributes
    ----------
    read : int
        The number of messages that were read.
    rejected : Counter of str
        Messages that a worker would reject, by cause.
    coerced : Counter of str
        Values that deviate from the contract and are accepted, by kind (`lenient`).
    items : set of str
        Ids that are in the catalogue, of the topic `items`.
    whole : bool
        Whether the whole topic was read.
    """

    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    coerced: Counter[str] = field(default_factory=Counter)
    items: set[str] = field(default_factory=set)
    whole: bool = True

    @property
    def too_many(self) -> bool:
        """Whether the share of rejected messages is above the limit."""
        return self.rejected.total() > MAX_REJECTED_SHARE * self.read

    def __str__(self) -> str:
        if not self.read:
            return "none"
        parts = [f"newest {self.read:,}: {self.rejected.total():,} rejected"]
        parts += [f"causes: {summary(self.rejected)}"] if self.rejected else []
        parts += [f"deviations accepted: {summary(self.coerced)}"] if self.coerced else []
        return "; ".join(parts)


@dataclass
class Letters:
    """The newest dead letters, counted.

    Attributes
    ----------
    causes : dict of str to Counter of str
        Rejected messages that are still in their topic, by topic and cause.
    messages : dict of str to int
        All messages of these topics.
    """

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
    settings : Settings
        Where Kafka is.
    present : mapping of str to int
        The number of partitions of every topic in Kafka, by full name.

    Raises
    ------
    KafkaUnavailable
        Kafka does not answer, or does not let us read.
    """
    consumer = kafka_client.consumer(settings.kafka, group_id=None)
    names = {settings.topic(topic): topic for topic in INPUTS if settings.topic(topic) in present}
    deadline = time.monotonic() + TIME_LIMIT_S
    findings = {topic: Finding() for topic in names.values()}
    letters = Letters()
    async with kafka_client.started(consumer, settings.kafka):
        times = RecordTimes(settings.kafka)
        for name, topic in names.items():
            async for records, whole in _newest(consumer, name, present[name], MAX_MESSAGES, deadline):
                await _judge(settings, times, topic, records, findings[topic])
                findings[topic].whole &= whole
        if (name := settings.topic("dead-letters")) in present:
            await _read_letters(settings, consumer, name, present, deadline, letters)
    return findings, letters


async def _newest(
    consumer: AIOKafkaConsumer, topic: str, partitions: int, limit: int, deadline: float
) -> AsyncIterator[tuple[Sequence[Any], bool]]:
    """Yield the newest records in batches, each with whether nothing of its partition is left out."""
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(parts)
    begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    each = max(1, limit // partitions)
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
        coerced: list[str] = []
        message = Message(topic, record.partition, record.offset, record.key, record.value)
        ours = topic == "rank-requests" and is_our_request(record.headers)
        try:
            received, _ = receive_dated(times, Record.of(record), message, settings.zone, ours, coerced)
        except BadMessage as error:
            finding.rejected[error.cause] += 1
            continue
        finding.coerced.update(coerced)
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
    async for records, _ in _newest(consumer, name, present[name], MAX_LETTERS, deadline):
        for record in records:
            try:
                letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            # By partition and offset: a message may have two letters, if a worker died in between.
            seen.setdefault(letter.topic, {})[letter.partition, letter.offset] = letter.cause or "cause not noted"
    for topic in sorted(seen.keys() & {topic for topic in INPUTS if settings.topic(topic) in present}):
        parts = [TopicPartition(settings.topic(topic), number) for number in range(present[settings.topic(topic)])]
        begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        span = {part.partition: range(begins[part], ends[part]) for part in parts}
        causes = Counter(cause for (part, offset), cause in seen[topic].items() if offset in span.get(part, ()))
        if causes:
            letters.causes[topic] = causes
            letters.messages[topic] = sum(map(len, span.values()))
