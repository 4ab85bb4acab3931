"""Read the newest messages of the inputs: how many a worker would reject and why, and which deviations it accepts.

Reads a bounded number of messages within a bounded time, without a consumer group, and changes nothing. Knows nothing
of a running worker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from encoders.describe import describe_item
from streams.contracts import DeadLetter, Item
from streams.kafka import client as kafka_client
from streams.kafka.newest_records import newest_records
from streams.kafka.own_messages import is_our_request
from streams.kafka.record_reader import RecordReader
from streams.kafka.reject import summary
from streams.kafka.team_topics import inputs_by_topic
from streams.receive.decode import INPUTS
from streams.receive.message import BadMessage, Tombstone
from streams.settings import Settings

MAX_MESSAGES, MAX_LETTERS, TIME_LIMIT_S = 1_000, 10_000, 5.0
"""Messages of each input, dead letters, and seconds for all of them. Chosen by us, because a person waits."""
MAX_REJECTED_SHARE = 0.05
"""Above this share of rejected messages something is wrong with a producer. Chosen by us."""


@dataclass
class Finding:
    """The newest records of one topic, counted.

    Attributes
    ----------
    mapped : bool
        Whether the topic is one of the team's.
    read : int
        The number of records that were read.
    messages : Counter of str
        The messages in them that a worker would accept, by input.
    not_ours : int
        Records of a topic of the team's that are for no input.
    rejected : Counter of str
        Records that a worker would reject, by cause.
    coerced : Counter of str
        Values that deviate from the contract and are accepted, by kind (`lenient`).
    items : dict of str to str
        The texts of the items that are in the catalogue, by id, of a topic with items.
    whole : bool
        Whether the whole topic was read.
    """

    mapped: bool = False
    read: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    not_ours: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    coerced: Counter[str] = field(default_factory=Counter)
    items: dict[str, str] = field(default_factory=dict)
    whole: bool = True

    @property
    def too_many(self) -> bool:
        """Whether the share of rejected messages is above the limit."""
        return self.rejected.total() > MAX_REJECTED_SHARE * self.read

    @property
    def useless(self) -> bool:
        """Whether no record of a topic of the team's is for an input."""
        return 0 < self.read == self.not_ours

    def __str__(self) -> str:
        if not self.read:
            return "none"
        parts = [f"newest {self.read:,}: {self.rejected.total():,} rejected"]
        parts += [f"as {topic}: {count:,}" for topic, count in self.messages.items() if self.mapped]
        parts += [f"for no input: {self.not_ours:,}"] if self.mapped else []
        parts += [f"causes: {summary(self.rejected)}"] if self.rejected else []
        parts += [f"deviations accepted: {summary(self.coerced)}"] if self.coerced else []
        return "; ".join(parts)


@dataclass
class Letters:
    """The newest dead letters, counted.

    Attributes
    ----------
    causes : dict of str to Counter of str
        Rejected messages that are still in their topic, by full name of the topic and by cause.
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
    reader = RecordReader(settings)
    names = [name for name in _inputs(settings) if name in present]
    deadline = time.monotonic() + TIME_LIMIT_S
    findings = {name: Finding(mapped=reader.is_mapped(name)) for name in names}
    letters = Letters()
    async with kafka_client.started(consumer, settings.kafka):
        for name, finding in findings.items():
            async for records, whole in newest_records(consumer, name, present[name], MAX_MESSAGES, deadline):
                await _judge(reader, records, finding)
                finding.whole &= whole
        if (name := settings.topic("dead-letters")) in present:
            await _read_letters(settings, consumer, name, present, deadline, letters)
    return findings, letters


def _inputs(settings: Settings) -> list[str]:
    """Return the full names of all input topics, the team's among them."""
    return [*map(settings.topic, INPUTS), *inputs_by_topic(settings)]


async def _judge(reader: RecordReader, records: Sequence[Any], finding: Finding) -> None:
    await reader.prepare(records, wait=False)
    for record in records:
        finding.read += 1
        whole = reader.whole(record)
        ours = whole.topic == "rank-requests" and is_our_request(record.headers)
        try:
            received = [reader.receive(record, whole, from_worker=True)] if ours else reader.read(record)
        except BadMessage as error:
            finding.rejected[error.cause] += 1
            continue
        finding.not_ours += not received
        for message, decoded, _, coerced in received:
            finding.messages[message.topic] += 1
            finding.coerced.update(coerced)
            if isinstance(decoded, Item):
                finding.items[decoded.item_id] = describe_item(decoded)
            elif isinstance(decoded, Tombstone):
                finding.items.pop(decoded.key, None)


async def _read_letters(
    settings: Settings,
    consumer: AIOKafkaConsumer,
    name: str,
    present: Mapping[str, int],
    deadline: float,
    letters: Letters,
) -> None:
    seen: dict[str, dict[tuple[int, int], str]] = {}
    async for records, _ in newest_records(consumer, name, present[name], MAX_LETTERS, deadline):
        for record in records:
            try:
                letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            # By partition and offset: a message may have two letters, if a worker died in between.
            topic = letter.topic if letter.mapped else settings.topic(letter.topic)
            seen.setdefault(topic, {})[letter.partition, letter.offset] = letter.cause or "cause not noted"
    for topic in sorted(seen.keys() & present.keys() & set(_inputs(settings))):
        parts = [TopicPartition(topic, number) for number in range(present[topic])]
        begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        span = {part.partition: range(begins[part], ends[part]) for part in parts}
        causes = Counter(cause for (part, offset), cause in seen[topic].items() if offset in span.get(part, ()))
        if causes:
            letters.causes[topic] = causes
            letters.messages[topic] = sum(map(len, span.values()))
