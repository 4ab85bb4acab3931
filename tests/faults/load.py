"""The producer under test conditions: events with duplicates, old times, bursts and poison, and the truth about them.

The event ids of a user are `user/1`, `user/2` and so on, so one number per user says what was sent. There are two
producers. One has librdkafka's own partitioner, so that half of the events are in other partitions than the workers'
key hash says. Knows no worker.
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
"""So many of the last items are sent after a fifth of the events: earlier events about them have to wait."""
DUPLICATES, POISON, OLD, UNSENT_ITEM = 0.05, 0.01, 0.2, 0.01
"""Shares of the messages: repeated, unacceptable, with an old time, about an item that is not sent yet."""
SAME_USER = 0.75
"""The share of events whose user is that of the event before, so that visits have four events on average."""
OLD_MS = 3 * 86_400_000
TICK_S = 0.05
BURST_EVERY_S, BURST_S, BURST = 12.0, 1.0, 5


@dataclass(frozen=True)
class Poison:
    """A message that no worker can accept, and its position in Kafka."""

    topic: str
    partition: int
    offset: int
    payload: bytes | None
    key: bytes | None


@dataclass
class SentMessages:
    """What was sent.

    Attributes
    ----------
    events_of : Counter of str
        From a user to the number of their distinct valid events.
    messages, duplicates : int
        All messages; those of them that repeat an earlier message.
    poison : list of Poison
    damaged : set of tuple of str and int
        Topics and partitions with a batch that cannot be read.
    """

    events_of: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    duplicates: int = 0
    poison: list[Poison] = field(default_factory=list)
    damaged: set[tuple[str, int]] = field(default_factory=set)


def item(number: int) -> dict[str, Any]:
    """Return the message of an item."""
    kind = KINDS[number % len(KINDS)]
    return {"item_id": f"item-{number}", "title": f"{kind.capitalize()} no. {number}", "categories": [kind]}


class Load:
    """Sends messages in a thread at a given pace: at least `events`, and more until `finish` is called.

    Parameters
    ----------
    settings : Settings
    seed : int
    events : int
        The least number of messages.
    per_s : float
        Messages a second between the bursts.
    users : int
        The number of users.
    name : str
        The beginning of the users' ids.

    Attributes
    ----------
    sent : SentMessages
    users : list of str
    probes : list of str
        A user for each partition, of whom only `probe` sends events.
    undelivered : list of str
        Errors of messages that Kafka did not accept.
    """

    def __init__(
        self, settings: Settings, seed: int, events: int, per_s: float, users: int, name: str = "user"
    ) -> None:
        self.sent = SentMessages()
        self.users = [f"{name}-{number}" for number in range(users)]
        self.probes = _one_per_partition(settings.kafka.partitions)
        self.undelivered: list[str] = []
        self.settings = settings
        self._random = random.Random(seed)
        self._events, self._per_s = events, per_s
        self._visitor = self.users[0]
        self._recent: deque[tuple[str, bytes, bytes]] = deque(maxlen=300)
        self._sent_items = ITEMS - LATE_ITEMS
        self._lock = threading.RLock()
        self._enough = threading.Event()
        common: dict[str, Any] = {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": 900_000,
            "log_level": 0,
        }
        self._murmur2_producer = Producer(common | {"partitioner": "murmur2_random"})
        self._librdkafka_producer = Producer(common)
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def topic(self, name: str) -> str:
        return self.settings.topic(name)

    def start(self) -> None:
        for number in range(self._sent_items):
            self._send_item(number)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def enough(self) -> None:
        """Let the thread end as soon as `events` messages are sent."""
        self._enough.set()

    def finish(self) -> None:
        """Wait until at least `events` messages are sent and Kafka has all of them."""
        self.enough()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        left = sum(producer.flush(120) for producer in (self._murmur2_producer, self._librdkafka_producer))
        assert not left, f"Kafka did not take {left} messages within two minutes"
        assert not self.undelivered, self.undelivered[:3]

    def pace(self, factor: float) -> None:
        """Multiply the number of messages a second."""
        self._per_s *= factor

    def probe(self) -> dict[str, int]:
        """Send a click of one user per partition; return the state version that each of them must reach."""
        with self._lock:
            for user_id in self.probes:
                self._click(user_id, 0)
            return {user_id: self.sent.events_of[user_id] for user_id in self.probes}

    def _run(self) -> None:
        begin, owed = time.monotonic(), 0.0
        last = begin
        while not self._is_finished():
            time.sleep(TICK_S)
            now = time.monotonic()
            in_burst = (now - begin) % BURST_EVERY_S < BURST_S
            owed += (now - last) * self._per_s * (BURST if in_burst else 1)
            last = now
            with self._lock:
                while owed >= 1 and not self._is_finished():
                    owed -= 1
                    self._send_one()
            if self._sent_items < ITEMS and self.sent.messages > self._events / 5:
                for number in range(self._sent_items, ITEMS):
                    self._send_item(number)
                self._sent_items = ITEMS

    def _is_finished(self) -> bool:
        return self._enough.is_set() and self.sent.messages >= self._events

    def _send_one(self) -> None:
        """Send poison, a duplicate or a new event."""
        self.sent.messages += 1
        dice = self._random.random()
        if dice < POISON:
            self._poison()
        elif dice < POISON + DUPLICATES and self._recent:
            self.sent.duplicates += 1
            self._produce(*self._random.choice(self._recent))
        else:
            unsent = self._sent_items < ITEMS and self._random.random() < UNSENT_ITEM
            number = self._random.randrange(self._sent_items, ITEMS) if unsent else None
            if self._random.random() > SAME_USER:
                self._visitor = self._random.choice(self.users)
            self._click(self._visitor, number)

    def _click(self, user_id: str, number: int | None) -> None:
        if number is None:
            number = self._random.randrange(self._sent_items)
        old_ms = self._random.randrange(OLD_MS) if self._random.random() < OLD else 0
        self.sent.events_of[user_id] += 1
        topic = self._random.choice(["clicks", "clicks", "purchases"])
        event = {
            "event_id": f"{user_id}/{self.sent.events_of[user_id]}",
            "user_id": user_id,
            "item_id": f"item-{number}",
            "timestamp": time.time_ns() // 10**6 - old_ms,  # rounded down: never after the record's time
        }
        message = topic, user_id.encode(), json.dumps(event).encode()
        self._recent.append(message)
        self._produce(*message)

    def _poison(self) -> None:
        number = len(self.sent.poison) + self.sent.messages
        kind = self._random.randrange(6)
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
        value = values[kind]
        self._produce("clicks", f"poison-{number}".encode(), value, poisoned=True)

    def _send_item(self, number: int) -> None:
        value = item(number)
        self._produce("items", value["item_id"].encode(), json.dumps(value).encode())

    def _produce(self, topic: str, key: bytes, value: bytes | None, poisoned: bool = False) -> None:
        producer = self._librdkafka_producer if topic == "purchases" else self._murmur2_producer

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.undelivered.append(str(error))
            elif poisoned:
                self.sent.poison.append(Poison(topic, message.partition() or 0, message.offset() or 0, value, key))

        while True:
            try:
                producer.produce(self.settings.topic(topic), value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)


def _one_per_partition(partitions: int) -> list[str]:
    """Return a user for each partition, in the order of the partitions."""
    users: dict[int, str] = {}
    number = 0
    while len(users) < partitions:
        user_id = f"probe-{number}"
        users.setdefault(partition_of(user_id.encode(), partitions), user_id)
        number += 1
    return [users[partition] for partition in sorted(users)]
