"""Faust's way of handing a message over, by four tasks, and ours, which needs none: both end alike; and a seek."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from mode import Service

from streams.transport import Consumer, Eager


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

        consumer: Any = object.__new__(Consumer)
        consumer._asking = asyncio.Lock()
        consumer._thread = SimpleNamespace(getmany=getmany, seek_to_committed=sought, seek_wait=sought)
        consumer.app = SimpleNamespace(
            consumer_generation_id=1, in_recovery=False, tables=SimpleNamespace(changelog_topics=set())
        )
        consumer.transport = SimpleNamespace(on_resume=None)
        asking = asyncio.create_task(consumer._getmany({TP("clicks", 0)}, 1.0))
        await asyncio.sleep(0)
        seeking = asyncio.ensure_future(seek(consumer))
        await asyncio.sleep(0.01)
        answered.set()
        await asyncio.gather(asking, seeking)

    asyncio.run(run())
    assert log == ["asked", "answered", "sought"]
