"""Faust's app and worker: a start without waits, tasks that run while tables are restored, an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import faust
from faust.tables.manager import TableManager

from streams.faust_compat import metadata
from streams.faust_compat.transport import Transport

metadata.install()


class TablesAtOnce(TableManager):
    """Fault: an app waits for a second for tables that may be declared late. Ours are declared before it starts."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class StartsAppsTogether(faust.Worker):
    """Fault: an app is started when the one before has restored its tables and is at work."""

    async def on_start(self) -> None:
        await super().on_start()
        await asyncio.gather(*(app.maybe_start() for app in (*self.services, self.app)))


class StartsTasksEarly(faust.App):
    """Fault: `app.task` starts a task only after all tables are restored, so no task can watch the restore.

    Attributes
    ----------
    early_tasks : sequence of callable
        Coroutine functions that run from the start of the app to its end.
    """

    early_tasks: Sequence[Callable[[], Awaitable[None]]] = ()

    async def on_first_start(self) -> None:
        await super().on_first_start()
        for task in self.early_tasks:
            self.add_future(task())


class ClosesBeforeTables(faust.App):
    """Fault: the signal `on_before_shutdown` is sent after the tables are closed, when every key reads as missing.

    Attributes
    ----------
    close : callable
        Coroutine function, awaited before Faust stops anything.
    """

    close: Callable[[], Awaitable[None]]

    async def on_stop(self) -> None:
        await self.close()
        await super().on_stop()


class App(StartsTasksEarly, ClosesBeforeTables):
    """Faust's app on our transport.

    Parameters
    ----------
    fetch_wait_ms : int
        How long a broker may hold a fetch that has no messages to return, in milliseconds.
    options
        See `faust.App`.
    """

    def __init__(self, group: str, *, fetch_wait_ms: int, **options: Any) -> None:
        super().__init__(group, TableManager=TablesAtOnce, **options)
        self.kafka = Transport(self, fetch_wait_ms)
        self.transport = self.producer_transport = self.kafka

    @property
    def is_ending(self) -> bool:
        """Whether the app was asked to stop, or has crashed."""
        return bool(self.should_stop)


def records_to_restore(app: faust.App) -> int:
    """Return how many changelog records the restore that is under way has still to read; 0 without one."""
    tables: Any = app.tables
    recovery = tables.recovery
    return int(recovery.active_remaining_total()) if recovery.in_recovery else 0
