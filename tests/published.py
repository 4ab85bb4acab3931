"""Lists in their topic and the back-fill of a rank worker, for tests of Redis that need no worker process."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis
from aiokafka.structs import RecordMetadata
from confluent_kafka import Message, Producer

from streams.kafka.client import partition_of
from streams.publish.backfill import Backfill
from streams.publish.list_cache import ListCache, OutgoingList
from streams.settings import Settings


class RedisWorld:
    """The topic of lists and a Redis, of one installation."""

    def __init__(self, settings: Settings, client: Any = None) -> None:
        self.settings = settings
        self.redis: Any = client or redis.Redis.from_url(settings.redis.url.get_secret_value())
        self._producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})

    def publish(
        self, user_id: str, version: int | None, age_s: float = 0, **headers: bytes
    ) -> tuple[OutgoingList, RecordMetadata]:
        """Write a list to the topic. Returns what goes to Redis, and where the list is in the topic."""
        generated_ms = round((time.time() - age_s) * 1000)
        value = {"user_id": user_id, "as_of": 1, "state_version": version, "generated_at": generated_ms}
        payload = None if version is None else json.dumps(value).encode()
        partition = partition_of(user_id.encode(), self.settings.kafka.partitions)
        offsets: list[int] = []

        def stored(_: Any, message: Message) -> None:
            offsets.append(message.offset() or 0)

        topic = self.settings.topic("recommendations")
        self._producer.produce(topic, payload, user_id, partition, on_delivery=stored, headers=list(headers.items()))
        assert self._producer.flush(10) == 0
        record = RecordMetadata(topic, partition, None, offsets[0], 0, 0, 0)
        return OutgoingList(user_id, payload, 1, version or 0), record

    def publish_foreign(self, key: str, value: bytes) -> None:
        """Write a record to the topic that is no list of ours."""
        self._producer.produce(self.settings.topic("recommendations"), value, key, 0)
        assert self._producer.flush(10) == 0

    def version(self, user_id: str) -> Any:
        """The `state_version` of the user's list in Redis; None if there is none."""
        stored: Any = self.redis.get(self.settings.key_prefix + user_id)
        return None if stored is None else json.loads(stored)["state_version"]

    @asynccontextmanager
    async def worker(self, **redis: Any) -> AsyncIterator[Backfill]:
        """The back-fill of a worker that owns all partitions, with these settings of Redis changed."""
        settings = self.settings.model_copy(update={"redis": self.settings.redis.model_copy(update=redis)})
        cache = ListCache(settings)
        backfill = Backfill(settings, cache)
        backfill.own(range(self.settings.kafka.partitions))
        try:
            yield backfill
        finally:
            await cache.close()

    def wipe(self) -> None:
        """Delete all keys of this installation."""
        for key in self.redis.scan_iter(self.settings.key_prefix + "*"):
            self.redis.delete(key)
