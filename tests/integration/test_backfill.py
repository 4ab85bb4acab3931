"""Redis is complete again after any loss, from the topic of lists and the checkpoint offsets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from streams import metrics
from streams.kafka.client import partition_of
from streams.kafka.topics import ensure_topics, topic_specs
from streams.settings import Settings
from streams.testing.embedded import free_port
from tests.published import RedisWorld


@pytest.fixture
def world(settings: Settings) -> Iterator[RedisWorld]:
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    world = RedisWorld(settings)
    yield world
    world.redis.close()


def test_an_emptied_redis_gets_the_newest_lists_again(world: RedisWorld) -> None:
    async def played() -> None:
        async with world.worker() as worker:
            for number in range(30):
                for version in (1, 2):
                    published, record = world.publish(f"u{number}", version)
                    await worker.write([published], [record])
            await worker.write(*([part] for part in world.publish("gone", None)))
            world.publish_foreign("stranger", b"no list")
            await worker.synchronise()
            world.wipe()
            assert world.version("u3") is None
            await worker.synchronise()
        assert [world.version(f"u{number}") for number in range(30)] == [2] * 30
        assert world.version("gone") is None
        ttl: Any = world.redis.ttl(world.settings.key_prefix + "u3")
        assert 0 < ttl <= world.settings.redis.ttl_s

    asyncio.run(played())


def test_a_list_is_as_old_as_the_broker_says(world: RedisWorld) -> None:
    """Neither the clock of the worker that made the list counts, nor that of the worker that copies it."""

    async def played() -> None:
        world.publish("by a clock that is a year slow", 1, age_s=365 * 86_400)
        async with world.worker() as worker:
            await worker.synchronise()
        assert world.version("by a clock that is a year slow") == 1
        world.wipe()
        await asyncio.sleep(2.1)
        world.publish("new", 1)
        world.publish("published again without an item", 1, written=str(round(time.time() * 1000) - 5_000).encode())
        async with world.worker(ttl_s=2) as worker:
            await worker.synchronise()
        assert world.version("by a clock that is a year slow") is None, "it has expired"
        assert world.version("new") == 1
        assert world.version("published again without an item") is None, "it has expired as if it were not"

    asyncio.run(played())


def test_only_the_newest_list_of_a_user_is_copied(world: RedisWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """An active user has hundreds of lists in the topic until the broker compacts it."""
    monkeypatch.setattr("streams.publish.topic_replay.MAX_GATHERED", 5)

    async def played() -> int:
        async with world.worker() as worker:
            for version in range(1, 41):
                for user in range(4):
                    world.publish(f"u{user}", version)
            before = _copied()
            await worker.synchronise()
            return round(_copied() - before)

    assert asyncio.run(played()) == 4
    assert [world.version(f"u{user}") for user in range(4)] == [40] * 4


def _copied() -> float:
    return float(metrics.cache_backfilled_lists._value.get())


def test_lists_that_redis_could_not_take_outlive_the_worker(world: RedisWorld) -> None:
    away = {"url": SecretStr(f"redis://127.0.0.1:{free_port()}/0"), "timeout_ms": 200}

    async def played() -> None:
        async with (
            world.worker() as first,
            world.worker(**away) as second,
            world.worker() as third,
        ):
            await first.write(*([part] for part in world.publish("ann", 1)))
            await first.synchronise()
            await second.write(*([part] for part in world.publish("ann", 2)))
            assert world.version("ann") == 1
            await third.synchronise()  # the second was killed: the next owner begins at the checkpoint
            assert world.version("ann") == 2

    asyncio.run(played())


def test_copied_lists_do_not_replace_lists_written_meanwhile(
    world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request delivered twice makes two lists of one version, a tombstone has none: the topic's order counts."""

    async def played() -> None:
        async with world.worker() as worker:
            world.publish("ann", 7)
            world.publish("gone", 7)
            put = worker._put

            async def put_late(records: Any) -> int:
                for user_id, version in (("ann", 7), ("gone", None)):
                    published, record = world.publish(user_id, version, age_s=-60)
                    await worker.write([published], [record])
                return await put(records)

            monkeypatch.setattr(worker, "_put", put_late)
            await worker.synchronise()
            stored: Any = world.redis.get(world.settings.key_prefix + "ann")
            assert json.loads(stored)["generated_at"] > time.time() * 1000
            assert world.version("gone") is None
            monkeypatch.undo()
            world.wipe()
            await worker.synchronise()
            assert world.version("ann") == 7

    asyncio.run(played())


def test_a_complete_redis_is_not_written_to(world: RedisWorld) -> None:
    async def played() -> None:
        async with world.worker() as worker:
            await worker.synchronise()
            await worker.write(*([part] for part in world.publish("ann", 1)))
            await worker.synchronise()
            offsets: Any = world.redis.hgetall(world.settings.key_prefix)
            partition = partition_of(b"ann", world.settings.kafka.partitions)
            assert offsets[str(partition).encode()] == b"1"
            world.redis.delete(world.settings.key_prefix + "ann")  # an operator deleted it: that stays
            await worker.synchronise()
            assert world.version("ann") is None

    asyncio.run(played())
