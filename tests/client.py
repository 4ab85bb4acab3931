"""A shop's backend for tests: knows the topics and Redis, and nothing else of a worker."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.contracts import COLD_START_USER
from streams.kafka.topics import ensure_topics, topic_specs
from streams.settings import Settings

MAX_MESSAGE_BYTES = 16 << 20
KINDS = ["walking boots", "tent for two", "reading lamp", "garden chair", "coffee grinder"]
ANY_PARTITION = -1
"""Let the producer choose the partition."""
ITEMS = [f"item-{number}" for number in range(60)]


def now_ms() -> int:
    """Return the wall clock in milliseconds, rounded down so that no event is later than its record."""
    return time.time_ns() // 10**6


class Client:
    """Produces with librdkafka's own defaults, consumes, and reads Redis. The constructor creates the topics."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        asyncio.run(ensure_topics(settings, topic_specs(settings)))
        self.redis = redis.Redis.from_url(settings.redis.url.get_secret_value())
        server = settings.kafka.bootstrap_servers
        self._producer = Producer({"bootstrap.servers": server, "linger.ms": 2, "message.max.bytes": MAX_MESSAGE_BYTES})

    def produce(self, topic: str, key: str | None, value: Any, partition: int = ANY_PARTITION) -> None:
        """Send a value: bytes and None as they are, all else as JSON."""
        raw = value if isinstance(value, (bytes, type(None))) else json.dumps(value).encode()
        self._producer.produce(self.settings.topic(topic), key=key, value=raw, partition=partition)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until Kafka has all messages."""
        assert self._producer.flush(90) == 0

    def items(self, item_ids: list[str] = ITEMS) -> None:
        """Send items and wait until Kafka has them."""
        for item_id in item_ids:
            kind = KINDS[int(item_id.split("-")[1]) % len(KINDS)]
            item = {"item_id": item_id, "title": f"{kind.capitalize()} {item_id}", "categories": [kind], "price": 9.5}
            self.produce("items", item_id, item)
        self.flush()

    def click(
        self,
        user_id: str,
        item_id: str,
        event_id: str | None = None,
        topic: str = "clicks",
        partition: int = ANY_PARTITION,
        **more: Any,
    ) -> str:
        """Send a click, or another event by its topic, with further fields `more`; return its event id."""
        event_id = event_id or uuid.uuid4().hex
        event = {"event_id": event_id, "user_id": user_id, "item_id": item_id, "timestamp": now_ms(), **more}
        self.produce(topic, user_id, event, partition)
        return event_id

    def preference(self, user_id: str, **fields: Any) -> str:
        """Send a wish, or take one back; return its event id."""
        event_id = uuid.uuid4().hex
        self.produce(
            "preferences", user_id, {"event_id": event_id, "user_id": user_id, "timestamp": now_ms(), **fields}
        )
        return event_id

    def consume(self, topic: str) -> Iterator[tuple[str | None, Any]]:
        """Yield key and decoded value of every message of a topic, up to its present end.

        A topic given by its full name, prefix included, yields the values as bytes.
        """
        name = topic if topic.startswith(self.settings.topic_prefix) else self.settings.topic(topic)
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka.bootstrap_servers,
                "group.id": uuid.uuid4().hex,
                "enable.partition.eof": False,
            }
        )
        try:
            partitions = [TopicPartition(name, partition, 0) for partition in range(self.settings.kafka.partitions)]
            bounds = {p.partition: consumer.get_watermark_offsets(p, timeout=30) for p in partitions}
            consumer.assign(partitions)
            left = {partition: end for partition, (begin, end) in bounds.items() if begin < end}
            while left:
                message = consumer.poll(30)
                assert message is not None, f"messages of {name} up to {left} missing"
                assert not message.error(), message.error()
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if partition in left and offset + 1 >= left[partition]:
                    del left[partition]  # compaction may have removed some, never the last
                key, value = message.key(), message.value()
                decoded = None if value is None else json.loads(value) if topic != name else value
                yield (key.decode(errors="replace") if key else None), decoded
        finally:
            consumer.close()

    def newest(self) -> dict[str, Any]:
        """Return each user's newest list on the topic, None if it was erased; without the cold-start list."""
        return {key: value for key, value in self.consume("recommendations") if key not in (None, COLD_START_USER)}

    def cached(self, user_id: str) -> Any:
        """Return a user's list in Redis, or None."""
        stored = self.redis.get(self.settings.key_prefix + user_id)
        return None if stored is None else json.loads(stored)


def until(condition: Callable[[], Any], timeout_s: float = 90) -> Any:
    """Wait until a condition returns a true value; return that value. A server may not listen yet."""
    deadline = time.monotonic() + timeout_s

    def outcome_now() -> Any:
        with suppress(httpx.ConnectError):
            return condition()

    while not (outcome := outcome_now()):
        assert time.monotonic() < deadline, f"the condition is still false after {timeout_s:g} s"
        time.sleep(0.1)
    return outcome


def version(client: Client, user_id: str, wanted: int) -> bool:
    """Return whether Redis has a user's list of this state version."""
    stored = client.cached(user_id)
    return stored is not None and stored["state_version"] == wanted
