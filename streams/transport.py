"""Faust's Kafka transport, made to lose no message while tables are restored, and to write only while it may.

Five faults of faust-streaming 0.15.3; the first four were seen here as events lost over a restart or a rebalance, the
last is by reading:

- It asks aiokafka for the messages of the live set of active partitions. Restoring empties that set while the question
  is out, aiokafka takes an empty one for "all", and Faust drops what it did not ask for. Here the question has a copy.
- After a restore it resumes the source partitions first and seeks to the committed offsets then, while its streams skip
  what they are given. Here a source partition is resumed only when the flow is.
- Its seek leaves a partition without a committed offset where it is (aiokafka's `seek_to_committed` skips None and 0),
  past what was dropped. Here such a partition goes back to its beginning, and so does one whose committed offset is not
  in the log any more.
- A question that is out over a rebalance is answered after the seek, with what comes first from there; the partitions
  are not active yet, so Faust drops the answer, takes the hole for a compacted topic's and commits past it. (It means
  to wait, but `not_waiting_next_records` is never cleared.) Here a seek waits until no question is out.
- What it reads of a changelog past the end of a restore stays in a buffer, which the next restore writes first, over
  what was written since. Here that is left out.

And one of any consumer that writes: see `lease`. Called by `worker`; knows nothing of what is consumed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.produce import ProduceRequest
from faust.transport.drivers import aiokafka
from faust.types import TP, AppT, EventT

from streams import metrics
from streams.eager import Eager
from streams.kafka_client import ISOLATION, NO_RIGHT
from streams.lease import Lease
from streams.receive import Unreadable

logger = logging.getLogger(__name__)

NO_ERROR, REBALANCING = 0, 27
FETCH_S = 0.2
"""The longest that a question to Kafka is out, and so that a seek waits for it."""
IDLE_S = 0.02
TOLD_WITHIN_S = 5.0
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
        consumer._isolation_level = ISOLATION
        return consumer

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False if that failed, and it is tried again with the next one. Faust ends the worker over it."""
        ours = self.assignment()
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(*tp): offset for tp, offset in offsets.items() if tp in ours}
            )
        except NO_RIGHT as error:
            cast(Transport, self.transport).on_refusal(error)
            return False
        except (CommitFailedError, IllegalStateError) as error:  # the partitions are another worker's
            logger.info("offsets are not committed: %s", error)
            return False
        except KafkaError as error:
            logger.warning("Kafka did not take the offsets (%r); again in a second", error)
            return False
        return True

    def ask_for_group_error(self, tell: Callable[[KafkaError], None]) -> None:
        """Have our caller's loop told of an error that the group's coordinator answered; aiokafka waits for that."""
        loop = asyncio.get_running_loop()

        def ask() -> None:
            try:
                self._ensure_consumer()._coordinator.check_errors()
            except KafkaError as error:
                loop.call_soon_threadsafe(tell, error)

        self.thread_loop.call_soon_threadsafe(ask)

    def reached(self, tp: TP) -> Reached | None:
        """How far aiokafka has got; None until the partition's leader has answered, and while it is lost."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription and subscription.assignment
        state = assignment and assignment.state_value(tp)
        if state is None or not state.has_valid_position or state.highwater is None:
            return None
        return Reached(state.position, state.highwater, state.highwater if state.lso is None else state.lso)

    def partition_count(self, topic: str) -> int:
        return len(self._ensure_consumer()._client.cluster.partitions_for_topic(topic) or ())

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave it to `health`: Faust sees nothing of what an agent takes by `arrived`, and would say it hangs."""


class Reached(NamedTuple):
    """How far a partition is read. All are offsets.

    Attributes
    ----------
    position : where the next fetch begins; it passes what no reader gets, such as the marker of a transaction.
    end : behind the partition's last message.
    stable : behind the last message that is readable now; before `end` while a producer's transaction is open.
    """

    position: int
    end: int
    stable: int


class Progress(NamedTuple):
    """How far a partition is worked off. All are offsets; `done` is at `end` when nothing is left to do."""

    done: int
    end: int
    stable: int


class Consumer(Eager, aiokafka.Consumer):
    """A consumer whose every source partition starts at its committed offset, or else at its beginning.

    The workers acknowledge each partition's messages in order (`acks`), so what is committed is simply what follows the
    last acknowledged one. Faust fills holes between offsets one by one instead, which a compacted topic or retention
    makes millions of.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered: dict[TP, int] = {}  # the offset behind the last message that was given to Faust
        self._done: dict[TP, int] = {}  # the offset behind the last acknowledged and committed one
        self._group_error = ""
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
            try:
                found = await super()._getmany(asked, min(timeout, FETCH_S))
            except NO_RIGHT as error:
                cast(Transport, self.transport).on_refusal(error)
                return {}
        if self._is_over(generation):
            return {}  # all partitions start elsewhere now
        for tp, records in found.items():
            if records and not self._is_changelog_tp(tp):
                self._note_delivery(tp, records)
        changelogs = {tp for tp in found if self._is_changelog_tp(tp)}
        taken = {tp: self._restored(tp, records) if tp in changelogs else records for tp, records in found.items()}
        return {tp: records for tp, records in taken.items() if records}

    def _note_delivery(self, tp: TP, records: Sequence[Any]) -> None:
        """Note how far Faust was given messages; where a topic was made anew while we read it, begin anew with it.

        aiokafka then goes back to the first offset, and Faust would drop whatever lies before what it has read.
        """
        if records[0].offset < self._delivered.get(tp, 0):
            logger.warning("%s/%d begins anew at offset %d: the topic was made again", *tp, records[0].offset)
            for noted in (self._read_offset, self._committed_offset, self._acked, self._acked_index, self._gap):
                noted.pop(tp, None)
            self._done[tp] = records[0].offset
        self._delivered[tp] = records[-1].offset + 1

    def progress(self) -> dict[TP, Progress | None]:
        """How far each source partition is done; None while its leader has not answered since it became ours."""
        sources = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        return {tp: self._progress(tp) for tp in sources}

    def partition_counts(self, topics: Iterable[str]) -> dict[str, int]:
        """How many partitions each of these topics has, as Kafka's metadata told last; 0 of one that is not there."""
        return {topic: cast(ConsumerThread, self._thread).partition_count(topic) for topic in topics}

    def _progress(self, tp: TP) -> Progress | None:
        reached = cast(ConsumerThread, self._thread).reached(tp)
        if reached is None or tp not in self._done:
            return None
        all_done = self._done[tp] >= self._delivered.get(tp, 0)
        return Progress(reached.position if all_done else self._done[tp], reached.end, reached.stable)

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        return max(acked) + 1 if acked else None

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing to note: see the class."""

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        committed = bool(await super()._commit_offsets(offsets, start_new_transaction))
        for tp, offset in offsets.items():
            if committed:
                self._done[tp] = offset
            elif tp in self.assignment() and tp not in self._acked:
                self._acked[tp].append(offset - 1)  # again with the next commit
        return committed

    def ask_for_group_error(self) -> None:
        """Tell the worker's end, or the log, what the group's coordinator refused; Faust never asks for it."""
        cast(ConsumerThread, self._thread).ask_for_group_error(self._tell_group_error)

    def _tell_group_error(self, error: KafkaError) -> None:
        if isinstance(error, NO_RIGHT):
            cast(Transport, self.transport).on_refusal(error)
        elif repr(error) != self._group_error:  # it is answered again and again
            logger.warning("the consumer group's coordinator: %r", error)
        self._group_error = repr(error)

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
        new = [r for r in records if r.offset > seen and not isinstance(r.value, Unreadable)]
        cast(Any, self.transport).restore(tp, new)
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
            offsets = {TP(*tp): offset or 0 for tp, offset in committed.items()}
            sources = [tp for tp in offsets if not self._is_changelog_tp(tp)]
            ends = await self._told(self.highwaters, sources)
            begins = await self._told(self.earliest_offsets, sources)
            starts = {tp: self._start(tp, offsets[tp], begins.get(tp), ends.get(tp)) for tp in sources}
            if elsewhere := [tp for tp in sources if starts[tp] != offsets[tp] or not starts[tp]]:
                await self.seek_to_beginning(*elsewhere)
        self._delivered, self._done = dict(starts), dict(starts)
        if on_resume := cast(Any, self.transport).on_resume:
            on_resume({tp: end for tp, end in ends.items() if starts[tp] < end})
        return {**offsets, **starts}

    async def _told(self, ask: Any, partitions: Sequence[TP]) -> Mapping[TP, int]:
        """What Kafka answers to a question about partitions; nothing if it does not, and aiokafka finds out later."""
        try:
            told = await asyncio.wait_for(asyncio.shield(ask(*partitions)), TOLD_WITHIN_S) if partitions else {}
        except (KafkaError, asyncio.TimeoutError) as error:
            logger.warning("Kafka did not tell where partitions begin and end (%r); they are not waited for", error)
            return {}
        return {TP(*tp): offset for tp, offset in told.items()}

    def _start(self, tp: TP, committed: int, begin: int | None, end: int | None) -> int:
        """Where to read from: what was committed, if it is in the log; else the log's beginning."""
        if begin is None or end is None or begin <= committed <= end:
            return committed
        if committed > end:
            logger.warning("%s/%d ends at offset %d, before the %d that was committed: the topic was made again; it is "
                           "read from its beginning", *tp, end, committed)  # fmt: skip
        elif committed:
            metrics.expired.labels(tp.topic).inc(begin - committed)
            logger.error("%s/%d begins at offset %d: retention deleted up to %d messages before we read them", *tp,
                         begin, begin - committed)  # fmt: skip
        return begin

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
    on_refusal : called when Kafka refuses a right while we work.
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
        self.on_refusal: Callable[[KafkaError], None] = lambda error: logger.error("%s", error)
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
