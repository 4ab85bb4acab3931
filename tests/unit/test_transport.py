"""Faust's way of handing a message over, by four tasks, and ours, which needs none: both end alike; and a seek."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from mode import Service

from streams.faust_compat.consumer import Consumer
from streams.faust_compat.eager import Eager


class Plain(Service):
    """What Faust does."""


Body = Callable[[asyncio.Event, list[str]], Awaitable[str]]


async def at_once(_: asyncio.Event, log: list[str]) -> str:
    async with asyncio.Lock():
        log.append("done")
        return "x"


async def later(goes_on: asyncio.Event, log: list[str]) -> str:
    await asyncio.sleep(0)
    await goes_on.wait()
    await asyncio.sleep(0.001)
    log.append("done")
    return "x"


async def fails(_: asyncio.Event, log: list[str]) -> str:
    raise KeyError("at once")


async def fails_later(goes_on: asyncio.Event, log: list[str]) -> str:
    await goes_on.wait()
    raise KeyError("later")


async def says_goodbye(_: asyncio.Event, log: list[str]) -> str:
    try:
        await asyncio.sleep(60)
    finally:
        log.append("cancelled")
    return "x"


async def outcome(service: Service, body: Body, interrupted: bool) -> tuple[Any, list[str]]:
    goes_on, interrupt, log = asyncio.Event(), asyncio.Event(), list[str]()
    asyncio.get_running_loop().call_later(0.01, (interrupt if interrupted else goes_on).set)
    try:
        results = await asyncio.wait_for(service.wait_first(body(goes_on, log), interrupt.wait()), 1)
        got: Any = (list(results.results), results.stopped)
    except KeyError as error:
        got = error.args
    await asyncio.sleep(0.01)
    return got, log


@pytest.mark.parametrize(
    ("body", "interrupted"),
    [*product([at_once, later, fails, fails_later], [False, True]), (says_goodbye, True)],
)
def test_ends_as_fausts(body: Body, interrupted: bool) -> None:
    async def both() -> None:
        assert await outcome(Eager(), body, interrupted) == await outcome(Plain(), body, interrupted)

    asyncio.run(both())


def app_of(generation: int, in_recovery: bool = False, active: Mapping[TP, int] = {}) -> Any:
    recovery = SimpleNamespace(active_tps=set(active), active_offsets=dict(active))
    tables = SimpleNamespace(changelog_topics={"states"}, recovery=recovery)
    return SimpleNamespace(consumer_generation_id=generation, in_recovery=in_recovery, tables=tables)


@pytest.mark.parametrize("seek", [lambda c: c.seek_to_committed(), lambda c: c.seek_wait({TP("clicks", 0): 3})])
def test_a_seek_waits_for_a_fetch_that_is_out(seek: Callable[[Consumer], Awaitable[Any]]) -> None:
    """Else the fetch takes what comes first after the seek, over a rebalance, and Faust drops it."""
    log: list[str] = []

    async def run() -> None:
        answered = asyncio.Event()

        async def getmany(*_: object) -> dict[TP, list[object]]:
            log.append("asked")
            await answered.wait()
            log.append("answered")
            return {}

        async def sought(*_: object) -> dict[TP, int]:
            log.append("sought")
            return {TP("clicks", 0): 3}

        async def offsets(*_: object) -> dict[TP, int]:
            return {TP("clicks", 0): 3}

        consumer: Any = object.__new__(Consumer)
        consumer._asking = asyncio.Lock()
        consumer._thread = SimpleNamespace(
            getmany=getmany, seek_to_committed=sought, seek_wait=sought, highwaters=offsets, earliest_offsets=offsets
        )
        consumer.app = app_of(1)
        consumer.transport = SimpleNamespace(on_resume=None)
        asking = asyncio.create_task(consumer._getmany({TP("clicks", 0)}, 1.0))
        await asyncio.sleep(0)
        seeking = asyncio.ensure_future(seek(consumer))
        await asyncio.sleep(0.01)
        answered.set()
        await asyncio.gather(asking, seeking)

    asyncio.run(run())
    assert log == ["asked", "answered", "sought"]


def test_a_fetch_that_waited_for_a_rebalances_seek_is_not_made() -> None:
    """Its partitions are those of before, and Faust would drop what comes."""

    async def run() -> dict[TP, Any]:
        async def getmany(*_: object) -> dict[TP, list[object]]:
            raise AssertionError("asked")

        consumer: Any = object.__new__(Consumer)
        consumer._asking = asyncio.Lock()
        consumer._thread = SimpleNamespace(getmany=getmany)
        consumer.app = app_of(1)
        async with consumer._asking:
            asking = asyncio.create_task(consumer._getmany({TP("clicks", 0)}, 1.0))
            await asyncio.sleep(0)
            consumer.app.consumer_generation_id = 2
        found: dict[TP, Any] = await asking
        return found

    assert asyncio.run(run()) == {}


@pytest.mark.parametrize(
    ("in_recovery", "active", "restored", "given"),
    [(True, {TP("states", 0): 3}, [4, 5], [5]), (False, {TP("states", 0): 3}, [], []), (True, {}, [], [])],
)
def test_a_changelog_is_taken_only_by_the_restore_that_reads_it(
    in_recovery: bool, active: Mapping[TP, int], restored: list[int], given: list[int]
) -> None:
    """Faust keeps what comes past a restore's end, and writes it at the next one's start."""
    taken: list[int] = []

    async def run() -> dict[TP, Any]:
        async def getmany(*_: object) -> dict[TP, list[Any]]:
            return {TP("states", 0): [SimpleNamespace(offset=offset, value=b"") for offset in (2, 3, 4, 5)]}

        consumer: Any = object.__new__(Consumer)
        consumer._asking = asyncio.Lock()
        consumer._thread = SimpleNamespace(getmany=getmany)
        consumer.app = app_of(1, in_recovery, active)
        consumer.transport = SimpleNamespace(restore=lambda _, records: taken.extend(r.offset for r in records))
        found: dict[TP, Any] = await consumer._getmany({TP("states", 0)}, 1.0)
        return found

    found = asyncio.run(run())
    assert (taken, [record.offset for record in found.get(TP("states", 0), [])]) == (restored, given)
