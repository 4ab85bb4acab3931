"""`afterclick replay`: send recorded events to Kafka, from UCI Online Retail or from files of the topics' own JSON.

Every item is sent and acknowledged first, then the events in the order of time, at full speed or paced by their own
times. The event's time is in its value; the Kafka record's time is the time of sending. Messages of `jsonl` are sent
byte for byte, invalid ones too, because rejecting them is the worker's job. Knows nothing about the effect of the
events.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from rich.console import Console
from rich.table import Table

from ranker.progress import Progress
from streams.commands.options import Clicks, Config, Items, Json, Purchases
from streams.datasets.jsonl import jsonl
from streams.datasets.messages import InputError, Replay, ReplayMessage
from streams.datasets.online_retail import online_retail
from streams.kafka.client import client_options, started
from streams.kafka.topics import ensure_topics, topic_specs
from streams.progress_bar import progress_bar
from streams.settings import Settings, load

WINDOW = 5_000  # messages sent before their acknowledgements are awaited: bounds memory, costs no speed
BATCH_BYTES = 1 << 17
LINGER_MS = 5


@dataclass(frozen=True)
class SendReport:
    """The messages that Kafka acknowledged.

    Attributes
    ----------
    sent : dict of str to int
        Messages by topic.
    without_key : int
        Of these, messages without a key, because their line holds none.
    too_large : int
        Messages over 1 MiB, which Kafka does not accept.
    seconds : float
        For all messages.
    events_per_s : float
        Clicks and purchases, without the time for the items.
    """

    sent: dict[str, int]
    without_key: int
    too_large: int
    seconds: float
    events_per_s: float


async def send(
    replay: Replay,
    settings: Settings,
    speed: float | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> SendReport:
    """Send all items, then the events, and return once Kafka has acknowledged them all.

    Parameters
    ----------
    speed : float, optional
        X times as fast as the events occurred, by their own times; by default as fast as Kafka accepts them.
    limit : int, optional
        Most events to send; items are not counted.
    progress : Progress, optional
        In acknowledged messages.

    Raises
    ------
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer, or lost or refused a message after aiokafka's own retries.
    streams.kafka.topics.TopicError
        A topic is missing and must not be created, or has settings that the worker cannot use.
    """
    sizes = replay.sizes
    events = sum(sizes.values()) - sizes.get("items", 0)
    total = sizes.get("items", 0) + (events if limit is None else min(limit, events))
    needed = {settings.topic(topic) for topic in sizes}
    await ensure_topics(settings, [spec for spec in topic_specs(settings) if spec.name in needed])
    producer = AIOKafkaProducer(
        **client_options(settings.kafka), acks="all", linger_ms=LINGER_MS, max_batch_size=BATCH_BYTES
    )
    async with started(producer, settings.kafka):
        return await _Sending(producer, settings, total, progress).run(replay, speed, limit)


class _Sending:
    """Sends the messages of one replay, and counts what Kafka acknowledged."""

    def __init__(self, producer: AIOKafkaProducer, settings: Settings, total: int, progress: Progress | None) -> None:
        self.producer, self.settings, self.total, self.progress = producer, settings, total, progress
        self.sent: Counter[str] = Counter()
        self.without_key = self.too_large = 0
        self.waiting: list[asyncio.Future[Any]] = []

    async def run(self, replay: Replay, speed: float | None, limit: int | None) -> SendReport:
        started = items_done = time.monotonic()
        events, first_ms = 0, None
        for message in replay.messages():
            if message.topic != "items":
                if events == limit:
                    break
                if events == 0:
                    await self._flush()
                    items_done = time.monotonic()
                if speed is not None and message.time_ms is not None:
                    first_ms = message.time_ms if first_ms is None else first_ms
                    await self._wait_until(items_done + (message.time_ms - first_ms) / 1000 / speed)
                events += 1
            await self._put(message)
        await self._flush()
        now = time.monotonic()
        sent_events = sum(self.sent.values()) - self.sent["items"]
        rate = sent_events / (now - items_done) if sent_events else 0.0
        return SendReport(dict(self.sent), self.without_key, self.too_large, now - started, rate)

    async def _put(self, message: ReplayMessage) -> None:
        topic, key, value, _ = message
        try:
            self.waiting.append(await self.producer.send(self.settings.topic(topic), value, key))
        except MessageSizeTooLargeError:
            self.too_large += 1
            return
        self.sent[topic] += 1
        self.without_key += key is None
        if len(self.waiting) >= WINDOW:
            await self._flush()

    async def _wait_until(self, due: float) -> None:
        if due > time.monotonic():
            await self._flush()
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _flush(self) -> None:
        await asyncio.gather(*self.waiting)
        self.waiting.clear()
        if self.progress:
            self.progress(sum(self.sent.values()), self.total)


commands = typer.Typer(help="Send recorded events to Kafka.", no_args_is_help=True)
Speed = Annotated[str, typer.Option(help="X times as fast as the events occurred, or 'max'.")]
Limit = Annotated[int | None, typer.Option(min=0, help="Most events to send; items are not counted.")]


@commands.command("online-retail")
def replay_online_retail(
    path: Annotated[Path, typer.Argument(help="UCI Online Retail as CSV, plain or gzipped.")],
    speed: Speed = "max",
    limit: Limit = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send UCI Online Retail as items and purchases."""
    settings, factor = load(config), _factor(speed)
    with progress_bar() as stage:
        replay = online_retail(path, stage(f"Reading {path.name}"))
    _send_and_report(replay, settings, factor, limit, as_json)


@commands.command("jsonl")
def replay_jsonl(
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    speed: Speed = "max",
    limit: Limit = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send files that hold the topics' own JSON, byte for byte."""
    settings, factor = load(config), _factor(speed)
    _send_and_report(jsonl(items, clicks, purchases, zone=settings.zone), settings, factor, limit, as_json)


def _factor(speed: str) -> float | None:
    if speed == "max":
        return None
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise InputError(f"--speed: got {speed}, expected a number above 0, or 'max'")
    return factor


def _send_and_report(replay: Replay, settings: Settings, speed: float | None, limit: int | None, as_json: bool) -> None:
    with progress_bar() as stage:
        report = asyncio.run(send(replay, settings, speed, limit, stage("Sending")))
    left_out = {name: n for name, n in replay.counts.items() if name != "rows" and name not in replay.sizes}
    left_out |= {"too_large": report.too_large} if report.too_large else {}
    if as_json:
        typer.echo(json.dumps({"rows": replay.counts["rows"], **vars(report), "left_out": left_out}))
        return
    table = Table("outcome", "messages", title=f"{replay.counts['rows']:,} rows")
    for topic, size in replay.sizes.items():
        table.add_row(f"sent to {settings.topic(topic)}", f"{report.sent.get(topic, 0):,} of {size:,}")
    for reason, number in left_out.items():
        table.add_row(f"left out: {reason.replace('_', ' ')}", f"{number:,}")
    table.add_row("sent without a key", f"{report.without_key:,}")
    table.caption = f"{report.seconds:.1f} s, {report.events_per_s:,.0f} events/s"
    Console().print(table)
