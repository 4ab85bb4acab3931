"""Events that were received from Kafka and wait for the next flush, with a bound on what is in flight.

An event that is not ready holds up its own partition alone: the state keeps the offset that it applied last, so a
partition's events stay in order. Knows nothing of what is in an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from faust.types import EventT

from streams.kafka.acks import InOrder

MAX_BATCH = 5_000
"""Events of one flush. More events would hardly coalesce better, and would delay a rebalance."""
MAX_UNACKNOWLEDGED = 30_000
"""Events taken and not yet acknowledged, about 1.5 KB each. Beyond this number the agent waits, and Kafka keeps the
rest."""


class Intake:
    """The queue between the agent and the flushes.

    Parameters
    ----------
    acks : InOrder
        Gets every event that is taken.

    Attributes
    ----------
    has_more : bool
        Whether the latest batch left events that may be ready.
    """

    def __init__(self, acks: InOrder) -> None:
        self._acks = acks
        self._events: list[EventT[Any]] = []
        self.has_more = False
        self._arrived = asyncio.Event()
        self._flushed = asyncio.Condition()

    async def take(self, events: Sequence[EventT[Any]]) -> None:
        """Queue events for the next flush. Returns at once unless too many events are unacknowledged."""
        self._events.extend([event for event in events if self._acks.take(event.message.tp, event)])
        self.wake()
        if len(self._acks) >= MAX_UNACKNOWLEDGED:
            async with self._flushed:
                await self._flushed.wait_for(lambda: len(self._acks) < MAX_UNACKNOWLEDGED)

    async def wait(self) -> None:
        """Wait for `take` or `wake`."""
        await self._arrived.wait()
        self._arrived.clear()

    def wake(self) -> None:
        """End the wait: a flush has work without a new event, or the worker closes."""
        self._arrived.set()

    def next_batch(self, is_ready: Callable[[EventT[Any]], bool]) -> list[EventT[Any]]:
        """Remove the oldest events that are ready, at most `MAX_BATCH`, and return them."""
        batch: list[EventT[Any]] = []
        left: list[EventT[Any]] = []
        held: set[object] = set()
        for event in self._events:
            if len(batch) < MAX_BATCH and event.message.tp not in held and is_ready(event):
                batch.append(event)
            else:
                held.add(event.message.tp)
                left.append(event)
        self._events, self.has_more = left, len(batch) == MAX_BATCH
        return batch

    async def flushed(self) -> None:
        """Let those callers of `take` go on that waited for acknowledgements."""
        async with self._flushed:
            self._flushed.notify_all()

    def drop(self, partitions: Collection[object]) -> None:
        """Discard the events of these partitions."""
        self._events = [event for event in self._events if event.message.tp not in partitions]

    def clear(self) -> None:
        """Discard all events."""
        self._events = []

    def __len__(self) -> int:
        return len(self._events)
