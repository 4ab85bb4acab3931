"""Faust's way of handing a message over, without its four tasks a message. Called by `transport`'s consumer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from mode.services import Service, WaitResults


class _Rest:
    """The rest of a coroutine that was begun, and what it waits for now."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any]
        while True:
            try:
                given = yield self._waits_for
                step = partial(self._coroutine.send, given)
            except BaseException as error:  # noqa: BLE001  # the coroutine's to handle
                step = partial(self._coroutine.throw, error)
            try:
                self._waits_for = step()
            except StopIteration as finished:
                return finished.value


class Eager(Service):
    """A service that lets the first of several things finish before it makes tasks of them, if that needs no waiting.

    Faust hands each message over by a call of `wait_first`, with what would interrupt it: four tasks, three of them
    to be cancelled. But a stream that has room takes the message at once.
    """

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:
        first, *others = coros
        if not inspect.iscoroutine(first):
            return await super().wait_first(*coros, timeout=timeout)
        try:
            waits_for = first.send(None)
        except BaseException as ended:
            for other in others:
                if inspect.iscoroutine(other):
                    other.close()
            if isinstance(ended, StopIteration):
                return WaitResults([first], [ended.value], stopped=False)
            raise
        return await super().wait_first(_Rest(first, waits_for), *others, timeout=timeout)
