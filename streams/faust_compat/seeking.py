"""Faults of Faust's consumer after a rebalance: where partitions start, and when. `consumer` puts the classes together.

Seen with faust-streaming 0.15.3 as events lost over a restart or a rebalance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams import metrics
from streams.faust_compat.constants import WAIT_WITHOUT_FLOW_MS

logger = logging.getLogger(__name__)

TRIES = 2
"""How often to ask where partitions begin and end: of a topic that was just deleted, Kafka says so the first time."""


class ResumesWithFlow(aiokafka.Consumer):
    """Fault: after a restore Faust resumes the source partitions before it seeks to the committed offsets.

    Meanwhile its streams skip the messages that they are given. Here a source partition is resumed only when the flow
    is.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._to_resume: set[TP] = set()

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


class AsksBetweenFetches(aiokafka.Consumer):
    """Fault: before a seek Faust asks for offsets, and Kafka answers only after it has held a fetch for half a second.

    aiokafka fetches from the assignment on, and Kafka answers the requests of a connection in turn. Here Kafka holds
    fetches without data only briefly until messages flow: Faust resumes the flow for the restore of tables already, and
    seeks after that.
    """

    def stop_flow(self) -> None:
        super().stop_flow()
        cast(Any, self._thread).set_fetch_wait(WAIT_WITHOUT_FLOW_MS)

    def resume_flow(self) -> None:
        super().resume_flow()
        if not cast(Any, self.app).in_recovery:
            cast(Any, self._thread).set_fetch_wait(cast(Any, self.transport).fetch_wait_ms)


class SeeksEveryPartition(aiokafka.Consumer):
    """Fault: a seek leaves a partition without a committed offset where it is, past the messages that were dropped.

    aiokafka's `seek_to_committed` skips None, and Faust skips 0. Here such a partition goes back to its beginning, and
    so does one whose committed offset is not in the log any more.
    """

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = await super().seek_to_committed()
        offsets = {TP(*tp): offset or 0 for tp, offset in committed.items()}
        sources = [tp for tp in offsets if not self._is_changelog_tp(tp)]
        ranges = await self._log_ranges(sources)
        known = sources if ranges is None else list(ranges)  # the others have no leader, so nothing was dropped
        starts = {tp: _start(tp, offsets[tp], *(ranges or {}).get(tp, (None, None))) for tp in known}
        if elsewhere := [tp for tp in known if starts[tp] != offsets[tp] or not starts[tp]]:
            await self.seek_to_beginning(*elsewhere)
        if on_resume := cast(Any, self.transport).on_resume:
            on_resume({tp: end for tp, (_, end) in (ranges or {}).items() if starts[tp] < end})
        return {**offsets, **starts}

    async def _log_ranges(self, partitions: Sequence[TP]) -> Mapping[TP, tuple[int, int]] | None:
        """Return where partitions with a leader begin and end; None if Kafka does not say so in time."""
        if not partitions:
            return {}
        for _ in range(TRIES):
            try:
                ranges: Mapping[TP, tuple[int, int]] = await cast(Any, self._thread).log_ranges(partitions)
            except (KafkaError, asyncio.TimeoutError) as error:
                logger.warning("Kafka did not say where partitions begin and end (%r)", error)
            else:
                return ranges
        return None

    async def seek_to_beginning(self, *partitions: TP) -> None:
        await self._thread.seek_to_beginning(*(cast(Any, self._new_topicpartition(*tp)) for tp in partitions))


def _start(tp: TP, committed: int, begin: int | None, end: int | None) -> int:
    """Return the offset to read from: the committed one if it is in the log, else the log's first."""
    if begin is None or end is None or begin <= committed <= end:
        return committed
    if committed > end:
        logger.warning("%s/%d ends at offset %d, before the committed offset %d: the topic was deleted and created "
                       "again; the worker reads it from its beginning", *tp, end, committed)  # fmt: skip
    elif committed:
        metrics.expired.labels(tp.topic).inc(begin - committed)
        logger.error("%s/%d begins at offset %d: retention deleted up to %d messages before this worker read them", *tp,
                     begin, begin - committed)  # fmt: skip
    return begin
