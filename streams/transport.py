"""Faust's Kafka transport, made to lose no message while tables are restored, and to write only while it may.

Five faults of faust-streaming 0.15.3; the first four were seen here as events lost over a restart or a rebalance, the
last is by reading:

- It asks aiokafka for the messages of the live set of active partitions. Restoring empties that set while the question
  is out, aiokafka takes an empty one for "all", and Faust drops what it did not ask for. Here the question has a copy.
- After a restore it resumes the source partitions first and seeks to the committed offsets then, while its streams skip
  what they are given. Here a source partition is resumed only when the flow is.
- Its seek leaves a partition without a committed offset where it is (aiokafka's `seek_to_committed` skips None and 0),
  past what was dropped. Here such a partition goes back to its beginning.
- A question that is out over a rebalance is answered after the seek, with what comes first from there; the partitions
  are not active yet, so Faust drops the answer, takes the hole for a compacted topic's and commits past it. (It means
  to wait, but `not_waiting_next_records` is never cleared.) Here a seek waits until no question is out.
- What it reads of a changelog past the end of a restore stays in a buffer, which the next restore writes first, over
  what was written since. Here that is left out.

And one of any consumer that writes: see `lease`. Called by `worker`; knows nothing of what is consumed.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.produce import ProduceRequest
from faust.transport.drivers import aiokafka
from faust.types import TP, AppT, EventT
from mode.services import Service, WaitResults

from streams.lease import Lease

logger = logging.getLogger(__name__)

NO_ERROR, REBALANCING = 0, 27
FETCH_S = 0.2
"""The longest that a question to Kafka is out, and so that a seek waits for it."""
IDLE_S = 0.02
ENDS_TIMEOUT_S = 5.0
"""A partition without a leader has no end to tell; the others go on."""


class ConsumerThread(aiokafka.AIOKafkaConsumerThread):
    """The thread that reads, with the longest wait of a fetch set by us (Faust fixes it at 1.5 s); keeps the lease."""

    async def on_start(self) -> None:
        await super().on_start()
        coordinator, app = self._ensure_consumer()._coordinator, cast(Any, self.consumer).app
        _keep(cast(Any, self.transport).lease, coordinator, lambda: app.should_stop)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = transport.fetch_wait_ms
        return consumer

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave it to `health`: Faust sees nothing of what an agent takes by `arrived`, and would say it hangs."""


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
        self._asking = asyncio.Lock()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        generation = self.app.consumer_generation_id
        async with self._asking:
            asked = None if active_partitions is None else set(active_partitions)
            if self._is_over(generation) or asked == set():
                return {}  # it waited for the seek of a rebalance
            found = await super()._getmany(asked, min(timeout, FETCH_S))
        if self._is_over(generation):
            return {}  # all partitions start elsewhere now
        changelogs = {tp for tp in found if self._is_changelog_tp(tp)}
        taken = {tp: self._restored(tp, records) if tp in changelogs else records for tp, records in found.items()}
        return {tp: records for tp, records in taken.items() if records}

    def _is_over(self, generation: int) -> bool:
        return not self.flow_active or cast(Any, self.app).consumer_generation_id != generation

    async def _wait_next_records(self, timeout: float) -> Any:
        if self.flow_active and not self._get_active_partitions():
            await self.sleep(IDLE_S)  # Faust sleeps for a second, and everybody's lists are late by it
            return {}, set()
        return await super()._wait_next_records(timeout)

    def _restored(self, tp: TP, records: Sequence[Any]) -> Sequence[Any]:
        """Restore a batch of a changelog at once; the last record goes to Faust, which sees that it knows it already.

        Faust takes 150 us for each, a minute and a half for the states of 600,000 users. What is not restored now, a
        later restore reads again; Faust would keep it, and write it over what is newer by then.
        """
        recovery = cast(Any, self.app.tables).recovery
        seen = recovery.active_offsets.get(tp)
        if not self.app.in_recovery or tp not in recovery.active_tps or seen is None:
            return []
        cast(Any, self.transport).restore(tp, [record for record in records if record.offset > seen])
        recovery.active_offsets[tp] = max(seen, records[-1].offset)
        return records[-1:]

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

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        async with self._asking:
            await super().seek_wait(partitions)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        async with self._asking:
            committed = await super().seek_to_committed()
            offsets = {TP(tp.topic, tp.partition): offset or 0 for tp, offset in committed.items()}
            uncommitted = [tp for tp, offset in offsets.items() if not offset and not self._is_changelog_tp(tp)]
            if uncommitted:
                await self.seek_to_beginning(*uncommitted)
        self.committed_at_start = offsets
        if on_resume := cast(Any, self.transport).on_resume:
            sources = [tp for tp in offsets if not self._is_changelog_tp(tp)]
            try:
                ends = await asyncio.wait_for(asyncio.shield(self.highwaters(*sources)), ENDS_TIMEOUT_S)
            except (KafkaError, asyncio.TimeoutError) as error:
                logger.warning("Kafka did not tell where partitions end (%r); what lies there is not awaited", error)
                ends = {}
            on_resume({tp: end for tp, end in ends.items() if offsets[tp] < end})
        return committed

    async def seek_to_beginning(self, *partitions: TP) -> None:
        await self._thread.seek_to_beginning(*(cast(Any, self._new_topicpartition(*tp)) for tp in partitions))


class Producer(aiokafka.Producer):
    """A producer that writes only while the lease is held."""

    async def on_start(self) -> None:
        await super().on_start()
        client = self._ensure_producer().client
        send, lease = client.send, cast(Any, self.transport).lease

        async def send_while_held(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                await lease.held()
            return await send(node_id, request, **options)

        client.send = send_while_held


async def arrived(stream: Any) -> AsyncIterator[list[EventT[Any]]]:
    """All that has arrived for an agent, whenever something has; the agent acknowledges.

    Faust's own iteration lets every other task have a turn before each event, so that an agent gets but one event while
    another task works; like it, this leaves out what was fetched before the last rebalance.
    """
    app, queue = stream.app, stream.channel.queue
    while True:
        try:
            events = [await queue.get()]
        except StopAsyncIteration:  # how Faust ends a stream
            return
        while not queue.empty():
            events.append(queue.get_nowait())
        if app.flow_control.is_active():
            yield [event for event in events if event.message.generation_id == app.consumer_generation_id]


class Transport(aiokafka.Transport):
    """The transport with these.

    Parameters
    ----------
    on_resume : if given, called after each rebalance, before messages flow: the partitions that have messages to catch
        up with, and the offset up to which.
    restore : takes records of a table's changelog partition, in order.

    Attributes
    ----------
    fetch_wait_ms : how long a broker may hold a fetch that finds nothing.
    """

    Consumer = Consumer
    Producer = Producer

    def __init__(
        self,
        app: AppT,
        fetch_wait_ms: int,
        on_resume: Callable[[Mapping[TP, int]], None] | None = None,
        restore: Callable[[TP, Sequence[Any]], None] = lambda *_: None,
    ) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.fetch_wait_ms = fetch_wait_ms
        self.on_resume = on_resume
        self.restore = restore
        self.lease = Lease(app.conf.broker_session_timeout)


def _keep(lease: Lease, coordinator: Any, is_ending: Callable[[], bool]) -> None:
    """Tell the lease what the group's coordinator says of us.

    A worker that is ending holds what it has until the next rebalance: Faust hands nothing over then, and restores
    nothing.
    """
    send, reset = coordinator._send_req, coordinator.reset_generation

    async def send_and_note(request: Any) -> Any:
        asked_s = time.monotonic()
        if isinstance(request, LeaveGroupRequest) or (isinstance(request, JoinGroupRequest) and is_ending()):
            lease.lose()
        answer = await send(request)
        heartbeat, assigned = isinstance(request, HeartbeatRequest), isinstance(request, SyncGroupRequest)
        if heartbeat and answer.error_code in (NO_ERROR, REBALANCING):
            lease.confirm(asked_s)
        elif assigned and answer.error_code == NO_ERROR:
            lease.lose() if is_ending() else lease.confirm(asked_s)
        return answer

    def lose_and_reset() -> None:
        lease.lose()
        reset()

    coordinator._send_req, coordinator.reset_generation = send_and_note, lose_and_reset
