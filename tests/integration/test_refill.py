"""Redis is whole again, whatever was lost: from the topic of lists and the marks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from aiokafka.structs import RecordMetadata
from confluent_kafka import Message, Producer
from pydantic import SecretStr

from streams import metrics
from streams.embedded import free_port
from streams.kafka_client import partition_of
from streams.publish import ListCache, Published
from streams.refill import Refill
from streams.settings import Settings
from streams.topics import ensure_topics, topic_specs


class Ground:
    """The topic, Redis, and what a rank worker does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.redis = redis.Redis.from_url(settings.redis.url.get_secret_value())
        self._producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})

    def publish(self, user_id: str, version: int | None, age_s: float = 0) -> tuple[Published, RecordMetadata]:
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
        return Published(user_id, payload, 1, version or 0), place

    def foreign(self, key: str, value: bytes) -> None:
        self._producer.produce(self.settings.topic("recommendations"), value, key, 0)
        assert self._producer.flush(10) == 0

    def version(self, user_id: str) -> Any:
        stored: Any = self.redis.get(self.settings.key_prefix + user_id)
        return None if stored is None else json.loads(stored)["state_version"]

    @asynccontextmanager
    async def worker(self, **redis: Any) -> AsyncIterator[Refill]:
        settings = self.settings.model_copy(update={"redis": self.settings.redis.model_copy(update=redis)})
        cache = ListCache(settings)
        refill = Refill(settings, cache)
        refill.own(range(self.settings.kafka.partitions))
        yield refill
        await cache.close()

    def wipe(self) -> None:
        for key in self.redis.scan_iter(self.settings.key_prefix + "*"):
            self.redis.delete(key)


@pytest.fixture
def ground(settings: Settings) -> Iterator[Ground]:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    ground = Ground(settings)
    yield ground
    ground.redis.close()


def test_an_emptied_redis_gets_the_newest_lists_again(ground: Ground) -> None:
    async def played() -> None:
        async with ground.worker() as worker:
            for number in range(30):
                for version in (1, 2):
                    published, place = ground.publish(f"u{number}", version)
                    await worker.write([published], [place])
            await worker.write(*([one] for one in ground.publish("gone", None)))
            ground.foreign("stranger", b"no list")
            await worker._look()
            ground.wipe()
            assert ground.version("u3") is None
            await worker._look()
        assert [ground.version(f"u{number}") for number in range(30)] == [2] * 30
        assert ground.version("gone") is None
        ttl: Any = ground.redis.ttl(ground.settings.key_prefix + "u3")
        assert 0 < ttl <= ground.settings.redis.ttl_s

    asyncio.run(played())


def test_a_list_is_as_old_as_the_broker_says(ground: Ground) -> None:
    """Not as the clock of the worker that made it says, nor that of the one that brings it."""

    async def played() -> None:
        ground.publish("by a clock a year slow", 1, age_s=365 * 86_400)
        async with ground.worker() as worker:
            await worker._look()
        assert ground.version("by a clock a year slow") == 1
        ground.wipe()
        await asyncio.sleep(2.1)
        ground.publish("new", 1)
        async with ground.worker(ttl_s=2) as worker:
            await worker._look()
        assert ground.version("by a clock a year slow") is None, "its time is over"
        assert ground.version("new") == 1

    asyncio.run(played())


def test_only_the_newest_list_of_a_user_is_brought(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """An active user has hundreds in the topic until the broker compacts it."""
    monkeypatch.setattr("streams.refill.HELD", 5)

    async def played() -> int:
        async with ground.worker() as worker:
            for version in range(1, 41):
                for user in range(4):
                    ground.publish(f"u{user}", version)
            before = _brought()
            await worker._look()
            return round(_brought() - before)

    assert asyncio.run(played()) == 4
    assert [ground.version(f"u{user}") for user in range(4)] == [40] * 4


def _brought() -> float:
    return float(metrics.cache_refilled._value.get())


def test_lists_that_redis_could_not_take_outlive_the_worker(ground: Ground) -> None:
    away = {"url": SecretStr(f"redis://127.0.0.1:{free_port()}/0"), "timeout_ms": 200}

    async def played() -> None:
        async with (
            ground.worker() as first,
            ground.worker(**away) as second,
            ground.worker() as third,
        ):
            await first.write(*([one] for one in ground.publish("ann", 1)))
            await first._look()
            await second.write(*([one] for one in ground.publish("ann", 2)))
            assert ground.version("ann") == 1
            await third._look()  # the second was killed: the next owner begins where Redis says
            assert ground.version("ann") == 2

    asyncio.run(played())


def test_what_is_brought_does_not_undo_what_is_written_meanwhile(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that comes twice makes two lists of one version, and a tombstone has none: the topic's order counts."""

    async def played() -> None:
        async with ground.worker() as worker:
            ground.publish("ann", 7)
            ground.publish("gone", 7)
            put = worker._put

            async def overtaken(records: Any) -> int:
                for user_id, version in (("ann", 7), ("gone", None)):
                    published, place = ground.publish(user_id, version, age_s=-60)
                    await worker.write([published], [place])
                return await put(records)

            monkeypatch.setattr(worker, "_put", overtaken)
            await worker._look()
            stored: Any = ground.redis.get(ground.settings.key_prefix + "ann")
            assert json.loads(stored)["generated_at"] > time.time() * 1000
            assert ground.version("gone") is None
            monkeypatch.undo()
            ground.wipe()
            await worker._look()
            assert ground.version("ann") == 7

    asyncio.run(played())


def test_a_redis_that_is_whole_is_left_alone(ground: Ground) -> None:
    async def played() -> None:
        async with ground.worker() as worker:
            await worker._look()
            await worker.write(*([one] for one in ground.publish("ann", 1)))
            await worker._look()
            marks: Any = ground.redis.hgetall(ground.settings.key_prefix)
            partition = partition_of(b"ann", ground.settings.kafka.partitions)
            assert marks[str(partition).encode()] == b"1"
            ground.redis.delete(ground.settings.key_prefix + "ann")  # an operator's hand: not ours to undo
            await worker._look()
            assert ground.version("ann") is None

    asyncio.run(played())
