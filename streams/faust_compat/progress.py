"""How far each partition is worked off, and what happens where a topic is deleted and created again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from faust.transport.drivers import aiokafka
from faust.types import TP

logger = logging.getLogger(__name__)


class Progress(NamedTuple):
    """How far a partition is read, or worked off. All three are offsets.

    Attributes
    ----------
    done : int
        Everything before it is read, or done. It passes records that no reader gets, such as a transaction's marker.
    end : int
        The offset after the partition's last message.
    stable : int
        The offset after the last message that can be read now: before `end` while a producer's transaction is open.
    """

    done: int
    end: int
    stable: int


class TracksProgress(aiokafka.Consumer):
    """Missing in Faust: how far each partition is done.

    Faust knows its read and committed offsets, and neither reaches the end of a partition that ends with a
    transaction's marker.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered: dict[TP, int] = {}  # the offset after the last message that Faust was given
        self._done: dict[TP, int] = {}  # the offset after the last message that is acknowledged and committed

    def progress(self) -> dict[TP, Progress | None]:
        """Return the progress of each source partition; None until its leader has answered this worker."""
        return {tp: self._progress(tp) for tp in self.assignment() if not self._is_changelog_tp(tp)}

    def _progress(self, tp: TP) -> Progress | None:
        read = cast(Any, self._thread).read_progress(tp)
        if read is None or tp not in self._done:
            return None
        all_done = self._done[tp] >= self._delivered.get(tp, 0)
        return Progress(read.done if all_done else self._done[tp], read.end, read.stable)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        fetched = await super()._getmany(active_partitions, timeout)
        for tp, records in fetched.items():
            if records and not self._is_changelog_tp(tp):
                self._note_delivery(tp, records)
        return fetched

    def _note_delivery(self, tp: TP, records: Sequence[Any]) -> None:
        self._delivered[tp] = records[-1].offset + 1

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if committed:
            self._done.update(offsets)
        return committed

    async def seek_to_committed(self) -> Mapping[TP, int]:
        offsets = await super().seek_to_committed()
        starts = {tp: offset for tp, offset in offsets.items() if not self._is_changelog_tp(tp)}
        self._delivered, self._done = dict(starts), dict(starts)
        return offsets


class ReadsRecreatedTopics(TracksProgress):
    """Fault: where a topic is deleted and created again while Faust reads it, Faust drops the new topic's messages.

    aiokafka goes back to the first offset, and Faust drops every message before the offset that it has read up to.
    """

    def _note_delivery(self, tp: TP, records: Sequence[Any]) -> None:
        if records[0].offset < self._delivered.get(tp, 0):
            logger.warning("%s/%d begins again at offset %d: the topic was deleted and created again", *tp,
                           records[0].offset)  # fmt: skip
            for noted in (self._read_offset, self._committed_offset, self._acked, self._acked_index, self._gap):
                noted.pop(tp, None)
            self._done[tp] = records[0].offset
        super()._note_delivery(tp, records)
