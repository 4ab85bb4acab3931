"""Three faults of aiokafka by which one batch that nobody can read stops its partition for good.

Here the reader gets one record in place of the batch, at the batch's last offset, without a key. Its value is
`Unreadable`. So the batch is dead-lettered, acknowledged and committed like any message, and the log and a metric tell
of it. No producer can send such a record: `Unreadable` is a type of this process, not bytes on the wire. Knows no topic
and no message.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import consumer, fetcher
from aiokafka.errors import CorruptRecordException, RecordTooLargeError
from aiokafka.protocol.fetch import FetchRequest

from streams import metrics
from streams.receive.message import Unreadable

logger = logging.getLogger(__name__)


class _Batches:
    """The batches of one fetch; `newest` is the batch returned last, None if not even its frame was whole."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self._ahead: list[Any] = []
        self.newest: Any = None

    def has_next(self) -> bool:
        return bool(self._ahead or self._batches.has_next())

    def next_batch(self) -> Any:
        self.newest = None
        self.newest = self._ahead.pop() if self._ahead else self._batches.next_batch()
        return self.newest

    def following(self) -> Any:
        """Return the next batch without taking it; None at the end, and where its frame is damaged."""
        if not self._ahead and self._batches.has_next():
            with suppress(Exception):
                self._ahead.append(self._batches.next_batch())
        return self._ahead[0] if self._ahead else None


class PassesUnreadableBatches(fetcher.PartitionRecords):  # type: ignore[misc]
    """Fault: what decoding a batch raises is raised again by every later fetch.

    A codec that aiokafka does not know, a wrong checksum or damaged records raise. Here the error ends with the batch.
    """

    next_fetch_offset: int

    def __init__(self, tp: TopicPartition, records: Any, *rest: Any, **more: Any) -> None:
        super().__init__(tp, _Batches(records), *rest, **more)

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        while True:
            try:
                yield from super()._unpack_records()
                return
            except Exception as error:  # noqa: BLE001  # a codec may raise anything
                first, end = self.next_fetch_offset, self._end()
                self.next_fetch_offset = max(end or 0, first + 1)
                yield _stand_in(self._tp, first, self.next_fetch_offset, error)
                if end is None:  # the next fetch starts within the batch, and comes here for each of its offsets
                    return

    def _end(self) -> int | None:
        """Return the offset after the newest batch, by its header or the next one's; None if neither can be trusted.

        A wrong checksum may mean a wrong header.
        """
        batch = self._records.newest
        if self._is_sound(batch):
            return int(batch.next_offset)
        following = self._records.following()
        return getattr(following, "base_offset", None) if self._is_sound(following) else None

    def _is_sound(self, batch: Any) -> bool:
        return batch is not None and (not self._check_crcs or bool(batch.validate_crc()))


class _OneRecord:
    """Stands in for a fetch's `PartitionRecords`: one record, then none."""

    def __init__(self, record: ConsumerRecord) -> None:
        self.next_fetch_offset = record.offset + 1
        self._records = iter([record])

    def __iter__(self) -> Iterator[ConsumerRecord]:
        return self._records

    def __next__(self) -> ConsumerRecord:
        return next(self._records)


class PassesOversizedBatches(fetcher.Fetcher):  # type: ignore[misc]
    """Fault: a batch that is larger than a fetch raises `RecordTooLargeError` at every fetch."""

    def _set_error(self, tp: TopicPartition, error: Exception) -> None:
        if isinstance(error, RecordTooLargeError):  # aiokafka moves the position on after this call
            self._put_stand_in(tp, self._subscriptions.subscription.assignment, error)
        else:
            super()._set_error(tp, error)

    def _put_stand_in(self, tp: TopicPartition, assignment: Any, error: Exception) -> None:
        first = assignment.state_value(tp).position
        self._records[tp] = fetcher.FetchResult(
            tp,
            assignment=assignment,
            partition_records=_OneRecord(_stand_in(tp, first, first + 1, error)),
            backoff=self._prefetch_backoff,
        )


class _CorruptionNotes:
    """aiokafka's client, which also notes the partitions whose log the broker itself cannot read."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.corrupt: list[TopicPartition] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **more: Any) -> Any:
        response = await self._client.send(node_id, request, **more)
        if isinstance(request, FetchRequest):
            self.corrupt += [
                TopicPartition(topic, partition)
                for topic, partitions in response.topics
                for partition, error_code, *_ in partitions
                if error_code == CorruptRecordException.errno
            ]
        return response


class Fetcher(PassesOversizedBatches):
    """Fault: where the broker cannot read its own log, aiokafka fetches the same offset for ever and tells nobody."""

    def __init__(self, client: Any, *rest: Any, **more: Any) -> None:
        super().__init__(_CorruptionNotes(client), *rest, **more)

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> bool:
        has_records = bool(await super()._proc_fetch_request(assignment, node_id, request))
        corrupt, self._client.corrupt = self._client.corrupt, []
        for tp in corrupt:
            if assignment.active and tp not in self._records and assignment.state_value(tp).has_valid_position:
                self._put_stand_in(tp, assignment, CorruptRecordException("the broker cannot read its log there"))
                state = assignment.state_value(tp)
                state.consumed_to(state.position + 1)
                has_records = True
        return has_records


def _stand_in(tp: TopicPartition, first: int, after: int, error: Exception) -> ConsumerRecord:
    offsets = str(first) if after == first + 1 else f"{first} to {after - 1}"
    kind, text = type(error).__name__, str(error)
    why = text if kind in text else f"{kind}: {text}"
    metrics.unreadable_batches.labels(tp.topic).inc()
    logger.error("%s/%d: the batch at offset %s cannot be read (%s); the worker passes it", *tp, offsets, why)
    value = Unreadable(f"got a batch at offset {offsets} that cannot be read ({why})")
    return ConsumerRecord(tp.topic, tp.partition, after - 1, -1, 0, None, value, None, -1, 0, ())


def install() -> None:
    """From now on every consumer of this process passes the batches that it cannot read."""
    fetcher.PartitionRecords = PassesUnreadableBatches
    consumer.Fetcher = Fetcher
