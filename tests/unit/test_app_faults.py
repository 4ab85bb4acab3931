"""Faults of Faust's app, producer, streams and tables, and of aiokafka's login: mended, and as they are without."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import conn
from aiokafka.errors import SaslAuthenticationFailed
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import RecordMetadata
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.faust_compat import app as apps
from streams.faust_compat import oauth
from streams.faust_compat.arrivals import arrivals
from streams.faust_compat.table_store import TableStore
from streams.faust_compat.transport import FencedProducer

KAFKA: Any = {"broker": "kafka://127.0.0.1:1", "store": "memory://"}


def both(mended: type, without: type) -> pytest.MarkDecorator:
    kinds = [pytest.param(mended, True, id="mended"), pytest.param(without, False, id="without")]
    return pytest.mark.parametrize(("kind", "mended"), kinds)


@both(apps.StartsTasksEarly, faust.App)
def test_early_tasks_run_before_tables_are_restored(kind: type, mended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust.App, "_create_directories", lambda _: None)
    began: list[bool] = []

    async def task() -> None:
        began.append(True)

    async def test() -> None:
        app = kind("tests", **KAFKA)
        app.early_tasks = [task]
        await app.on_first_start()
        await asyncio.sleep(0)

    asyncio.run(test())
    assert (began == [True]) is mended


@both(apps.TablesAtOnce, faust.tables.TableManager)
def test_tables_start_without_a_wait(kind: type, mended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[object] = []

    async def sleep(_: object, seconds: float) -> None:
        log.append(seconds)

    async def update(_: object) -> None:
        log.append("channels")

    async def start() -> None:
        log.append("recovery")

    async def test() -> None:
        manager = kind(apps.App("tests", fetch_wait_ms=100, **KAFKA))
        manager.recovery.start = start
        await manager.on_start()

    monkeypatch.setattr(faust.tables.TableManager, "sleep", sleep)
    monkeypatch.setattr(faust.tables.TableManager, "_update_channels", update)
    asyncio.run(test())
    assert log == (["channels", "recovery"] if mended else [1.0, "channels", "recovery"])


def test_apps_have_tables_that_start_without_a_wait() -> None:
    async def test() -> None:
        assert isinstance(apps.App("tests", fetch_wait_ms=100, **KAFKA).tables, apps.TablesAtOnce)

    asyncio.run(test())


@both(apps.StartsAppsTogether, faust.Worker)
def test_apps_start_together(kind: type, mended: bool) -> None:
    """The first app to be started here is ready only once the other one has begun, as if it had much to restore."""

    async def test() -> bool:
        begun, ended = asyncio.Event(), asyncio.Event()
        both = [apps.App(name, fetch_wait_ms=100, **KAFKA) for name in ("one", "two")]
        worker = kind(*both, override_logging=False, redirect_stdouts=False, quiet=True)
        first, second = [service for service in worker.on_init_dependencies() if service in both]

        async def restore() -> None:
            await begun.wait()
            ended.set()

        async def begin() -> None:
            begun.set()

        first.maybe_start, second.maybe_start = restore, begin
        starting = asyncio.ensure_future(worker.on_start())
        await asyncio.sleep(0.01)
        await starting
        return ended.is_set()

    assert asyncio.run(test()) is mended


@both(apps.ClosesBeforeTables, faust.App)
def test_the_app_is_told_of_its_end_before_faust_stops_anything(
    kind: type, mended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    async def stop_consumer(_: faust.App) -> None:
        log.append("consumer")

    async def close() -> None:
        log.append("close")

    async def test() -> None:
        app = kind("tests", **KAFKA)
        app.close = close
        await app.on_stop()

    monkeypatch.setattr(faust.App, "_stop_consumer", stop_consumer)
    asyncio.run(test())
    assert log == (["close", "consumer"] if mended else ["consumer"])


def test_records_to_restore_are_counted_while_a_restore_is_under_way() -> None:
    recovery = SimpleNamespace(in_recovery=False, active_remaining_total=lambda: 7)
    app: Any = SimpleNamespace(tables=SimpleNamespace(recovery=recovery))
    assert apps.records_to_restore(app) == 0
    recovery.in_recovery = True
    assert apps.records_to_restore(app) == 7


@both(FencedProducer, aiokafka.Producer)
def test_a_write_waits_for_the_fence(kind: type, mended: bool) -> None:
    sent: list[object] = []

    async def send(_: int, request: object) -> None:
        sent.append(request)

    async def start() -> None:
        pass

    async def test() -> list[int]:
        app = apps.App("tests", fetch_wait_ms=100, **KAFKA)
        client: Any = SimpleNamespace(send=send)
        producer = kind(app.kafka)
        producer._new_producer = lambda: SimpleNamespace(client=client, start=start)
        await producer.on_start()
        write = asyncio.create_task(client.send(0, ProduceRequest(None, 1, 1, [])))
        await client.send(0, "a question of another kind")
        await asyncio.sleep(0.05)
        before = len(sent)
        app.kafka.fence.confirm(time.monotonic())
        await write
        return [before, len(sent)]

    assert asyncio.run(test()) == ([1, 2] if mended else [2, 2])


def test_all_events_that_have_arrived_come_together() -> None:
    async def test() -> list[list[str]]:
        queue: Any = asyncio.Queue()
        app = SimpleNamespace(flow_control=SimpleNamespace(is_active=lambda: True), consumer_generation_id=2)
        stream = SimpleNamespace(app=app, channel=SimpleNamespace(queue=queue))
        for name, generation in (("a", 2), ("fetched before the rebalance", 1), ("b", 2)):
            queue.put_nowait(SimpleNamespace(name=name, message=SimpleNamespace(generation_id=generation)))
        batches: AsyncIterator[Any] = arrivals(stream)
        return [[event.name for event in await anext(batches)]]

    assert asyncio.run(test()) == [["a", "b"]]


def test_the_stream_of_events_ends_as_fausts_does() -> None:
    async def test() -> list[Any]:
        async def get() -> None:
            raise StopAsyncIteration

        stream = SimpleNamespace(app=None, channel=SimpleNamespace(queue=SimpleNamespace(get=get)))
        return [batch async for batch in arrivals(stream)]

    assert asyncio.run(test()) == []


def test_a_table_is_written_outside_a_stream_with_the_changelogs_offsets() -> None:
    async def test() -> None:
        app = faust.App("tests", **KAFKA)
        table: Any = app.Table("users", key_type=bytes, value_type=bytes)
        with pytest.raises(TypeError, match="outside of stream iteration"):
            table[b"a"] = b"1"
        store = TableStore(table, "users-changelog")
        at = RecordMetadata("users-changelog", 0, None, 5, 0, 0, 0)
        store.apply([(b"a", b"1", at), (b"b", b"2", at), (b"b", None, at)])
        store.restore(TP("users-changelog", 0), [SimpleNamespace(key=b"c", value=b"3", offset=6)])
        assert dict(table.data.items()) == {b"a": b"1", b"c": b"3"}

    asyncio.run(test())


@both(oauth.NoticesRefusedTokens, oauth.NoticesRefusedTokens.__base__)
def test_a_refused_token_is_noticed(kind: type, mended: bool) -> None:
    async def token() -> str:
        return "token"

    async def test() -> bool:
        login = kind(sasl_oauth_token_provider=SimpleNamespace(token=token))
        assert (await login.step(None))[1]
        try:
            assert await login.step(b'{"status":"invalid_token"}') is None
        except SaslAuthenticationFailed as error:
            return "invalid_token" in str(error)
        return False

    assert asyncio.run(test()) is mended


def test_every_client_notices_a_refused_token() -> None:
    importlib.import_module("streams.kafka.client")  # every client of ours comes through it
    assert conn.OAuthAuthenticator is oauth.NoticesRefusedTokens
