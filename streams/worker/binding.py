"""Bind a tier to its Faust app: messages in, partitions assigned and revoked, tasks, and the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from streams.faust_compat.app import App
from streams.kafka.team_topics import sources
from streams.settings import Settings
from streams.worker.app import TierName
from streams.worker.ending import Ending
from streams.worker.health import Health
from streams.worker.held_partitions import HeldPartitions
from streams.worker.start_steps import steps

logger = logging.getLogger(__name__)

COLLECT_AFTER = 50_000, 20, 50
"""Allocations, and collections, between garbage collections. Reference counting frees what a list took as soon as the
list is out. In one pair of runs a list took 4.8 core-ms, against 5.6 with Python's default of 700."""


class AllSet:
    """Set once all of some events are.

    Parameters
    ----------
    *events : asyncio.Event
        None of them is ever cleared.
    """

    def __init__(self, *events: asyncio.Event) -> None:
        self._events = events

    def is_set(self) -> bool:
        """Whether all are set."""
        return all(event.is_set() for event in self._events)

    async def wait(self) -> None:
        """Wait until all are set."""
        for event in self._events:
            await event.wait()


@dataclass(frozen=True)
class TierBinding:
    """What a tier does when its app tells it something.

    Attributes
    ----------
    name : "state" or "rank"
    catalogue_read : asyncio.Event or AllSet
        Set once the tier, and the team's rules, have read the catalogue. The tier takes no message before that.
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
    in_hand : callable
        Returns how many messages were taken and are not done.
    facts : callable
        Returns what the tier knows once it is ready, in words, for the log.
    """

    name: TierName
    catalogue_read: asyncio.Event | AllSet
    receive: Callable[[Any], Awaitable[None]]
    on_assigned: Callable[[], Awaitable[None]]
    on_revoked: Callable[[Collection[Any]], Awaitable[None]]
    close: Callable[[float], Awaitable[None]]
    tasks: Sequence[Callable[[], Awaitable[None]]]
    in_hand: Callable[[], int]
    facts: Callable[[], str]


def bind(app: App, tier: TierBinding, settings: Settings, health: Health, ending: Ending) -> None:
    """Connect the tier to the app's agent, signals, tasks and end. Health learns when the tier is ready."""
    names = sources(settings, tier.name)
    waited = _Wait()
    held = HeldPartitions(tier.name, names)
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
            if not health.why_not_ready():
                steps.finish()
            logger.info("%s: ready, %s: %s", tier.name, waited.text(), tier.facts())

    async def assign_first() -> None:
        await tier.catalogue_read.wait()
        steps.end("catalogue")
        await assign()

    @app.on_partitions_assigned.connect
    async def assigned(*arguments: Any, **_: Any) -> None:
        _app, partitions = arguments
        steps.end("group")
        held.assigned(partitions)

    @app.on_partitions_revoked.connect
    async def revoked(*arguments: Any, **_: Any) -> None:
        _app, partitions = arguments
        if partitions:
            waited.begin()
        health.set_ready(tier.name, False)
        await tier.on_revoked(partitions)

    @app.on_rebalance_complete.connect
    async def rebalanced(*_: Any, **__: Any) -> None:
        steps.end("restore")
        await ending.guarded(assign)()

    async def close() -> None:
        began_s, taken = time.monotonic(), tier.in_hand()
        await tier.close(0 if app.crashed else settings.grace_s / 2)  # after a crash nothing can be finished
        left = tier.in_hand()
        what = "events" if tier.name == "state" else "lists"
        logger.info("%s: stopped: drained %d %s in %.1f s%s", tier.name, taken - left, what, time.monotonic() - began_s,
                    f"; {left} are left, which Kafka delivers again" if left else "")  # fmt: skip

    app.close = close
    for task in (assign_first, *tier.tasks):
        app.task(ending.guarded(task))


class _Wait:
    """For how long a tier was not ready."""

    def __init__(self) -> None:
        self._rebalanced_s: float | None = None

    def begin(self) -> None:
        self._rebalanced_s = self._rebalanced_s or time.monotonic()

    def text(self) -> str:
        if self._rebalanced_s is None:
            return f"{steps.age_s():.1f} s after the start"
        waited_s, self._rebalanced_s = time.monotonic() - self._rebalanced_s, None
        return f"{waited_s:.1f} s after a rebalance began"


def _keep_long_lived_objects() -> None:
    """Take models and libraries out of garbage collection: a full collection of them holds events up for 0.1 s."""
    gc.set_threshold(*COLLECT_AFTER)
    gc.collect()
    gc.freeze()
