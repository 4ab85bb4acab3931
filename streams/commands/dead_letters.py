"""List rejected messages, and send them again once their cause is gone.

`afterclick dead-letters list` shows the topic `dead-letters`. `afterclick dead-letters retry` sends each payload, byte
for byte and with its key, to the partition that it came from. Kafka remembers what was retried, as the committed offset
of the consumer group `{group_id}-dead-letters-retry` and the text beside it: the first call whose filter a letter fits
retries it, and no later call does. If a call is interrupted, the next call may send up to `BATCH` letters a second
time. They count once: an event has an `event_id`, and a record for a topic of the team's has the first record's
position in a header, from which an `event_id` is made. A message that is rejected again becomes a new letter. Knows
nothing of why a message was rejected.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import OffsetAndMetadata

from encoders.errors import AfterclickError
from streams.commands.dead_letter_filter import EVERY, LetterFilter, LetterGroup, LetterGroups, StoredDeadLetter
from streams.commands.retry_position import LARGEST_TEXT, RetryPosition
from streams.contracts import DeadLetter
from streams.kafka import client as kafka_client
from streams.kafka import topics
from streams.kafka.own_messages import retried_headers
from streams.kafka.team_topics import inputs_by_topic
from streams.receive.decode import INPUTS
from streams.settings import Settings

BATCH = 100
ANY_SIZE = 2**31 - 1
"""In bytes. Kafka itself refuses a message that is too large."""


class TooScattered(AfterclickError):
    """Kafka cannot remember which letters a filter left out: they are too many."""


class Retried(msgspec.Struct, frozen=True):
    """The result of a retry.

    Attributes
    ----------
    sent : int
        How many letters were sent.
    unsendable : list of (StoredDeadLetter, str)
        The letters that cannot be sent, each with the reason.
    left : int
        How many letters were left for a later call: the filter or the limit left them out.
    """

    sent: int
    unsendable: list[tuple[StoredDeadLetter, str]]
    left: int = 0


class Listed(NamedTuple):
    """The newest letters, oldest first, and all letters in groups."""

    newest: list[StoredDeadLetter]
    groups: list[LetterGroup]


async def read(settings: Settings, limit: int, wanted: LetterFilter = EVERY) -> Listed:
    """Read the dead letters that a filter means. `newest` has `limit` of them at most.

    Raises
    ------
    streams.kafka.topics.TopicError
        There is no topic for dead letters yet.
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    """
    newest: list[tuple[int, int, int, StoredDeadLetter]] = []
    groups = LetterGroups()
    partitions = (await _partitions(settings))[settings.topic("dead-letters")]
    consumer = _consumer(settings, None)
    async with kafka_client.started(consumer, settings.kafka):
        async for letters in _to_the_end(consumer, settings, partitions):
            fitting = [stored for stored in letters if wanted.fits(stored)]
            groups.add(fitting)
            for stored in fitting:
                heapq.heappush(newest, (stored.stored_at, stored.partition, stored.offset, stored))
                if len(newest) > limit:
                    heapq.heappop(newest)
    return Listed([stored for *_, stored in sorted(newest, key=lambda entry: entry[:3])], groups.all())


async def retry(
    settings: Settings, dry_run: bool = False, wanted: LetterFilter = EVERY, limit: int | None = None
) -> Retried:
    """Send every letter that a filter means and that was not retried before; with `dry_run`, count them only.

    A letter that cannot be sent (see `Retried.unsendable`) is skipped, and later calls skip it too. What the filter or
    the limit leaves out is there for later calls.

    Raises
    ------
    TooScattered
        The letters that fit are scattered among too many that do not. Those before were sent.
    streams.kafka.topics.TopicError
        There is no topic for dead letters yet.
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer. The next call sends the letters that were not sent yet.
    """
    present = await _partitions(settings)
    own = settings.topic("dead-letters")
    sent = left = 0
    unsendable: list[tuple[StoredDeadLetter, str]] = []
    group = f"{settings.kafka.group_id}-dead-letters-retry"
    consumer = _consumer(settings, group)
    producer = AIOKafkaProducer(**kafka_client.client_options(settings.kafka), acks="all", max_request_size=ANY_SIZE)
    async with (
        kafka_client.started(consumer, settings.kafka),
        kafka_client.started(producer, settings.kafka),
    ):
        positions = await _positions(consumer, settings, group, present[own])
        async for letters in _to_the_end(consumer, settings, present[own]):
            position = positions[letters[0].partition]
            new = [stored for stored in letters if not position.was_done(stored.offset)]
            chosen = [stored for stored in new if wanted.fits(stored)]
            chosen = chosen if limit is None else chosen[: max(0, limit - sent - len(unsendable))]
            left += len(new) - len(chosen)
            left_out = {stored.offset for stored in new} - {stored.offset for stored in chosen}
            for stored in letters:
                position.note(stored.offset, is_done=stored.offset not in left_out)
            if len(position.text) > LARGEST_TEXT:
                raise TooScattered(
                    f"dead letters: got more than {LARGEST_TEXT:,} characters of ranges between letters that are left "
                    f"out, expected fewer; {sent:,} were sent; go on with a wider filter, or without one"
                )
            reasons = [_unsendable(stored.letter, settings, present) for stored in chosen]
            if not dry_run:
                reasons = await _send(producer, settings, chosen, reasons)
                place = TopicPartition(own, letters[0].partition)
                await consumer.commit({place: OffsetAndMetadata(position.offset, position.text)})
            unsendable += [(stored, why) for stored, why in zip(chosen, reasons, strict=True) if why]
            sent += reasons.count("")
    return Retried(sent, unsendable, left)


async def _positions(
    consumer: AIOKafkaConsumer, settings: Settings, group: str, partitions: int
) -> dict[int, RetryPosition]:
    """How far each partition was retried."""
    first = TopicPartition(settings.topic("dead-letters"), 0)
    consumer.assign([first])
    await consumer.committed(first)  # waits for the coordinator of a new group, which the admin client does not
    async with kafka_client.admin(settings.kafka) as admin:
        committed = await admin.list_consumer_group_offsets(group)
    own = settings.topic("dead-letters")
    at = {number: committed.get(TopicPartition(own, number)) for number in range(partitions)}
    return {
        number: RetryPosition(max(0, one.offset), one.metadata) if one else RetryPosition(0)
        for number, one in at.items()
    }


async def _partitions(settings: Settings) -> dict[str, int]:
    """Count the partitions of every topic. The topic of the dead letters must exist."""
    own = settings.topic("dead-letters")
    async with kafka_client.admin(settings.kafka) as admin:
        present = await topics.partitions_by_topic(admin)
    if own not in present:
        raise topics.TopicError(f"topic {own}: got none, expected the one that a worker creates; start a worker first")
    return present


def _consumer(settings: Settings, group: str | None) -> AIOKafkaConsumer:
    return kafka_client.consumer(settings.kafka, group_id=group)


async def _to_the_end(
    consumer: AIOKafkaConsumer, settings: Settings, partitions: int
) -> AsyncIterator[list[StoredDeadLetter]]:
    """Read up to the present end, in lists that are not empty and come from one partition each."""
    own = [TopicPartition(settings.topic("dead-letters"), number) for number in range(partitions)]
    consumer.assign(own)
    ends = await consumer.end_offsets(own)
    deadline = time.monotonic() + kafka_client.CONNECT_TIMEOUT_S
    while unread := [part for part in own if await consumer.position(part) < ends[part]]:
        for part, records in (await consumer.getmany(*unread, timeout_ms=500, max_records=BATCH)).items():
            deadline = time.monotonic() + kafka_client.CONNECT_TIMEOUT_S
            if letters := [_decode(record) for record in records if record.offset < ends[part]]:
                yield letters
        if time.monotonic() > deadline:
            raise kafka_client.KafkaUnavailable(
                f"Kafka at {settings.kafka.bootstrap_servers}: got no more of {own[0].topic}, expected it "
                "up to its end; check that all brokers run, and try again"
            )


def _decode(record: Any) -> StoredDeadLetter:
    """Decode a letter. A record that is no letter (another program wrote it) becomes a letter about itself."""
    try:
        letter = msgspec.json.decode(record.value or b"", type=DeadLetter)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        letter = DeadLetter(
            topic="dead-letters",
            partition=record.partition,
            offset=record.offset,
            error=f"not a dead letter: {error}",
            payload=record.value,
            key=record.key,
        )
    return StoredDeadLetter(record.partition, record.offset, record.timestamp, letter)


def _unsendable(letter: DeadLetter, settings: Settings, present: Mapping[str, int]) -> str:
    """Say why a letter cannot be sent; an empty string if it can. Letters are sent to topics that a worker reads."""
    topic = _topic(letter, settings)
    if letter.topic not in (inputs_by_topic(settings) if letter.mapped else INPUTS):
        return f"no [topics.…] names {topic}" if letter.mapped else f"{letter.topic} is not an input topic"
    if not 0 <= letter.partition < present.get(topic, 0):
        return f"{topic} has no partition {letter.partition}"
    for part, kept, original_bytes in (
        ("payload", letter.payload, letter.payload_bytes),
        ("key", letter.key, letter.key_bytes),
    ):
        if original_bytes is not None:
            return (
                f"the letter has only {len(kept or b''):,} of {original_bytes:,} bytes of the {part}; send the message "
                "from its producer again"
            )
    return "neither key nor payload" if letter.key is None and letter.payload is None else ""


def _topic(letter: DeadLetter, settings: Settings) -> str:
    """Return the full name of the topic that a letter's message came from."""
    return letter.topic if letter.mapped else settings.topic(letter.topic)


async def _send(
    producer: AIOKafkaProducer,
    settings: Settings,
    letters: Sequence[StoredDeadLetter],
    reasons: Sequence[str],
) -> list[str]:
    """Send the letters that have no reason against it. Return the reasons, with those of letters that Kafka refuses."""

    async def send(letter: DeadLetter, reason: str) -> str:
        if reason:
            return reason
        topic = _topic(letter, settings)
        headers = list(retried_headers(letter.partition, letter.offset).items()) if letter.mapped else None
        try:
            await producer.send_and_wait(topic, letter.payload, letter.key, letter.partition, headers=headers)
        except MessageSizeTooLargeError:
            return f"the message is larger than max.message.bytes of {topic}"
        return ""

    return await asyncio.gather(*(send(stored.letter, reason) for stored, reason in zip(letters, reasons, strict=True)))
