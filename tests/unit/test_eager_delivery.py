"""Faust hands a message over by four tasks, and ours by none if it need not wait. Both have the same outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest
from mode import Service

from streams.faust_compat.delivering import DeliversEagerly


class Plain(Service):
    """Faust's own way."""


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
        results = await asyncio.wait_for(service.wait_first(body(goes_on, log), interrupt.wait()), 20)
        got: Any = (list(results.results), results.stopped)
    except KeyError as error:
        got = error.args
    await asyncio.sleep(0.01)
    return got, log


@pytest.mark.parametrize(
    ("body", "interrupted"),
    [*product([at_once, later, fails, fails_later], [False, True]), (says_goodbye, True)],
)
def test_both_ways_have_the_same_outcome(body: Body, interrupted: bool) -> None:
    async def both() -> None:
        assert await outcome(DeliversEagerly(), body, interrupted) == await outcome(Plain(), body, interrupted)

    asyncio.run(both())


@pytest.mark.parametrize(("kind", "tasks"), [(DeliversEagerly, 0), (Plain, 4)])
def test_a_delivery_that_need_not_wait_makes_no_task(kind: type[Service], tasks: int) -> None:
    made: list[Any] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def deliver() -> int:
        service = kind()
        asyncio.get_running_loop().set_task_factory(factory)
        assert (await service.wait_first(at_once(asyncio.Event(), []), asyncio.Event().wait())).results == ["x"]
        return len(made)

    assert asyncio.run(deliver()) == tasks
