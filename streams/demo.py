"""`afterclick demo`: the whole product at work on a generated shop, and how good its lists were.

An embedded Kafka and Redis, a real worker in a process of its own, the shop's items, then its events at a steady pace.
Knows the worker only by its environment, its topics and its metrics, as any team that runs one. Called by the command
line; `demo_screen` shows what happens here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from encoders.event_time import milliseconds
from ranker.measures import K, Prequential
from streams.contracts import Click, Item, Purchase, Recommendations
from streams.demo_screen import Screen, View
from streams.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port
from streams.settings import PREFIX
from streams.shop import Shop

if TYPE_CHECKING:
    from confluent_kafka import Producer

ITEMS = 3_000
EVENTS_PER_SHOPPER = 10  # on average; chosen by us: enough for a taste to show, and new shoppers keep coming
EVENTS_PER_S = 40  # chosen by us: 1,500 events in under 40 s, and a person can still follow one shopper
START_TIMEOUT_S, CATALOGUE_TIMEOUT_S, SETTLE_TIMEOUT_S, QUIET_S = 60.0, 90.0, 15.0, 1.0
STOP_TIMEOUT_S = 5.0
SCRAPE_EVERY_S = 0.5


class DemoFailed(Exception):
    """The demo cannot go on; the message says why, with the end of the worker's log."""


def run(events: int, seed: int, as_json: bool) -> None:
    """Run the demo; a person's screen on stdout, or with `as_json` one object there.

    Raises
    ------
    SystemExit
        Status 1: the worker failed, or not every event was accepted.
    streams.embedded.EmbeddedUnavailable
        A package for the embedded servers is missing.
    """
    started = time.monotonic()
    screen = Screen(as_json)
    try:
        with _ended_by_signals(), ExitStack() as running:
            view = _play(running, screen, events, seed)
    except DemoFailed as error:
        sys.stderr.write(f"afterclick demo: {error}\n")
        raise SystemExit(1) from error
    screen.finish(view, seconds=time.monotonic() - started)
    if view.accepted != view.sent:
        sys.stderr.write(f"afterclick demo: {view.accepted} of {view.sent} events accepted, expected all\n")
        raise SystemExit(1)


def _play(running: ExitStack, screen: Screen, events: int, seed: int) -> View:
    """Start everything, play the shop, and give what was seen at the end."""
    from confluent_kafka import Producer  # an optional package: EmbeddedKafka says so when it is missing

    shop = Shop(seed, ITEMS, shoppers=max(20, events // EVENTS_PER_SHOPPER))
    kafka = running.enter_context(EmbeddedKafka()).bootstrap_servers
    redis_url = running.enter_context(EmbeddedRedis()).url
    worker = Worker(kafka, redis_url, Path(running.enter_context(tempfile.TemporaryDirectory(prefix="afterclick-"))))
    running.callback(worker.stop)
    tiers = 2
    worker.wait("Starting a worker", screen, START_TIMEOUT_S, tiers, lambda: worker.total("afterclick_worker_ready"))
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "linger.ms": 0})
    for item in shop.items:
        producer.produce("items", key=item.item_id, value=msgspec.json.encode(item))
    producer.flush(CATALOGUE_TIMEOUT_S)
    worker.wait(
        f"Reading {len(shop.items):,} items",
        screen,
        CATALOGUE_TIMEOUT_S,
        len(shop.items),
        lambda: worker.total("afterclick_catalogue_items"),
    )
    traffic = Traffic(interleaved(list(shop.events(events))), shop.items, seed)
    with ThreadPoolExecutor(2) as threads, screen.live(traffic.view) as show:
        try:
            jobs = [threads.submit(traffic.read, kafka), threads.submit(traffic.send, producer)]
            while not traffic.settled():
                traffic.scrape(worker)
                show()
                for job in jobs:
                    if job.done():
                        job.result()  # raises what ended it
        finally:
            traffic.stop.set()
    return traffic.view


def interleaved(events: Sequence[Click]) -> list[Click]:
    """Spread each shopper's events evenly over the demo, in their own order: everybody shops side by side.

    At the pace of the demo a visit would otherwise be over before its first list could come: days pass in seconds.

    >>> from types import SimpleNamespace as E
    >>> [e.event_id for e in interleaved([E(user_id=e[0], event_id=e) for e in ("a1", "a2", "a3", "b1", "b2")])]
    ['a1', 'b1', 'a2', 'a3', 'b2']
    """
    of_user: dict[str, list[Click]] = {}
    for event in events:
        of_user.setdefault(event.user_id, []).append(event)
    phases = [(number * 0.618) % 1 for number in range(len(of_user))]  # golden section: never two close together
    timed = [
        ((place + phase) / len(own), event)
        for phase, own in zip(phases, of_user.values(), strict=True)
        for place, event in enumerate(own)
    ]
    return [event for _, event in sorted(timed, key=lambda one: one[0])]
