"""Faust's Kafka transport, made to lose nothing where a group has committed nothing yet.

While tables are restored, Faust may fetch messages and drop them; afterwards it seeks back to the committed offsets. A
partition without one it leaves where it is, so what was dropped is lost (aiokafka's `seek_to_committed` skips
offsets that are None or 0; seen with faust-streaming 0.15.3: a worker killed before its first commit lost its first
messages). Here such a partition goes back to its beginning. Called by `worker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from faust.transport.drivers import aiokafka
from faust.types import TP


class Consumer(aiokafka.Consumer):
    """A consumer whose every partition starts at its committed offset, or else at its beginning.

    Attributes
    ----------
    committed_at_start : the group's committed offset of each partition when it became ours; 0 where there was none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.committed_at_start: dict[TP, int] = {}

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


class Transport(aiokafka.Transport):
    """The transport with that consumer."""

    Consumer = Consumer
