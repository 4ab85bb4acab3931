"""List rejected messages, and send them again once their cause is gone.

`afterclick dead-letters list` shows the topic `dead-letters`. `afterclick dead-letters retry` sends each payload, byte
for byte and with its key, to the partition that it came from. Kafka remembers what was retried, as the committed offset
of the consumer group `{group_id}-dead-letters-retry`: the first call after a letter was written retries it, and no
later call does. If a call is interrupted, the next call may send up to `BATCH` letters a second time. A message that is
rejected again becomes a new letter. Knows nothing of why a message was rejected.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Annotated, Any

import msgspec
import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streams.commands.options import Config
from streams.contracts import DeadLetter
from streams.kafka import client as kafka_client
from streams.kafka import topics
from streams.receive.decode import INPUTS
from streams.settings import Settings, load

BATCH = 100
SHOWN_CHARACTERS = 200
ANY_SIZE = 2**31 - 1
"""In bytes. Kafka itself refuses a message that is too large."""

Limit = Annotated[int, typer.Option(min=1, help="The number of newest messages to show.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, payload and key in base64.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")]

commands = typer.Typer(no_args_is_help=True, help="List rejected messages, and send corrected ones again.")


class StoredDeadLetter(msgspec.Struct, frozen=True):
    """A dead letter, and where it is stored.

    Attributes
    ----------
    partition, offset : int
        Where the letter is in the topic `dead-letters`. Those of the rejected message are in `letter`.
    stored_at : int
        When it was written, in milliseconds since the epoch, UTC.
    letter : DeadLetter
        The rejected message and the reason.
    """

    partition: int
    offset: int
    stored_at: int
    letter: DeadLetter


class Retried(msgspec.Struct, frozen=True):
    """The result of a retry.

    Attributes
    ----------
    sent : int
        How many letters were sent.
    unsendable : list of (StoredDeadLetter, str)
        The letters that cannot be sent, each with the reason.
    """

    sent: int
    unsendable: list[tuple[StoredDeadLetter, str]]


async def read(settings: Settings, limit: int) -> list[StoredDeadLetter]:
    """Read the newest `limit` dead letters, oldest first.

    Raises
    ------
    streams.kafka.topics.TopicError
        There is no topic for dead letters yet.
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    """
    newest: list[tuple[int, int, int, StoredDeadLetter]] = []
    partitions = (await _partitions(settings))[settings.topic("dead-letters")]
    consumer = _consumer(settings, None)
    async with kafka_client.started(consumer, settings.kafka):
        async for letters in _to_the_end(consumer, settings, partitions):
            for stored in letters:
                heapq.heappush(newest, (stored.stored_at, stored.partition, stored.offset, stored))
                if len(newest) > limit:
                    heapq.heappop(newest)
    return [stored for *_, stored in sorted(newest, key=lambda entry: entry[:3])]


async def retry(settings: Settings, dry_run: bool = False) -> Retried:
    """Send every letter that was not retried before; with `dry_run`, count them only.

    A letter that cannot be sent (see `Retried.unsendable`) is skipped, and later calls skip it too.

    Raises
    ------
    streams.kafka.topics.TopicError
        There is no topic for dead letters yet.
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer. The next call sends the letters that were not sent yet.
    """
    present = await _partitions(settings)
    own = settings.topic("dead-letters")
    sent = 0
    unsendable: list[tuple[StoredDeadLetter, str]] = []
    consumer = _consumer(settings, f"{settings.kafka.group_id}-dead-letters-retry")
    producer = AIOKafkaProducer(**kafka_client.client_options(settings.kafka), acks="all", max_request_size=ANY_SIZE)
    async with (
        kafka_client.started(consumer, settings.kafka),
        kafka_client.started(producer, settings.kafka),
    ):
        async for letters in _to_the_end(consumer, settings, present[own]):
            reasons = [_unsendable(stored.letter, settings, present) for stored in letters]
            if not dry_run:
                reasons = await _send(producer, settings, letters, reasons)
                last = letters[-1]
                await consumer.commit({TopicPartition(own, last.partition): last.offset + 1})
            unsendable += [(stored, why) for stored, why in zip(letters, reasons, strict=True) if why]
            sent += reasons.count("")
    return Retried(sent, unsendable)


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
    """Say why a letter cannot be sent; an empty string if it can. Letters are sent to input topics only."""
    if letter.topic not in INPUTS:
        return f"{letter.topic} is not an input topic"
    if not 0 <= letter.partition < present.get(settings.topic(letter.topic), 0):
        return f"{settings.topic(letter.topic)} has no partition {letter.partition}"
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
        topic = settings.topic(letter.topic)
        try:
            await producer.send_and_wait(topic, letter.payload, letter.key, letter.partition)
        except MessageSizeTooLargeError:
            return f"the message is larger than max.message.bytes of {topic}"
        return ""

    return await asyncio.gather(*(send(stored.letter, reason) for stored, reason in zip(letters, reasons, strict=True)))


@commands.command("list")
def list_letters(config: Config = None, limit: Limit = 20, json: JsonLines = False) -> None:
    """Show the newest rejected messages, the newest last."""
    letters = asyncio.run(read(load(config), limit))
    if json:
        for stored in letters:
            typer.echo(msgspec.json.encode(stored))
    elif letters:
        Console().print(_table([(stored, stored.letter.error) for stored in letters], "error"))
    else:
        typer.echo("no dead letters")


@commands.command("retry")
def retry_letters(config: Config = None, dry_run: DryRun = False) -> None:
    """Send every message again that was not retried before. The status is 1 if some cannot be sent."""
    result = asyncio.run(retry(load(config), dry_run))
    typer.echo(f"{'would send' if dry_run else 'sent'} {result.sent}, cannot send {len(result.unsendable)}")
    if result.unsendable:
        Console().print(_table(result.unsendable, "reason"))
        raise typer.Exit(1)


def _table(rows: Sequence[tuple[StoredDeadLetter, str]], reason_heading: str) -> Table:
    names = ("stored", "letter", "rejected message", reason_heading, "payload")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for stored, reason in rows:
        letter = stored.letter
        when = datetime.fromtimestamp(stored.stored_at / 1000, timezone.utc)
        table.add_row(
            f"{when:%Y-%m-%d %H:%M:%S}Z",
            f"{stored.partition}/{stored.offset}",
            Text(printable(f"{letter.topic}/{letter.partition}/{letter.offset}".encode())),
            Text(printable(reason.encode())),
            Text(printable(letter.payload) + ("" if letter.payload_bytes is None else f" of {letter.payload_bytes:,}")),
        )
    return table


def printable(payload: bytes | None) -> str:
    r"""Show bytes on a terminal: a character that does not print becomes a dot, and a long text is truncated.

    >>> printable(b'{"title": "\x1b[31mred"}')
    '{"title": "·[31mred"}'
    """
    if payload is None:
        return "null"
    text = payload.decode(errors="replace")
    shown = "".join(letter if letter.isprintable() else "·" for letter in text[:SHOWN_CHARACTERS])
    return shown if len(text) <= SHOWN_CHARACTERS else f"{shown}… ({len(payload):,} bytes)"
