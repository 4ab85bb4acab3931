"""Faust's consumer, made to lose no message while tables are restored and topics change, and to tell how far it is.

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

Called by `transport`; knows nothing of what is consumed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams import metrics
from streams.faust_compat.constants import NO_RIGHT
from streams.faust_compat.consumer_thread import ConsumerThread
from streams.faust_compat.eager import Eager
from streams.receive.message import Unreadable

logger = logging.getLogger(__name__)

FETCH_S = 0.2
"""The longest that a question to Kafka is out, and so that a seek waits for it."""
IDLE_S = 0.02
TOLD_WITHIN_S = 5.0
"""A partition without a leader has no end to tell; the others go on."""


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
                cast(Any, self.transport).on_refusal(error)
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
            cast(Any, self.transport).on_refusal(error)
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
