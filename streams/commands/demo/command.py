"""`afterclick demo`: run the whole product on a generated shop, and measure how good its lists are.

The demo starts an embedded Kafka and Redis and a real worker in a process of its own, sends the shop's items, and then
its events at a steady pace. It knows the worker by its environment, its topics and its metrics, as every team that runs
one does. It does not know what the screen shows.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from encoders.event_time import milliseconds
from streams.commands.demo.open_shop import (
    QUIET_LOG,
    SETTLE_TIMEOUT_S,
    DemoFailed,
    ended_by_signals,
    interleaved,
    open_shop,
)
from streams.commands.demo.screen import Screen, View
from streams.contracts import Click, Purchase, Recommendations
from streams.datasets.shop import SyntheticShop
from streams.testing.embedded import PARTITIONS
from streams.testing.worker_process import WorkerFailed, WorkerProcess

if TYPE_CHECKING:
    from confluent_kafka import Producer

MIN_ITEMS, MAX_ITEMS = 600, 2_000  # between them twice the number of events, so that a short demo starts soon
EVENTS_PER_SHOPPER = 10  # chosen by us: enough for tastes to show, and new shoppers all the time
EVENTS_PER_S = 40  # chosen by us: 1,500 events in less than 40 s, and a person can still follow one shopper's lists
QUIET_S = 1.0  # without a list for this time, no more list is expected
REFRESH_S = 0.2


def run(events: int, seed: int, as_json: bool) -> None:
    """Run the demo.

    Parameters
    ----------
    events : int
        The number of events to send.
    seed : int
        The seed of the generated shop.
    as_json : bool
        Print one JSON object on stdout instead of a screen for a person.

    Raises
    ------
    SystemExit
        With status 1: the worker failed, or not every event was accepted.
    streams.testing.embedded.EmbeddedUnavailable
        A package for the embedded servers is missing.
    """
    started = time.monotonic()
    screen = Screen(as_json)
    try:
        with ended_by_signals(), ExitStack() as running:
            view = _play(running, screen, events, seed)
        screen.finish(view, time.monotonic() - started)
        if view.accepted != view.sent:
            raise DemoFailed(f"got {view.accepted} of {view.sent} events accepted, expected all of them")
    except (DemoFailed, WorkerFailed) as error:
        sys.stderr.write(f"afterclick demo: {error}\n")
        raise SystemExit(1) from error


class Traffic:
    """Sends events and reads lists, times each list and judges it. `send` and `read` each need a thread."""

    def __init__(self, kafka: str, events: list[Click], view: View) -> None:
        self.stop = threading.Event()
        self.view = view
        self._kafka = kafka
        self._events = events
        self._sent_at: dict[str, float] = {}
        self._lists: dict[str, Recommendations] = {}
        self._last_list_at = self._all_sent_at = float("inf")

    def send(self, producer: Producer) -> None:
        """Send the events at `EVENTS_PER_S`. Their times are moved so that the last event happens now."""
        view, start = self.view, time.monotonic()
        to_now_ms = round(time.time() * 1000) - max(milliseconds(event.timestamp) for event in self._events)
        for number, event in enumerate(self._events):
            if self.stop.wait(max(0.0, start + number / EVENTS_PER_S - time.monotonic())):
                return
            user, at_ms = event.user_id, milliseconds(event.timestamp) + to_now_ms
            latest = self._lists.get(user)
            view.judge.event(user, event.item_id, [item.item_id for item in latest.items] if latest else None)
            moved = msgspec.structs.replace(event, timestamp=at_ms)
            topic = "purchases" if isinstance(event, Purchase) else "clicks"
            self._sent_at[event.event_id] = time.monotonic()
            producer.produce(topic, key=user, value=msgspec.json.encode(moved))
            producer.poll(0)
            view.saw(moved)
        producer.flush(SETTLE_TIMEOUT_S)
        self._all_sent_at = time.monotonic()

    def read(self) -> None:
        """Read the topic `recommendations` until `stop` is set."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        # The embedded cluster holds a fetch for the whole time that it may, even if a message arrives.
        options = {"group.id": "demo", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
        consumer = Consumer({"bootstrap.servers": self._kafka, **options, **QUIET_LOG})
        consumer.assign([TopicPartition("recommendations", number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        while not self.stop.is_set():
            message = consumer.poll(0.1)
            value = message.value() if message and not message.error() else None
            if value is not None:
                self._take(msgspec.json.decode(value, type=Recommendations), time.monotonic())
        consumer.close()

    def settled(self, worker: WorkerProcess) -> bool:
        """Whether all events are processed and all lists are read; true after `SETTLE_TIMEOUT_S` in any case."""
        view, now = self.view, time.monotonic()
        view.accepted, duplicates = (
            int(sum(worker.total("afterclick_events_total", topic=t, outcome=o) for t in ("clicks", "purchases")))
            for o in ("accepted", "duplicate")
        )
        view.dead_letters = int(worker.total("afterclick_dead_letters_total"))
        processed = view.accepted + duplicates + view.dead_letters >= view.total
        quiet = now - max(self._last_list_at, self._all_sent_at) > QUIET_S
        ranked = worker.total("afterclick_consumer_lag_messages", topic="rank-requests") == 0
        return (processed and ranked and quiet) or now - self._all_sent_at > SETTLE_TIMEOUT_S

    def _take(self, received: Recommendations, now: float) -> None:
        self._lists[received.user_id] = received
        self._last_list_at = now
        sent_at = self._sent_at.pop(received.trigger.event_id, None) if received.trigger else None
        self.view.got(received, None if sent_at is None else (now - sent_at) * 1000)


def _play(running: ExitStack, screen: Screen, events: int, seed: int) -> View:
    """Start the servers and the worker, play the shop, and return the view as it is at the end."""
    items = min(max(MIN_ITEMS, 2 * events), MAX_ITEMS)
    shop = SyntheticShop(seed, items, shoppers=max(20, events // EVENTS_PER_SHOPPER))
    settings, worker, producer = open_shop(running, screen, shop)
    to_send = interleaved(list(shop.events(events)))
    traffic = Traffic(settings.kafka.bootstrap_servers, to_send, View(shop.items, to_send, seed))
    with ThreadPoolExecutor(2) as threads, screen.live(traffic.view) as show:
        jobs = [threads.submit(traffic.send, producer), threads.submit(traffic.read)]
        try:
            while not traffic.settled(worker):
                show()
                for job in jobs:
                    if job.done():
                        job.result()  # raises the error that ended it
                time.sleep(REFRESH_S)
        finally:
            traffic.stop.set()
    return traffic.view
