"""Faust's Kafka transport, made to lose no message while tables are restored.

Three faults of faust-streaming 0.15.3, each seen here as events lost over a restart:

- It asks aiokafka for the messages of the live set of active partitions. Restoring empties that set while the
question is
  out, aiokafka takes an empty one for "all", and Faust drops what it did not ask for. Here the question has a copy.
- After a restore it resumes the source partitions first and seeks to the committed offsets then, while its streams skip
  what they are given. Here a source partition is resumed only when the flow is.
- Its seek leaves a partition without a committed offset where it is (aiokafka's `seek_to_committed` skips None and
0), past
  what was dropped. Here such a partition goes back to its beginning.

Called by `worker`; knows nothing of what is consumed.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping
from functools import partial
from typing import Any, cast

from faust.transport.drivers import aiokafka
from faust.types import TP, AppT, EventT
from mode.services import Service, WaitResults


class ConsumerThread(aiokafka.AIOKafkaConsumerThread):
    """The thread that reads, with the longest wait of a fetch set by us; Faust fixes it at 1.5 s."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = transport.fetch_wait_ms
        return consumer


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


class Consumer(Eager, aiokafka.Consumer):
    """A consumer whose every source partition starts at its committed offset, or else at its beginning.

    Attributes
    ----------
    committed_at_start : the group's committed offset of each partition when it became ours; 0 where there was none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.committed_at_start: dict[TP, int] = {}
        self._to_resume: set[TP] = set()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        return await super()._getmany(None if active_partitions is None else set(active_partitions), timeout)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        sources = {tp for tp in tps if not self._is_changelog_tp(tp)}
        self._to_resume |= sources
        super().resume_partitions(set(tps) - sources)

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        self._to_resume -= set(tps)
        super().pause_partitions(tps)

    def resume_flow(self) -> None:
        super().resume_flow()
        super().resume_partitions(self._to_resume)
        self._to_resume = set()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = await super().seek_to_committed()
        offsets = {TP(tp.topic, tp.partition): offset or 0 for tp, offset in committed.items()}
        uncommitted = [tp for tp, offset in offsets.items() if not offset and not self._is_changelog_tp(tp)]
        if uncommitted:
            await self.seek_to_beginning(*uncommitted)
        self.committed_at_start = offsets
        return committed

    async def seek_to_beginning(self, *partitions: TP) -> None:
        await self._thread.seek_to_beginning(*(cast(Any, self._new_topicpartition(*tp)) for tp in partitions))


async def arrived(stream: Any) -> AsyncIterator[list[EventT[Any]]]:
    """All that has arrived for an agent, whenever something has; the agent acknowledges.

    Faust's own iteration lets every other task have a turn before each event, so that an agent gets but one event while
    another task works; like it, this leaves out what was fetched before the last rebalance.
    """
    app, queue = stream.app, stream.channel.queue
    while True:
        events = [await queue.get()]
        while not queue.empty():
            events.append(queue.get_nowait())
        if app.flow_control.is_active():
            yield [event for event in events if event.message.generation_id == app.consumer_generation_id]


class Transport(aiokafka.Transport):
    """The transport with that consumer.

    Attributes
    ----------
    fetch_wait_ms : how long a broker may hold a fetch that finds nothing.
    """

    Consumer = Consumer

    def __init__(self, app: AppT, fetch_wait_ms: int) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.fetch_wait_ms = fetch_wait_ms
