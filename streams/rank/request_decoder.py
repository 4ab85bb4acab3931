"""A message of the topic `rank-requests` becomes a request, a user to be forgotten, or a dead letter. Ranks nothing."""

from __future__ import annotations

from typing import Any

from streams import metrics
from streams.contracts import RankRequest
from streams.kafka.own_messages import is_our_request
from streams.kafka.record_time import Record, RecordTimes, counted_at, receive_dated
from streams.kafka.reject import rejected
from streams.rank.request_queue import RejectedRequest, RequestQueue
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import Settings


class RequestDecoder:
    """Decodes messages into a queue."""

    def __init__(self, settings: Settings, times: RecordTimes, queue: RequestQueue) -> None:
        self._settings = settings
        self._times = times
        self._queue = queue

    async def decode(self, event: Any) -> None:
        """Put one Kafka event's request into the queue, or its dead letter."""
        kafka = event.message
        message = Message("rank-requests", kafka.partition, kafka.offset, kafka.key, kafka.value)
        await self._times.look([Record.of(kafka)])
        try:
            received = self._receive(message, kafka)
        except BadMessage as error:
            metrics.events.labels("rank-requests", "rejected").inc()
            self._queue.reject(RejectedRequest(rejected(self._settings, message, error), event))
        else:
            metrics.events.labels("rank-requests", "accepted").inc()
            if isinstance(received, RankRequest):
                self._queue.put(received.user_id, received, event)
            else:
                self._queue.put(received.key, None, event)

    def _receive(self, message: Message, kafka: Any) -> RankRequest | Tombstone:
        """Decode. The state tier has bounded the times of its own requests; those of others are bounded here."""
        ours, coerced = is_our_request(kafka.headers), list[str]()
        received, written_ms = receive_dated(self._times, Record.of(kafka), message, self._settings.zone, ours, coerced)
        for kind in coerced:
            metrics.values_coerced.labels("rank-requests", kind).inc()
        if isinstance(received, Tombstone):
            return received
        if not isinstance(received, RankRequest):
            raise TypeError(f"rank-requests: got a {type(received).__name__}, expected a RankRequest")
        return received if ours else counted_at(received, written_ms)
