"""Faults of Faust's consumer around commits, each mended by one class. `consumer` puts them together."""

from __future__ import annotations

from collections.abc import Mapping

from faust.transport.drivers import aiokafka
from faust.types import TP


class CommitsAcknowledged(aiokafka.Consumer):
    """Fault: Faust may commit past a message that is still in work (faust-streaming issue 606).

    It looks for the first run of acknowledged offsets, and fills the holes between offsets one by one, which a
    compacted topic or retention makes millions of. The workers acknowledge each partition's messages in order
    (`streams.kafka.acks`), so here the offset to commit is simply the one after the last acknowledged message.
    """

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        return max(acked) + 1 if acked else None

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: a hole needs no note."""


class RetriesCommits(aiokafka.Consumer):
    """Fault: offsets whose commit fails are forgotten until a later message of their partition is acknowledged."""

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        committed = bool(await super()._commit_offsets(offsets, start_new_transaction))
        for tp, offset in offsets.items():
            if not committed and tp in self.assignment() and tp not in self._acked:
                self._acked[tp].append(offset - 1)  # the next commit has it again
        return committed
