"""A message of the topic `rank-requests` becomes a request, a user to be forgotten, or a dead letter. Ranks nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ranker.rules.reading import BadCondition
from streams import metrics
from streams.contracts import RankRequest
from streams.kafka.own_messages import is_again, is_later, is_our_request
from streams.kafka.record_time import Record, RecordTimes, counted_at, receive_dated
from streams.kafka.reject import rejected
from streams.publish.list_key import undeclared
from streams.rank.completion import Completion
from streams.rank.list_rules import ListRules
from streams.rank.request_queue import RejectedRequest, RequestQueue
from streams.receive.confluent import framed
from streams.receive.message import BadMessage, Message, Tombstone
from streams.receive.unknown_fields import UnknownFields
from streams.settings import Settings


class RequestDecoder:
    """Decodes messages into a queue."""

    def __init__(
        self, settings: Settings, times: RecordTimes, queue: RequestQueue, completion: Completion, rules: ListRules
    ) -> None:
        self._settings = settings
        self._times = times
        self._queue = queue
        self._completion = completion
        self._rules = rules
        self._unknown_fields = UnknownFields("rank-requests")

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
            if isinstance(received, Tombstone):
                self._queue.put(received.key, None, event)
            elif is_our_request(kafka.headers) and is_again(kafka.headers):
                self._queue.put_again(received, [event])
            elif is_our_request(kafka.headers):
                self._completion.answered(received)
                self._queue.put(received.user_id, received, event, later=is_later(kafka.headers))
            elif not self._completion.forward(received, event):
                self._queue.put(received.user_id, received, event, self._completion.ask(received))

    def _receive(self, message: Message, kafka: Any) -> RankRequest | Tombstone:
        """Decode. The state tier has bounded the times of its own requests; those of others are bounded here."""
        ours, coerced = is_our_request(kafka.headers), list[str]()
        if (part := framed(message.value)) and part.is_json:
            message = replace(message, value=part.payload)
            coerced.append("confluent")
        types = self._settings.interest.weights
        received, written_ms = receive_dated(
            self._times, Record.of(kafka), message, self._settings.zone, ours, coerced, types
        )
        for kind in coerced:
            metrics.values_coerced.labels("rank-requests", kind).inc()
        if isinstance(received, Tombstone):
            return received
        if not isinstance(received, RankRequest):
            raise TypeError(f"rank-requests: got a {type(received).__name__}, expected a RankRequest")
        if received.placement is not None and received.placement not in self._settings.ranker.placements:
            text = undeclared(received.placement, self._settings.ranker.placements)
            raise BadMessage("placement", f"rank-requests: {text}", "placement not declared")
        if ours:
            return received
        if received.domain:
            self._check_domain(received)
        try:
            self._rules.check(received)
        except BadCondition as error:
            raise BadMessage("invalid", f"rank-requests: filter: {error}", "a filter that cannot be applied") from None
        self._unknown_fields.note(message.value or b"")
        return counted_at(received, written_ms)

    def _check_domain(self, request: RankRequest) -> None:
        declared = self._settings.candidates.domains
        if request.candidates:
            error = (
                "domain: got one with candidates, expected one of the two; send no candidates, and they are recalled"
            )
            raise BadMessage("invalid", f"rank-requests: {error}", "a domain and candidates")
        if request.domain not in declared:
            known = ", ".join(declared) or "none is"
            error = f"domain: got {request.domain!r}, expected one that is declared ({known}); add it to "
            raise BadMessage(
                "invalid", f"rank-requests: {error}AFTERCLICK_CANDIDATES__DOMAINS", "a domain that is not declared"
            )
