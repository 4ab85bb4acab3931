"""Redis is whole again, whatever was lost: from the topic of lists and the marks."""

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
from tests.published import Ground


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
            await worker.synchronise()
            ground.wipe()
            assert ground.version("u3") is None
            await worker.synchronise()
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
            await worker.synchronise()
        assert ground.version("by a clock a year slow") == 1
        ground.wipe()
        await asyncio.sleep(2.1)
        ground.publish("new", 1)
        async with ground.worker(ttl_s=2) as worker:
            await worker.synchronise()
        assert ground.version("by a clock a year slow") is None, "its time is over"
        assert ground.version("new") == 1

    asyncio.run(played())


def test_only_the_newest_list_of_a_user_is_brought(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """An active user has hundreds in the topic until the broker compacts it."""
    monkeypatch.setattr("streams.publish.topic_replay.MAX_GATHERED", 5)

    async def played() -> int:
        async with ground.worker() as worker:
            for version in range(1, 41):
                for user in range(4):
                    ground.publish(f"u{user}", version)
            before = _brought()
            await worker.synchronise()
            return round(_brought() - before)

    assert asyncio.run(played()) == 4
    assert [ground.version(f"u{user}") for user in range(4)] == [40] * 4


def _brought() -> float:
    return float(metrics.cache_backfilled_lists._value.get())


def test_lists_that_redis_could_not_take_outlive_the_worker(ground: Ground) -> None:
    away = {"url": SecretStr(f"redis://127.0.0.1:{free_port()}/0"), "timeout_ms": 200}

    async def played() -> None:
        async with (
            ground.worker() as first,
            ground.worker(**away) as second,
            ground.worker() as third,
        ):
            await first.write(*([one] for one in ground.publish("ann", 1)))
            await first.synchronise()
            await second.write(*([one] for one in ground.publish("ann", 2)))
            assert ground.version("ann") == 1
            await third.synchronise()  # the second was killed: the next owner begins where Redis says
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
            await worker.synchronise()
            stored: Any = ground.redis.get(ground.settings.key_prefix + "ann")
            assert json.loads(stored)["generated_at"] > time.time() * 1000
            assert ground.version("gone") is None
            monkeypatch.undo()
            ground.wipe()
            await worker.synchronise()
            assert ground.version("ann") == 7

    asyncio.run(played())


def test_a_redis_that_is_whole_is_left_alone(ground: Ground) -> None:
    async def played() -> None:
        async with ground.worker() as worker:
            await worker.synchronise()
            await worker.write(*([one] for one in ground.publish("ann", 1)))
            await worker.synchronise()
            marks: Any = ground.redis.hgetall(ground.settings.key_prefix)
            partition = partition_of(b"ann", ground.settings.kafka.partitions)
            assert marks[str(partition).encode()] == b"1"
            ground.redis.delete(ground.settings.key_prefix + "ann")  # an operator's hand: not ours to undo
            await worker.synchronise()
            assert ground.version("ann") is None

    asyncio.run(played())
