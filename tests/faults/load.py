"""A producer that is not ours: events with duplicates, old times, bursts and poison, and the truth about them.

Event ids are `user/number`, so what was sent is one number per user. Two producers, one with librdkafka's own
partitioner, so that half of the events lie where our key hash would not put them. Knows no worker; called by
`campaign`.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from streams.kafka.client import partition_of
from streams.settings import Settings

KINDS = ["walking boots", "tent for two", "reading lamp", "garden chair", "coffee grinder"]
ITEMS = 60
LATE_ITEMS = 3
"""The last of them come when a fifth of the events are out: events about them wait."""
DUPLICATES, POISON, OLD, UNKNOWN = 0.05, 0.01, 0.2, 0.01
STAYS = 0.75
"""Of the events, those of the user of the one before: four in a row, as of somebody who looks around."""
OLD_MS = 3 * 86_400_000
TICK_S = 0.05
BURST_EVERY_S, BURST_S, BURST = 12.0, 1.0, 5


@dataclass(frozen=True)
class Poisoned:
    """A message that cannot be accepted, and where Kafka put it."""

    topic: str
    partition: int
    offset: int
    payload: bytes | None
    key: bytes | None


@dataclass
class Sent:
    """What Kafka has taken."""

    wanted: Counter[str] = field(default_factory=Counter)
    """user -> number of distinct valid events."""
    messages: int = 0
    duplicates: int = 0
    poison: list[Poisoned] = field(default_factory=list)
    damaged: set[tuple[str, int]] = field(default_factory=set)
    """Topics and partitions with a batch that nobody can read."""


def item(number: int) -> dict[str, Any]:
    kind = KINDS[number % len(KINDS)]
    return {"item_id": f"item-{number}", "title": f"{kind.capitalize()} no. {number}", "categories": [kind]}


class Load:
    """Sends messages at a pace, in a thread: `events` at the least, and more until `finish` is called.

    `probe` sends one more to every partition.
    """

    def __init__(
        self, settings: Settings, seed: int, events: int, per_s: float, users: int, name: str = "user"
    ) -> None:
        self.sent = Sent()
        self.users = [f"{name}-{number}" for number in range(users)]
        self.probes = _one_per_partition(settings.kafka.partitions)
        self.undelivered: list[str] = []
        self.settings = settings
        self._random = random.Random(seed)
        self._events, self._per_s = events, per_s
        self._visitor = self.users[0]
        self._recent: deque[tuple[str, bytes, bytes]] = deque(maxlen=300)
        self._known_items = ITEMS - LATE_ITEMS
        self._lock = threading.RLock()
        self._enough = threading.Event()
        common: dict[str, Any] = {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": 900_000,
            "log_level": 0,
        }
        self._ours = Producer(common | {"partitioner": "murmur2_random"})
        self._theirs = Producer(common)
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def topic(self, name: str) -> str:
        return self.settings.topic(name)

    def start(self) -> None:
        for number in range(self._known_items):
            self._send_item(number)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def enough(self) -> None:
        """From now on it ends when its events are sent."""
        self._enough.set()

    def finish(self) -> None:
        """Wait until everything is sent."""
        self.enough()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        left = sum(producer.flush(120) for producer in (self._ours, self._theirs))
        assert not left, f"Kafka did not take {left} messages within two minutes"
        assert not self.undelivered, self.undelivered[:3]

    def pace(self, factor: float) -> None:
        """From now on so many times as many a second."""
        self._per_s *= factor

    def probe(self) -> dict[str, int]:
        """Send a click of one user per partition; the state version that each of them must reach."""
        with self._lock:
            for user_id in self.probes:
                self._click(user_id, 0)
            return {user_id: self.sent.wanted[user_id] for user_id in self.probes}

    def _run(self) -> None:
        begin, owed = time.monotonic(), 0.0
        last = begin
        while not self._over():
            time.sleep(TICK_S)
            now = time.monotonic()
            in_burst = (now - begin) % BURST_EVERY_S < BURST_S
            owed += (now - last) * self._per_s * (BURST if in_burst else 1)
            last = now
            with self._lock:
                while owed >= 1 and not self._over():
                    owed -= 1
                    self._one()
            if self._known_items < ITEMS and self.sent.messages > self._events / 5:
                for number in range(self._known_items, ITEMS):
                    self._send_item(number)
                self._known_items = ITEMS

    def _over(self) -> bool:
        return self._enough.is_set() and self.sent.messages >= self._events

    def _one(self) -> None:
        self.sent.messages += 1
        dice = self._random.random()
        if dice < POISON:
            self._poison()
        elif dice < POISON + DUPLICATES and self._recent:
            self.sent.duplicates += 1
            self._produce(*self._random.choice(self._recent))
        else:
            unknown = self._known_items < ITEMS and self._random.random() < UNKNOWN
            number = self._random.randrange(self._known_items, ITEMS) if unknown else None
            if self._random.random() > STAYS:
                self._visitor = self._random.choice(self.users)
            self._click(self._visitor, number)

    def _click(self, user_id: str, number: int | None) -> None:
        if number is None:
            number = self._random.randrange(self._known_items)
        old_ms = self._random.randrange(OLD_MS) if self._random.random() < OLD else 0
        self.sent.wanted[user_id] += 1
        topic = self._random.choice(["clicks", "clicks", "purchases"])
        event = {
            "event_id": f"{user_id}/{self.sent.wanted[user_id]}",
            "user_id": user_id,
            "item_id": f"item-{number}",
            "timestamp": time.time_ns() // 10**6 - old_ms,  # not after its record
        }
        message = topic, user_id.encode(), json.dumps(event).encode()
        self._recent.append(message)
        self._produce(*message)

    def _poison(self) -> None:
        number = len(self.sent.poison) + self.sent.messages
        sort = self._random.randrange(6)
        values: list[bytes | None] = [
            f'{{"event_id": "p{number}", "user_id": '.encode(),
            json.dumps({"event_id": f"p{number}", "user_id": "user-1"}).encode(),
            json.dumps(
                {"event_id": f"p{number}", "user_id": "user-1", "item_id": "item-1", "timestamp": 1_700_000_000}
            ).encode(),
            self._random.randbytes(40) + str(number).encode(),
            None,
            b"[" * 5_000 + str(number).encode(),
        ]
        value = values[sort]
        self._produce("clicks", f"poison-{number}".encode(), value, poisoned=True)

    def _send_item(self, number: int) -> None:
        value = item(number)
        self._produce("items", value["item_id"].encode(), json.dumps(value).encode())

    def _produce(self, topic: str, key: bytes, value: bytes | None, poisoned: bool = False) -> None:
        producer = self._theirs if topic == "purchases" else self._ours

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.undelivered.append(str(error))
            elif poisoned:
                self.sent.poison.append(Poisoned(topic, message.partition() or 0, message.offset() or 0, value, key))

        while True:
            try:
                producer.produce(self.settings.topic(topic), value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)


def _one_per_partition(partitions: int) -> list[str]:
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        user_id = f"probe-{number}"
        found.setdefault(partition_of(user_id.encode(), partitions), user_id)
        number += 1
    return [found[partition] for partition in sorted(found)]
