"""Bind a tier to its Faust app: messages in, partitions assigned and revoked, tasks, and the end."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from streams.faust_compat.app import App
from streams.kafka.topics import SOURCES
from streams.settings import Settings
from streams.worker.app import TierName
from streams.worker.ending import Ending
from streams.worker.health import Health

logger = logging.getLogger(__name__)

COLLECT_AFTER = 50_000, 20, 50
"""Allocations, and collections, between garbage collections. Reference counting frees what a list took as soon as the
list is out. In one pair of runs a list took 4.8 core-ms, against 5.6 with Python's default of 700."""


@dataclass(frozen=True)
class TierBinding:
    """What a tier does when its app tells it something.

    Attributes
    ----------
    name : "state" or "rank"
    catalogue_read : asyncio.Event
        Set once the tier has read the catalogue. The tier takes no message before that.
    receive : coroutine function
        Takes the stream of the tier's messages, for ever.
    on_assigned : coroutine function
        Called after each rebalance, when tables are restored, and once more when the catalogue is first read.
    on_revoked : coroutine function
        Called with the partitions that another worker may get; finishes or drops their work.
    close : coroutine function
        Called before the app ends, with the seconds in which the tier may finish its work; 0 after a crash.
    tasks : sequence of coroutine functions
        Run from the restore of the tables to the end of the app.
    """

    name: TierName
    catalogue_read: asyncio.Event
    receive: Callable[[Any], Awaitable[None]]
    on_assigned: Callable[[], Awaitable[None]]
    on_revoked: Callable[[Collection[Any]], Awaitable[None]]
    close: Callable[[float], Awaitable[None]]
    tasks: Sequence[Callable[[], Awaitable[None]]]


def bind(app: App, tier: TierBinding, settings: Settings, health: Health, ending: Ending) -> None:
    """Connect the tier to the app's agent, signals, tasks and end. Health learns when the tier is ready."""
    names = [settings.topic(name) for name in SOURCES[tier.name]]
    topic = app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(topic)
    async def receive(stream: Any) -> None:
        await tier.catalogue_read.wait()
        await tier.receive(stream)

    async def assign() -> None:
        await tier.on_assigned()
        if tier.catalogue_read.is_set():
            _keep_long_lived_objects()
            health.set_ready(tier.name, True)
            logger.info("%s: ready", tier.name)

    async def assign_first() -> None:
        await tier.catalogue_read.wait()
        await assign()

    @app.on_partitions_revoked.connect
    async def revoked(*arguments: Any, **_: Any) -> None:
        _app, partitions = arguments
        health.set_ready(tier.name, False)
        await tier.on_revoked(partitions)

    @app.on_rebalance_complete.connect
    async def rebalanced(*_: Any, **__: Any) -> None:
        await ending.guarded(assign)()

    async def close() -> None:
        await tier.close(0 if app.crashed else settings.grace_s / 2)  # after a crash nothing can be finished

    app.close = close
    for task in (assign_first, *tier.tasks):
        app.task(ending.guarded(task))


def _keep_long_lived_objects() -> None:
    """Take models and libraries out of garbage collection: a full collection of them holds events up for 0.1 s."""
    gc.set_threshold(*COLLECT_AFTER)
    gc.collect()
    gc.freeze()
