"""Whatever Redis refuses: told once, counted, shown by the check and in what is pending, and over once it is mended."""

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
from streams.publish.backfill import Refill, owner_of
from streams.publish.list_cache import ListCache, Published, Taken
from streams.publish.redis_refusal import CacheUnavailable
from streams.settings import Redis, Settings, SettingsError
from tests.faults.cluster import Wire
from tests.field.redises import HOST, Refusing, Server
from tests.published import Ground

README = Path(__file__).parents[2] / "deploy/README.md"
COMMANDS = ("get", "set", "del", "eval", "hget", "hset", "hgetall")
USERS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def ground(server: Server, settings: Settings) -> Iterator[Ground]:
    """A topic of this test's own; the server is emptied and as it came."""
    server.client.flushall()
    made = ground_of(settings, server.url)
    yield made
    made.redis.close()


def ground_of(settings: Settings, url: str, client: Any = None) -> Ground:
    """The topics of these settings, with this Redis."""
    settings = settings.model_copy(update={"redis": Redis(url=SecretStr(url))})
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    return Ground(settings, client)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.publish.backfill.LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("streams.publish.backfill.MOST_S", 1.0)


def refused(reason: str) -> float:
    return float(metrics.cache_refusals.labels(reason)._value.get())


def pending() -> float:
    return float(metrics.cache_pending._value.get())


@asynccontextmanager
async def running(ground: Ground, **redis: Any) -> AsyncIterator[Refill]:
    """A worker whose refill runs."""
    async with ground.worker(**redis) as worker:
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            while worker._bringing and not task.done():  # noqa: ASYNC110  a cancelled start leaves its socket open
                await asyncio.sleep(0.02)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # raises what ended it


async def until(condition: Callable[[], Any], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s"
        await asyncio.sleep(0.05)


async def checked(settings: Settings) -> str:
    cache = ListCache(settings)
    try:
        return await cache.check(await owner_of(settings))
    finally:
        await cache.close()


def logged(caplog: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(start)]


def test_a_check_changes_nothing(server: Server, ground: Ground) -> None:
    async def played() -> None:
        async with ground.worker() as worker:
            await worker.write(*([one] for one in ground.publish("ann", 1)))
            await worker._look()
            before = {key: server.client.dump(key) for key in server.client.scan_iter()}
            assert len(before) == 2
            commands = server.client.info("commandstats")
            for _ in range(3):
                assert await checked(ground.settings) == "takes lists"
            assert {key: server.client.dump(key) for key in server.client.scan_iter()} == before
            assert set(server.client.info("commandstats")) > set(commands) - {"cmdstat_keys"}
            brought = metrics.cache_refilled._value.get()
            await worker._look()
            assert metrics.cache_refilled._value.get() == brought, "the marks are as they were: nothing is read again"

    asyncio.run(played())


def test_the_readmes_acl_is_enough_to_refill_an_emptied_redis(server: Server, ground: Ground) -> None:
    (rights,) = re.findall(r"an ACL of `(~afterclick:list:\* [^`]*)`", README.read_text(encoding="utf-8"))
    server.client.execute_command("ACL SETUSER app reset on >pw " + rights)
    login = SecretStr(f"redis://app:pw@{HOST}:{server.port}/0")

    async def played() -> None:
        async with running(ground, url=login) as worker:
            for number in range(USERS):
                await worker.write(*([one] for one in ground.publish(f"u{number}", 1)))
            await worker.write(*([one] for one in ground.publish("gone", None)))
            server.client.flushall()
            await until(lambda: all(ground.version(f"u{number}") == 1 for number in range(USERS)))
            await until(lambda: pending() == 0)

    app = ground.settings.model_copy(update={"redis": Redis(url=login)})
    assert asyncio.run(checked(app)) == "takes lists"
    asyncio.run(played())
    server.client.acl_deluser("app")


@pytest.mark.parametrize("missing", COMMANDS)
def test_a_check_names_each_right_that_is_missing(server: Server, ground: Ground, missing: str) -> None:
    rights = " ".join(f"+{command}" for command in COMMANDS if command != missing)
    server.client.execute_command(f"ACL SETUSER app reset on >pw ~afterclick:list:* {rights}")
    app = ground.settings.model_copy(update={"redis": Redis(url=SecretStr(f"redis://app:pw@{HOST}:{server.port}"))})
    with pytest.raises(
        SettingsError, match=rf"(?i)got no permission .*\b{missing}\b.*, expected .*correct the user's ACL"
    ) as error:
        asyncio.run(checked(app))
    assert "\n" not in str(error.value)
    assert "pw" not in str(error.value)
    asyncio.run(until(lambda: not server.client.keys("*-*")))  # what the check wrote goes
    server.client.acl_deluser("app")


def acl(server: Server, rights: str) -> None:
    server.client.execute_command(f"ACL SETUSER default {rights}")


def config(server: Server, **options: Any) -> None:
    for name, value in options.items():
        server.client.config_set(name.replace("_", "-"), value)


def replica_of(server: Server, *master: Any) -> None:
    server.client.execute_command("REPLICAOF", *(master or ("NO", "ONE")))


TROUBLES: dict[str, tuple[str, Callable[[Server, str], Any], Callable[[Server, str], Any], bool]] = {
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
    "the marks are of another type": (
        "wrong-type",
        lambda s, key: (s.client.delete(key), s.client.set(key, "x")),
        lambda s, key: s.client.delete(key),
        False,
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_refusal_is_told_counted_and_over_when_mended(
    server: Server, ground: Ground, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason, breaks, mends, lasting = TROUBLES[trouble]
    caplog.set_level(logging.INFO, "streams")

    async def played() -> None:
        async with running(ground) as worker:
            await worker.write(*([one] for one in ground.publish("before", 1)))
            await until(lambda: pending() == 0 and ground.redis.hgetall(ground.settings.key_prefix))
            before = refused(reason)
            breaks(server, ground.settings.key_prefix)
            try:
                for number in range(USERS):
                    await worker.write(*([one] for one in ground.publish(f"u{number}", 1)))
                await until(lambda: refused(reason) > before)
                await until(lambda: pending() > 0)
                with pytest.raises(SettingsError if lasting else CacheUnavailable):
                    await checked(ground.settings)
                found = await doctor._redis(ground.settings)
                assert not found.ok
                assert found.advice.startswith("Redis: got ")
                await asyncio.sleep(1)
                since = refused(reason)
                await asyncio.sleep(1)
                assert refused(reason) - since <= 2 * USERS, "attempts back off"
            finally:
                mends(server, ground.settings.key_prefix)
            await until(lambda: all(ground.version(f"u{number}") == 1 for number in range(USERS)))
            await until(lambda: pending() == 0)
            assert await checked(ground.settings) == "takes lists"

    asyncio.run(played())
    told = [line for line in logged(caplog, "Redis does not") if "that is over" not in line]
    assert 1 <= len(told) <= 2, told  # of the lists, of the marks
    assert len({line.split(" (")[0] for line in told}) == len(told)


def test_a_damaged_mark_is_told_and_set_again(server: Server, ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    async def played() -> None:
        async with running(ground) as worker:
            await worker.write(*([one] for one in ground.publish("ann", 1)))
            key = ground.settings.key_prefix
            await until(lambda: len(ground.redis.hgetall(key)) == ground.settings.kafka.partitions + 2)
            before = refused("damaged-mark")
            server.client.hset(key, mapping=dict.fromkeys(range(4), "no number"))
            with pytest.raises(CacheUnavailable, match=r"got b'no number' for the mark of partition"):
                await checked(ground.settings)
            await until(lambda: all(server.client.hget(key, p).isdigit() for p in range(4)))
            assert refused("damaged-mark") == before + 4
            await until(lambda: pending() == 0)

    asyncio.run(played())
    assert len(logged(caplog, "Redis does not keep our marks")) == 1


def test_a_key_that_is_no_list_fails_nobody_elses(
    server: Server, ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    async def played() -> None:
        async with running(ground) as worker:
            key = f"{ground.settings.key_prefix}bad"
            server.client.rpush(key, "someone's")
            batch = [ground.publish(user, 1) for user in ("ann", "bad", "bob")]
            before = refused("wrong-type")
            await worker.write([one for one, _ in batch], [place for _, place in batch])
            assert [ground.version(user) for user in ("ann", "bob")] == [1, 1]
            assert refused("wrong-type") == before + 1
            await until(lambda: pending() == 1)
            brought = metrics.cache_refilled._value.get()
            server.client.delete(ground.settings.key_prefix)  # all is read again, and stumbles there again
            await until(lambda: metrics.cache_refilled._value.get() > brought and not worker._bringing)
            await until(lambda: pending() == 1)
            assert server.client.lrange(key, 0, -1) == [b"someone's"]
            server.client.delete(key)
            await worker.write(*([one] for one in ground.publish("bad", 2)))
            assert ground.version("bad") == 2
            await until(lambda: pending() == 0)

    asyncio.run(played())
    assert len(logged(caplog, "Redis does not take lists")) == 1


def test_a_master_that_kept_lists_to_itself_leaves_none_missing(server: Server, ground: Ground, tmp_path: Path) -> None:
    """Its replica has the marks of before, and takes over with connections kept: the last seconds are brought again."""
    with Server(tmp_path, "--replicaof", f"{HOST} {server.port}") as replica:
        wire = Wire(server.port)
        url = SecretStr(f"redis://{HOST}:{wire.port}/0")

        async def played() -> None:
            async with running(ground, url=url, timeout_ms=2000) as worker:
                await worker.write(*([one] for one in ground.publish("ann", 1)))
                await until(lambda: replica.client.get(f"{ground.settings.key_prefix}ann"))
                await until(lambda: pending() == 0)
                replica.client.execute_command("REPLICAOF", "NO", "ONE")
                await worker.write(*([one] for one in ground.publish("bob", 1)))  # which the replica never sees
                await until(lambda: pending() == 0)
                replica.client.hset(
                    ground.settings.key_prefix, mapping=server.client.hgetall(ground.settings.key_prefix)
                )
                wire.lead_to(replica.port)
                began_s = time.monotonic()
                server.client.execute_command("REPLICAOF", HOST, replica.port)  # old connections stay, READONLY
                await worker.write(*([one] for one in ground.publish("cid", 1)))
                await until(
                    lambda: all(replica.client.get(f"{ground.settings.key_prefix}{u}") for u in ("ann", "bob", "cid"))
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
        ("ERR something new", "see Redis' log", False),
    ],
)
def test_each_error_of_a_server_has_its_line(
    error: str, said: str, lasting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """And no secret in it, nor in the log, though servers repeat what they are sent."""
    caplog.set_level(logging.DEBUG)
    with Refusing(error) as server:
        settings = Settings(redis=Redis(url=SecretStr(f"redis://app:hunter2@{HOST}:{server.port}/7"), timeout_ms=500))

        async def played() -> tuple[AfterclickError, list[Taken]]:
            cache = ListCache(settings)
            with pytest.raises(SettingsError if lasting else CacheUnavailable, match=said) as caught:
                await cache.check()
            taken = await cache.write([Published("ann", json.dumps({}).encode())])
            await cache.close()
            return caught.value, taken

        found, taken = asyncio.run(played())
    assert taken == [Taken.LATER]
    assert "hunter2" not in str(found) + caplog.text
    assert len(logged(caplog, "Redis does not take lists")) == 1
    assert "\n" not in str(found)


def test_a_renamed_command_stops_the_start(tmp_path: Path) -> None:
    for command in ("EVAL", "HGETALL", "DEL"):
        with (
            Server(tmp_path, "--rename-command", command, "other") as server,
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


@pytest.mark.parametrize("trouble", CLIENTS)
def test_whom_redis_lets_in_no_more_comes_back(server: Server, ground: Ground, trouble: str) -> None:
    reason, breaks, mends = CLIENTS[trouble]

    async def played() -> None:
        async with running(ground, url=SecretStr(f"redis://app:pw@{HOST}:{server.port}/0")) as worker:
            await worker.write(*([one] for one in ground.publish("ann", 1)))
            await until(lambda: pending() == 0)
            before = refused(reason)
            breaks(keeper)
            keeper.client_kill_filter(_type="normal", skipme=True)
            await worker.write(*([one] for one in ground.publish("bob", 1)))
            await until(lambda: refused(reason) > before and pending() > 0)
            mends(keeper)
            await until(lambda: ground.version("bob") == 1 and pending() == 0)

    with redis.Redis(host=HOST, port=server.port, single_connection_client=True) as keeper:
        keeper.execute_command("ACL SETUSER app reset on >pw ~* +@all")
        try:
            asyncio.run(played())
        finally:
            mends(keeper)
            keeper.acl_deluser("app")


async def _checked_alone(url: str) -> str:
    cache = ListCache(Settings(redis=Redis(url=SecretStr(url))))
    try:
        return await cache.check()
    finally:
        await cache.close()
