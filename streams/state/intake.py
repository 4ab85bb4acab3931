"""Events that were received from Kafka and wait for the next flush, with a bound on what is in flight.

Knows nothing of what is in an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
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
    """

    def __init__(self, acks: InOrder) -> None:
        self._acks = acks
        self._events: list[EventT[Any]] = []
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

    def next_batch(self) -> list[EventT[Any]]:
        """Remove the oldest events, at most `MAX_BATCH`, and return them."""
        batch, self._events = self._events[:MAX_BATCH], self._events[MAX_BATCH:]
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
