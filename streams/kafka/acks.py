"""Acknowledge a partition's messages in the order of their offsets, in whatever order they are done.

Faust commits up to the end of the first run of acknowledged offsets, but takes a run for the first one even if
exactly one message before it is missing (its consumer's `_new_offset`), and on a fresh partition whatever is missing. A
commit past a message in flight loses that message if the worker dies (faust-streaming issue 606). Where messages are
acknowledged in order, none before an acknowledged one is missing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol


class Acknowledgeable(Protocol):
    """The part of a `faust.Event` that is needed here."""

    def ack(self) -> bool: ...


class InOrder:
    """The messages that were taken and are not yet acknowledged, by partition."""

    def __init__(self) -> None:
        self._taken: dict[object, deque[Acknowledgeable]] = {}
        self._open: dict[int, int] = {}  # id of a message -> its effects that are not done
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def take(self, partition: object, event: Acknowledgeable) -> bool:
        """Note a message, in the order of delivery. False after `close`: do not work on it, Kafka delivers it again."""
        if self._closed:
            return False
        self._taken.setdefault(partition, deque()).append(event)
        self._open[id(event)] = 1
        self._idle.clear()
        return True

    def expect(self, event: Acknowledgeable, effects: int) -> None:
        """Note that a message has so many effects: it is done once `done` got it so many times."""
        if id(event) in self._open:
            self._open[id(event)] = effects

    def done(self, events: Iterable[Acknowledgeable]) -> None:
        """Acknowledge these messages, whose effects are durable, once all before them in their partitions are done."""
        for event in events:
            left = self._open.pop(id(event), 0) - 1
            if left > 0:
                self._open[id(event)] = left
        for queue in self._taken.values():
            while queue and id(queue[0]) not in self._open:
                queue.popleft().ack()
        self._note()

    def holds(self, event: Acknowledgeable) -> bool:
        """Return whether the message was taken, and is neither done nor dropped."""
        return id(event) in self._open

    def drop(self, partitions: Iterable[object]) -> None:
        """Forget the messages of partitions that another worker has now: Kafka delivers them to that worker again."""
        for partition in partitions:
            for event in self._taken.pop(partition, ()):
                self._open.pop(id(event), None)
        self._note()

    async def close(self, timeout_s: float) -> None:
        """Take no more messages, and `drain`."""
        self._closed = True
        await self.drain(timeout_s)

    async def drain(self, timeout_s: float) -> None:
        """Wait until all messages are acknowledged, for at most `timeout_s` seconds."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    def _note(self) -> None:
        if not len(self):
            self._idle.set()

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._taken.values())
