"""Lists in their topic, and what a rank worker does with them, for tests of Redis that need no worker."""

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


class Ground:
    """The topic, Redis, and what a rank worker does."""

    def __init__(self, settings: Settings, client: Any = None) -> None:
        self.settings = settings
        self.redis: Any = client or redis.Redis.from_url(settings.redis.url.get_secret_value())
        self._producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})

    def publish(self, user_id: str, version: int | None, age_s: float = 0) -> tuple[OutgoingList, RecordMetadata]:
        """A list into the topic; what goes to Redis."""
        at = round((time.time() - age_s) * 1000)
        value = {"user_id": user_id, "as_of": 1, "state_version": version, "generated_at": at}
        payload = None if version is None else json.dumps(value).encode()
        partition = partition_of(user_id.encode(), self.settings.kafka.partitions)
        offsets: list[int] = []

        def stored(_: Any, message: Message) -> None:
            offsets.append(message.offset() or 0)

        topic = self.settings.topic("recommendations")
        self._producer.produce(topic, payload, user_id, partition, on_delivery=stored)
        assert self._producer.flush(10) == 0
        place = RecordMetadata(topic, partition, None, offsets[0], 0, 0, 0)
        return OutgoingList(user_id, payload, 1, version or 0), place

    def foreign(self, key: str, value: bytes) -> None:
        self._producer.produce(self.settings.topic("recommendations"), value, key, 0)
        assert self._producer.flush(10) == 0

    def version(self, user_id: str) -> Any:
        stored: Any = self.redis.get(self.settings.key_prefix + user_id)
        return None if stored is None else json.loads(stored)["state_version"]

    @asynccontextmanager
    async def worker(self, **redis: Any) -> AsyncIterator[Backfill]:
        settings = self.settings.model_copy(update={"redis": self.settings.redis.model_copy(update=redis)})
        cache = ListCache(settings)
        refill = Backfill(settings, cache)
        refill.own(range(self.settings.kafka.partitions))
        try:
            yield refill
        finally:
            await cache.close()

    def wipe(self) -> None:
        for key in self.redis.scan_iter(self.settings.key_prefix + "*"):
            self.redis.delete(key)
