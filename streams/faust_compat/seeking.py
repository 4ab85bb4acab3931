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

logger = logging.getLogger(__name__)

ANSWER_S = 5.0
"""How long to wait for the offsets of partitions. A partition without a leader has none; the others go on."""


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


class SeeksEveryPartition(aiokafka.Consumer):
    """Fault: a seek leaves a partition without a committed offset where it is, past the messages that were dropped.

    aiokafka's `seek_to_committed` skips None, and Faust skips 0. Here such a partition goes back to its beginning, and
    so does one whose committed offset is not in the log any more.
    """

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = await super().seek_to_committed()
        offsets = {TP(*tp): offset or 0 for tp, offset in committed.items()}
        sources = [tp for tp in offsets if not self._is_changelog_tp(tp)]
        ends = await self._ask(self.highwaters, sources)
        begins = await self._ask(self.earliest_offsets, sources)
        starts = {tp: _start(tp, offsets[tp], begins.get(tp), ends.get(tp)) for tp in sources}
        if elsewhere := [tp for tp in sources if starts[tp] != offsets[tp] or not starts[tp]]:
            await self.seek_to_beginning(*elsewhere)
        if on_resume := cast(Any, self.transport).on_resume:
            on_resume({tp: end for tp, end in ends.items() if starts[tp] < end})
        return {**offsets, **starts}

    async def _ask(self, question: Any, partitions: Sequence[TP]) -> Mapping[TP, int]:
        """Return the offsets that Kafka answers; none if it does not answer, for aiokafka finds them out later."""
        try:
            offsets = await asyncio.wait_for(asyncio.shield(question(*partitions)), ANSWER_S) if partitions else {}
        except (KafkaError, asyncio.TimeoutError) as error:
            logger.warning("Kafka did not say where partitions begin and end (%r); the worker goes on without", error)
            return {}
        return {TP(*tp): offset for tp, offset in offsets.items()}

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
