"""Wrong addresses stop every command with one line, and installations that share a Redis leave each other alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from streams import metrics
from streams.kafka.topics import ensure_topics, topic_specs
from streams.publish.backfill import owner_of
from streams.publish.list_cache import ListCache
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import KafkaSettings, RankerSettings, RedisSettings, Settings, SettingsError
from streams.testing.embedded import free_port
from streams.testing.worker_process import environment
from tests.field.redises import HOST, RedisServer
from tests.field.test_redis_refusals import checked, running, until
from tests.published import RedisWorld


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch, server: RedisServer) -> None:
    monkeypatch.setattr("streams.publish.backfill.CHECK_EVERY_S", 0.1)
    server.client.flushall()


@pytest.fixture
def shared(server: RedisServer, settings: Settings) -> Settings:
    """Settings with a key prefix that others use, too."""
    redis = RedisSettings(url=SecretStr(server.url), key_prefix="afterclick:list:")
    settings = settings.model_copy(update={"redis": redis, "ranker": RankerSettings(model="none")})
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    return settings


def command(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        env=environment(settings) | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [("worker",), ("doctor",), ("recommend", "ann")], ids=lambda words: words[0])
def test_a_wrong_address_is_one_line_before_kafka_is_asked(arguments: tuple[str, ...]) -> None:
    nowhere = Settings(kafka=KafkaSettings(bootstrap_servers=f"{HOST}:{free_port()}"))
    ended = command(nowhere, *arguments, AFTERCLICK_REDIS__URL="redis://:12#hunter2@cache:6379/0")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "afterclick: AFTERCLICK_REDIS__URL: got a value not shown, expected no '#' in it (in a password write %23); "
        "correct it"
    ]


def test_a_database_that_is_not_there_stops_the_start(shared: Settings, server: RedisServer) -> None:
    wrong = shared.model_copy(update={"redis": RedisSettings(url=SecretStr(f"redis://{HOST}:{server.port}/99"))})
    ended = command(wrong, "worker", "--role", "rank")
    assert ended.returncode == 2
    assert "Redis: got no database 99 (DB index is out of range)" in ended.stderr.splitlines()[-1]


def test_tls_where_there_is_none_is_told_the_right_way_round(server: RedisServer) -> None:
    wrong = Settings(redis=RedisSettings(url=SecretStr(f"rediss://:hunter2@{HOST}:{server.port}")))

    async def read() -> None:
        await ListCache.read_once(wrong, "ann")

    with pytest.raises(SettingsError, match=r"write redis:// \(the server has no TLS there\)$"):
        asyncio.run(read())
    missing = Settings(redis=RedisSettings(url=SecretStr(f"rediss://{HOST}:{server.port}?ssl_ca_certs=/no/ca.pem")))

    async def check() -> None:
        cache = ListCache(missing)
        await cache.check()

    with pytest.raises(SettingsError, match=r"got No such file or directory of ssl_ca_certs=/no/ca.pem, expected"):
        asyncio.run(check())


def test_another_installation_under_the_same_keys_does_not_start(shared: Settings) -> None:
    async def first() -> None:
        async with RedisWorld(shared).worker() as worker:
            await worker.synchronise()

    asyncio.run(first())
    other = shared.model_copy(update={"topic_prefix": shared.topic_prefix + "other."})
    ended = command(other, "worker", "--role", "rank")
    assert ended.returncode == 2
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("afterclick: Redis: got lists of another Afterclick under afterclick:list:*")
    assert "set another AFTERCLICK_REDIS__KEY_PREFIX" in line
    green = shared.model_copy(update={"kafka": shared.kafka.model_copy(update={"group_id": "green"})})
    own = other.model_copy(update={"redis": RedisSettings(url=other.redis.url)})
    for fine in (shared, green, own):
        assert asyncio.run(checked(fine)) == "takes lists"


def test_an_installation_that_started_while_redis_was_away_writes_nothing(shared: Settings) -> None:
    """Its start could not be refused; its lists must not replace those of the first installation."""
    first = RedisWorld(shared)
    second = RedisWorld(shared.model_copy(update={"topic_prefix": shared.topic_prefix + "other."}))
    asyncio.run(ensure_topics(second.settings, topic_specs(second.settings)))

    async def played() -> None:
        async with running(first) as older:
            await older.write(*([part] for part in first.publish("ann", 1)))
            await until(lambda: first.redis.hgetall(shared.key_prefix))
            before = metrics.cache_refusals.labels("foreign-owner")._value.get()
            async with running(second) as newer:
                await until(lambda: metrics.cache_refusals.labels("foreign-owner")._value.get() > before)
                await newer.write(*([part] for part in second.publish("ann", 9)))
                await asyncio.sleep(0.5)
                assert first.version("ann") == 1

    asyncio.run(played())


def test_offsets_without_an_owner_become_ours_and_nothing_is_copied_again(shared: Settings) -> None:
    world = RedisWorld(shared)

    async def played() -> None:
        async with world.worker() as worker:
            await worker.write(*([part] for part in world.publish("ann", 1)))
            await worker.synchronise()
            await worker.synchronise()
        world.redis.hdel(shared.key_prefix, "owner", "beat")  # as version 1 left the offsets
        before = metrics.cache_backfilled_lists._value.get()
        async with world.worker() as worker:
            await worker.synchronise()
        assert metrics.cache_backfilled_lists._value.get() == before
        assert world.redis.hget(shared.key_prefix, "owner").endswith(shared.topic("recommendations").encode())

    asyncio.run(played())


def test_a_kafka_made_anew_takes_over_once_the_old_one_is_silent(
    shared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same topic on another cluster: two live Kafkas are an error, a Kafka that was created anew is not."""
    monkeypatch.setattr("streams.publish.cache_check.GONE_S", 1.0)
    monkeypatch.setattr("streams.publish.checkpoint_offsets.GONE_S", 1.0)
    world = RedisWorld(shared)
    world.redis.hset(shared.key_prefix, mapping={"owner": f"old {shared.topic('recommendations')}", "beat": 1, 0: 9000})

    async def beating() -> None:
        while True:
            world.redis.hset(shared.key_prefix, "beat", time.monotonic_ns())
            await asyncio.sleep(0.05)

    async def played() -> None:
        alive = asyncio.create_task(beating())
        with pytest.raises(SettingsError, match="got lists of another Afterclick"):
            await checked(shared)
        async with world.worker() as worker:
            with pytest.raises(CacheUnavailable, match="another Afterclick"):
                await worker.synchronise()
        alive.cancel()
        assert await checked(shared) == "takes lists"
        for number in range(20):
            world.publish(f"u{number}", 1)
        async with running(world):
            await until(lambda: all(world.version(f"u{number}") == 1 for number in range(20)))
        assert int(world.redis.hget(shared.key_prefix, 0)) < 9000

    asyncio.run(played())


def test_an_offset_beyond_the_log_belongs_to_another_log(shared: Settings) -> None:
    """A Kafka made anew may have the same cluster id."""
    world = RedisWorld(shared)
    owner = asyncio.run(owner_of(shared))
    world.redis.hset(shared.key_prefix, mapping={"owner": owner, "beat": 1, **dict.fromkeys("0123", 9000)})
    for number in range(8):
        world.publish(f"u{number}", 1)

    async def played() -> None:
        async with world.worker() as worker:
            await worker.synchronise()

    asyncio.run(played())
    assert [world.version(f"u{number}") for number in range(8)] == [1] * 8
