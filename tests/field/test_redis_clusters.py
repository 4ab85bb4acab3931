"""No list is missing after a cluster's slots move, a master of it dies, or sentinels replace a master."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from streams import metrics
from streams.publish.list_cache import ListCache
from streams.publish.redis_connection import RedisConnection
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import RedisSettings, Settings, SettingsError
from streams.settings.redis_address import parse
from tests.field.redises import HOST, Cluster, RedisServer, cluster, sentinels
from tests.field.test_redis_refusals import pending, running, until, world_of
from tests.published import RedisWorld

BUSY_MS = 10_000
"""A limit that no command exceeds on a busy machine."""
USERS = [f"u{number}" for number in range(30)]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.publish.backfill.CHECK_EVERY_S", 0.1)
    monkeypatch.setattr("streams.publish.backfill.MAX_PAUSE_S", 1.0)


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as formed:
        yield formed


async def checked(settings: Settings) -> str:
    cache = ListCache(settings)
    try:
        return await cache.check()
    finally:
        await cache.close()


def all_there(world: RedisWorld, version: int) -> bool:
    try:
        return all(world.version(user) == version for user in USERS)
    except (redis.RedisError, redis.exceptions.RedisClusterException):
        return False


def test_a_key_on_its_way_is_written_whatever_connections_are_free(masters: Cluster) -> None:
    """redis-py takes the connections in turn: with two of them, ASKING went over one and the command over the other."""
    key = "afterclick:list:on-its-way"
    source = next(server for server in masters.masters if server.port == masters.client.get_node_from_key(key).port)
    target = next(server for server in masters.masters if server is not source)

    async def played() -> None:
        connection = RedisConnection(parse(f"redis://{HOST}:{source.port},{HOST}:{target.port}"), BUSY_MS / 1000)
        await connection.run_one("SET", key, "0")
        for node in connection._client.get_nodes():
            free = [node.acquire_connection() for _ in range(2)]
            for one in free:
                await one.connect()
                node.release(one)
        for version, _ in enumerate(masters.move(masters.client.keyslot(key), source, target)):
            assert await connection.run([("SET", key, version), ("GET", key)]) == [True, str(version).encode()]
        assert version == 1
        await connection.close()

    asyncio.run(played())


def test_a_cluster_takes_all_lists_while_a_slot_moves_and_a_master_dies(masters: Cluster, settings: Settings) -> None:
    hosts = ",".join(f"{HOST}:{server.port}" for server in masters.masters[:2])  # one of them may die
    world = world_of(settings, f"redis://{hosts}", masters.client, timeout_ms=BUSY_MS)
    key = world.settings.key_prefix + USERS[0]
    slot = world.redis.keyslot(key)
    source = next(server for server in masters.masters if server.port == world.redis.get_node_from_key(key).port)
    target = next(server for server in masters.masters if server is not source)

    async def played() -> None:
        async with running(world) as worker:
            for version in (1, 2):
                batch = [world.publish(user, version) for user in USERS]
                await worker.write(*zip(*batch, strict=True))
            assert all_there(world, 2)
            failed = metrics.cache_writes.labels("failed")._value.get()
            for version, _ in enumerate(masters.move(slot, source, target), 3):
                batch = [world.publish(user, version) for user in USERS]
                await worker.write(*zip(*batch, strict=True))
                assert all_there(world, version)
            version += 1
            batch = [world.publish(user, version) for user in USERS]
            await worker.write(*zip(*batch, strict=True))
            assert all_there(world, version)
            assert await asyncio.to_thread(_read_once, world.settings, USERS[0]) == version
            assert metrics.cache_writes.labels("failed")._value.get() == failed, "a slot on its way refuses nothing"

            masters.replace_soon()
            source.kill()
            for _ in range(40):
                version += 1
                batch = [world.publish(user, version) for user in USERS]
                await worker.write(*zip(*batch, strict=True))
                await asyncio.sleep(0.1)
            await until(lambda: all_there(world, version), 20)
            await until(lambda: pending() == 0)
            assert await checked(world.settings) == "takes lists, as a cluster of 3 masters"
            assert await asyncio.to_thread(_read_once, world.settings, USERS[0]) == version

    asyncio.run(played())
    world.redis.close()


def _read_once(settings: Settings, user: str) -> Any:
    stored = asyncio.run(ListCache.read_once(settings, user))
    return json.loads(stored or b"{}")["state_version"]


def test_in_a_cluster_the_readmes_acl_is_enough_and_other_databases_are_refused(masters: Cluster) -> None:
    running = [server for server in masters.all if server.process]
    rights = "~afterclick:list:* +get +mget +getrange +set +del +eval +hget +hset +hgetall"
    for server in running:
        server.client.execute_command(f"ACL SETUSER app reset on >pw {rights} +cluster|slots")
    url = f"redis://app:pw@{HOST}:{running[0].port}"
    for server in running:
        server.client.execute_command("ACL SETUSER app -cluster|slots")
    with pytest.raises(SettingsError, match=r"got no permission \(.*cluster\|slots.* correct the user's ACL"):
        asyncio.run(checked(Settings(redis=RedisSettings(url=SecretStr(url)))))
    for server in running:
        server.client.execute_command("ACL SETUSER app +cluster|slots")
    assert "3 masters" in asyncio.run(checked(Settings(redis=RedisSettings(url=SecretStr(url)))))
    with pytest.raises(SettingsError, match=r"got no database 3 .*, in a cluster 0; correct AFTERCLICK_REDIS__URL"):
        asyncio.run(checked(Settings(redis=RedisSettings(url=SecretStr(f"redis://{HOST}:{running[0].port}/3")))))
    master = next(server for server in running if server.client.role()[0] == b"master")
    master.client.config_set("maxmemory", 1)
    with pytest.raises(CacheUnavailable, match="got no room"):
        asyncio.run(checked(Settings(redis=RedisSettings(url=SecretStr(running[0].url)))))
    master.client.config_set("maxmemory", 0)


def test_no_list_is_missing_after_sentinels_replace_the_master(settings: Settings, tmp_path: Path) -> None:
    with sentinels(tmp_path) as ((master, replica), watching):
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in watching)
        world = world_of(settings, f"redis+sentinel://{hosts}/lists/0", replica.client)

        async def played() -> None:
            async with running(world) as worker:
                batch = [world.publish(user, 1) for user in USERS]
                await worker.write(*zip(*batch, strict=True))
                await until(lambda: all_there(world, 1) and pending() == 0)
                assert await asyncio.to_thread(_read_once, world.settings, USERS[0]) == 1
                master.kill()
                watching[0].kill()
                batch = [world.publish(user, 2) for user in USERS]
                await worker.write(*zip(*batch, strict=True))
                assert pending() >= len(USERS)
                await until(lambda: all_there(world, 2), 30)
                await until(lambda: pending() == 0)
                assert await checked(world.settings) == "takes lists"
                master.start()  # comes back as a replica

        asyncio.run(played())
        _wrong_addresses(watching[1], replica)
        world.redis.close()


def _wrong_addresses(sentinel: RedisServer, server: RedisServer) -> None:
    for url, said in (
        (f"redis://{HOST}:{sentinel.port}", r"got a sentinel, expected Redis; .*redis\+sentinel://"),
        (f"redis+sentinel://{HOST}:{server.port}/lists", r"got a server that is no sentinel"),
        (f"redis://{HOST}:{server.port},{HOST}:{server.port}", r"got a single server .*write one host"),
        (f"redis+sentinel://{HOST}:{sentinel.port}/other", r"got no master \(No master found for 'other'\)"),
    ):
        kind = CacheUnavailable if "other" in url else SettingsError
        with pytest.raises(kind, match=said):
            asyncio.run(checked(Settings(redis=RedisSettings(url=SecretStr(url)))))
