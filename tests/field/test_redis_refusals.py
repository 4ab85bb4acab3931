"""Each refusal of Redis is logged once, counted, shown by the check and in the pending lists, until it is repaired."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from encoders.errors import AfterclickError
from streams import metrics
from streams.commands.doctor import doctor
from streams.kafka.topics import ensure_topics, topic_specs
from streams.publish.backfill import Backfill, owner_of
from streams.publish.list_cache import ListCache, OutgoingList, WriteOutcome
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import RedisSettings, Settings, SettingsError
from tests.faults.cluster import Wire
from tests.field.redises import HOST, RedisServer, RefusingServer
from tests.published import RedisWorld

README = Path(__file__).parents[2] / "deploy/README.md"
COMMANDS = ("get", "mget", "getrange", "set", "del", "eval", "hget", "hset", "hgetall")
USERS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def world(server: RedisServer, settings: Settings) -> Iterator[RedisWorld]:
    """A topic of this test's own, and an emptied server."""
    server.client.flushall()
    made = world_of(settings, server.url)
    yield made
    made.redis.close()


def world_of(settings: Settings, url: str, client: Any = None, **redis: Any) -> RedisWorld:
    """The topics of these settings, with this Redis."""
    settings = settings.model_copy(update={"redis": RedisSettings(url=SecretStr(url), **redis)})
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    return RedisWorld(settings, client)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.publish.backfill.CHECK_EVERY_S", 0.1)
    monkeypatch.setattr("streams.publish.backfill.MAX_PAUSE_S", 1.0)


def refused(reason: str) -> float:
    return float(metrics.cache_refusals.labels(reason)._value.get())


def pending() -> float:
    return float(metrics.cache_pending._value.get())


@asynccontextmanager
async def running(world: RedisWorld, **redis: Any) -> AsyncIterator[Backfill]:
    """A worker whose back-fill runs."""
    async with world.worker(**redis) as worker:
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            while worker.is_copying and not task.done():  # noqa: ASYNC110  a cancelled start leaves its socket open
                await asyncio.sleep(0.02)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # raises the error that ended it


async def until(condition: Callable[[], Any], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition does not hold after {timeout_s:g} s"
        await asyncio.sleep(0.05)


async def checked(settings: Settings) -> str:
    cache = ListCache(settings)
    try:
        return await cache.check(await owner_of(settings))
    finally:
        await cache.close()


def logged(caplog: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(start)]


def test_a_check_changes_nothing(server: RedisServer, world: RedisWorld) -> None:
    async def played() -> None:
        async with world.worker() as worker:
            await worker.write(*([part] for part in world.publish("ann", 1)))
            await worker.synchronise()
            before = {key: server.client.dump(key) for key in server.client.scan_iter()}
            assert len(before) == 2
            commands = server.client.info("commandstats")
            for _ in range(3):
                assert await checked(world.settings) == "takes lists"
            assert {key: server.client.dump(key) for key in server.client.scan_iter()} == before
            assert set(server.client.info("commandstats")) > set(commands) - {"cmdstat_keys"}
            copied = metrics.cache_backfilled_lists._value.get()
            await worker.synchronise()
            assert metrics.cache_backfilled_lists._value.get() == copied, "unchanged offsets: nothing is read again"

    asyncio.run(played())


def test_the_readmes_acl_is_enough_to_complete_an_emptied_redis(server: RedisServer, world: RedisWorld) -> None:
    (rights,) = re.findall(r"an ACL of `(~afterclick:list:\* [^`]*)`", README.read_text(encoding="utf-8"))
    server.client.execute_command("ACL SETUSER app reset on >pw " + rights)
    login = SecretStr(f"redis://app:pw@{HOST}:{server.port}/0")

    async def played() -> None:
        async with running(world, url=login) as worker:
            for number in range(USERS):
                await worker.write(*([part] for part in world.publish(f"u{number}", 1)))
            await worker.write(*([part] for part in world.publish("gone", None)))
            server.client.flushall()
            await until(lambda: all(world.version(f"u{number}") == 1 for number in range(USERS)))
            await until(lambda: pending() == 0)

    app = world.settings.model_copy(update={"redis": RedisSettings(url=login)})
    assert asyncio.run(checked(app)) == "takes lists"
    asyncio.run(played())
    server.client.acl_deluser("app")


@pytest.mark.parametrize("missing", COMMANDS)
def test_a_check_names_each_right_that_is_missing(server: RedisServer, world: RedisWorld, missing: str) -> None:
    rights = " ".join(f"+{command}" for command in COMMANDS if command != missing)
    server.client.execute_command(f"ACL SETUSER app reset on >pw ~afterclick:list:* {rights}")
    app = world.settings.model_copy(
        update={"redis": RedisSettings(url=SecretStr(f"redis://app:pw@{HOST}:{server.port}"))}
    )
    with pytest.raises(
        SettingsError, match=rf"(?i)got no permission .*\b{missing}\b.*, expected .*correct the user's ACL"
    ) as error:
        asyncio.run(checked(app))
    assert "\n" not in str(error.value)
    assert "pw" not in str(error.value)
    asyncio.run(until(lambda: not server.client.keys("*-*")))  # the keys of the check are gone
    server.client.acl_deluser("app")


def acl(server: RedisServer, rights: str) -> None:
    server.client.execute_command(f"ACL SETUSER default {rights}")


def config(server: RedisServer, **options: Any) -> None:
    for name, value in options.items():
        server.client.config_set(name.replace("_", "-"), value)


def replica_of(server: RedisServer, *master: Any) -> None:
    server.client.execute_command("REPLICAOF", *(master or ("NO", "ONE")))


FAULTS: dict[str, tuple[str, Callable[[RedisServer, str], Any], Callable[[RedisServer, str], Any], bool]] = {
    "no right to EVAL": ("permission", lambda s, _: acl(s, "-eval"), lambda s, _: acl(s, "+eval"), True),
    "no right to HGETALL": ("permission", lambda s, _: acl(s, "-hgetall"), lambda s, _: acl(s, "+hgetall"), True),
    "no right to SET": ("permission", lambda s, _: acl(s, "-set"), lambda s, _: acl(s, "+set"), True),
    "full": ("full", lambda s, _: config(s, maxmemory=1), lambda s, _: config(s, maxmemory=0), False),
    "a replica": ("read-only", lambda s, _: replica_of(s, HOST, 1), lambda s, _: replica_of(s), False),
    "no replica to write to": (
        "not-writing",
        lambda s, _: config(s, min_replicas_to_write=1),
        lambda s, _: config(s, min_replicas_to_write=0),
        False,
    ),
    "the checkpoint offsets are of another type": (
        "wrong-type",
        lambda s, key: (s.client.delete(key), s.client.set(key, "x")),
        lambda s, key: s.client.delete(key),
        False,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refusal_is_logged_and_counted_and_ends_when_repaired(
    server: RedisServer, world: RedisWorld, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason, breaks, repairs, lasting = FAULTS[fault]
    caplog.set_level(logging.INFO, "streams")

    async def played() -> None:
        async with running(world) as worker:
            await worker.write(*([part] for part in world.publish("before", 1)))
            await until(lambda: pending() == 0 and world.redis.hgetall(world.settings.key_prefix))
            before = refused(reason)
            breaks(server, world.settings.key_prefix)
            try:
                for number in range(USERS):
                    await worker.write(*([part] for part in world.publish(f"u{number}", 1)))
                await until(lambda: refused(reason) > before)
                await until(lambda: pending() > 0)
                with pytest.raises(SettingsError if lasting else CacheUnavailable):
                    await checked(world.settings)
                row = await doctor._redis(world.settings)
                assert not row.ok
                assert row.advice.startswith("Redis: got ")
                await asyncio.sleep(1)
                since = refused(reason)
                await asyncio.sleep(1)
                assert refused(reason) - since <= 2 * USERS, "attempts back off"
            finally:
                repairs(server, world.settings.key_prefix)
            await until(lambda: all(world.version(f"u{number}") == 1 for number in range(USERS)))
            await until(lambda: pending() == 0)
            assert await checked(world.settings) == "takes lists"

    asyncio.run(played())
    refusals = [line for line in logged(caplog, "Redis ") if "resolved" not in line and "is back after" not in line]
    assert 1 <= len(refusals) <= 2, refusals  # of the lists, of the offsets
    assert len({line.split(" (")[0] for line in refusals}) == len(refusals)


def test_a_damaged_offset_is_logged_and_corrected(
    server: RedisServer, world: RedisWorld, caplog: pytest.LogCaptureFixture
) -> None:
    async def played() -> None:
        async with running(world) as worker:
            await worker.write(*([part] for part in world.publish("ann", 1)))
            key = world.settings.key_prefix
            await until(lambda: len(world.redis.hgetall(key)) == world.settings.kafka.partitions + 2)
            before = refused("damaged-offset")
            server.client.hset(key, mapping=dict.fromkeys(range(4), "no number"))
            with pytest.raises(CacheUnavailable, match=r"got b'no number' as the checkpoint offset of partition"):
                await checked(world.settings)
            await until(lambda: all(server.client.hget(key, p).isdigit() for p in range(4)))
            assert refused("damaged-offset") == before + 4
            await until(lambda: pending() == 0)

    asyncio.run(played())
    assert len(logged(caplog, "Redis does not keep checkpoint offsets")) == 1


def test_a_key_that_holds_no_list_does_not_affect_other_users(
    server: RedisServer, world: RedisWorld, caplog: pytest.LogCaptureFixture
) -> None:
    async def played() -> None:
        async with running(world) as worker:
            key = f"{world.settings.key_prefix}bad"
            server.client.rpush(key, "someone's")
            batch = [world.publish(user, 1) for user in ("ann", "bad", "bob")]
            before = refused("wrong-type")
            await worker.write([list_ for list_, _ in batch], [record for _, record in batch])
            assert [world.version(user) for user in ("ann", "bob")] == [1, 1]
            assert refused("wrong-type") == before + 1
            await until(lambda: pending() == 1)
            copied = metrics.cache_backfilled_lists._value.get()
            server.client.delete(world.settings.key_prefix)  # all lists are copied again, and this key is refused again
            await until(lambda: metrics.cache_backfilled_lists._value.get() > copied and not worker.is_copying)
            await until(lambda: pending() == 1)
            assert server.client.lrange(key, 0, -1) == [b"someone's"]
            server.client.delete(key)
            await worker.write(*([part] for part in world.publish("bad", 2)))
            assert world.version("bad") == 2
            await until(lambda: pending() == 0)

    asyncio.run(played())
    assert len(logged(caplog, "Redis does not take lists")) == 1


def test_a_failover_to_a_replica_without_the_latest_lists(
    server: RedisServer, world: RedisWorld, tmp_path: Path
) -> None:
    """The replica takes over and connections stay open: the lists of the last seconds are copied again."""
    with RedisServer(tmp_path, "--replicaof", f"{HOST} {server.port}") as replica:
        wire = Wire(server.port)
        url = SecretStr(f"redis://{HOST}:{wire.port}/0")

        async def played() -> None:
            async with running(world, url=url, timeout_ms=2000) as worker:
                await worker.write(*([part] for part in world.publish("ann", 1)))
                await until(lambda: replica.client.get(f"{world.settings.key_prefix}ann"))
                await until(lambda: pending() == 0)
                replica.client.execute_command("REPLICAOF", "NO", "ONE")
                await worker.write(*([part] for part in world.publish("bob", 1)))  # which the replica never sees
                await until(lambda: pending() == 0)
                replica.client.hset(world.settings.key_prefix, mapping=server.client.hgetall(world.settings.key_prefix))
                wire.lead_to(replica.port)
                began_s = time.monotonic()
                server.client.execute_command("REPLICAOF", HOST, replica.port)  # old connections stay, READONLY
                await worker.write(*([part] for part in world.publish("cid", 1)))
                await until(
                    lambda: all(replica.client.get(f"{world.settings.key_prefix}{u}") for u in ("ann", "bob", "cid"))
                )
                assert time.monotonic() - began_s < 8
                await until(lambda: pending() == 0)

        try:
            asyncio.run(played())
        finally:
            wire.close()
            replica_of(server)


@pytest.mark.parametrize(
    ("error", "said", "lasting"),
    [
        ("LOADING Redis is loading the dataset in memory", "still loads its data", False),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "got no master", False),
        ("CLUSTERDOWN The cluster is down", "a cluster that lacks nodes", False),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "a cluster that lacks nodes", False),
        ("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist", "writes nothing", False),
        ("ERR max number of clients reached", "max number of clients reached; expected an answer", False),
        ("NOAUTH Authentication required.", "a refusal of the login", True),
        ("WRONGPASS invalid username-password pair or user is disabled.", "a refusal of the login", True),
        ("ERR unknown command {args}, with args beginning with: {args} ", "without what we need", True),
        ("ERR syntax error", "without what we need", True),
        ("ERR DB index is out of range", "got no database 7", True),
        ("ERR something new", "read Redis' log", False),
    ],
)
def test_each_error_of_a_server_has_a_line_without_a_secret(
    error: str, said: str, lasting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers repeat what they receive, the password included."""
    caplog.set_level(logging.DEBUG)
    with RefusingServer(error) as server:
        settings = Settings(
            redis=RedisSettings(url=SecretStr(f"redis://app:hunter2@{HOST}:{server.port}/7"), timeout_ms=500)
        )

        async def played() -> tuple[AfterclickError, list[WriteOutcome]]:
            cache = ListCache(settings)
            with pytest.raises(SettingsError if lasting else CacheUnavailable, match=said) as caught:
                await cache.check()
            outcomes = await cache.write([OutgoingList("ann", json.dumps({}).encode())])
            await cache.close()
            return caught.value, outcomes

        raised, outcomes = asyncio.run(played())
    assert outcomes == [WriteOutcome.RETRY]
    assert "hunter2" not in str(raised) + caplog.text
    assert len(logged(caplog, "Redis does not take lists") + logged(caplog, "Redis is away since")) == 1
    assert "\n" not in str(raised)


def test_a_renamed_command_stops_the_start(tmp_path: Path) -> None:
    for command in ("EVAL", "HGETALL", "DEL"):
        with (
            RedisServer(tmp_path, "--rename-command", command, "other") as server,
            pytest.raises(SettingsError, match=rf"(?i){command}.*no command renamed"),
        ):
            asyncio.run(_checked_alone(server.url))


CLIENTS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "too many clients": ("away", lambda c: c.config_set("maxclients", 1), lambda c: c.config_set("maxclients", 1000)),
    "a new password": (
        "login",
        lambda c: c.execute_command("ACL SETUSER app resetpass >other"),
        lambda c: c.execute_command("ACL SETUSER app resetpass >pw"),
    ),
}


@pytest.mark.parametrize("fault", CLIENTS)
def test_lists_follow_once_redis_accepts_connections_again(server: RedisServer, world: RedisWorld, fault: str) -> None:
    reason, breaks, repairs = CLIENTS[fault]

    async def played() -> None:
        async with running(world, url=SecretStr(f"redis://app:pw@{HOST}:{server.port}/0")) as worker:
            await worker.write(*([part] for part in world.publish("ann", 1)))
            await until(lambda: pending() == 0)
            before = refused(reason)
            breaks(keeper)
            keeper.client_kill_filter(_type="normal", skipme=True)
            await worker.write(*([part] for part in world.publish("bob", 1)))
            await until(lambda: refused(reason) > before and pending() > 0)
            repairs(keeper)
            await until(lambda: world.version("bob") == 1 and pending() == 0)

    with redis.Redis(host=HOST, port=server.port, single_connection_client=True) as keeper:
        keeper.execute_command("ACL SETUSER app reset on >pw ~* +@all")
        try:
            asyncio.run(played())
        finally:
            repairs(keeper)
            keeper.acl_deluser("app")


async def _checked_alone(url: str) -> str:
    cache = ListCache(Settings(redis=RedisSettings(url=SecretStr(url))))
    try:
        return await cache.check()
    finally:
        await cache.close()
