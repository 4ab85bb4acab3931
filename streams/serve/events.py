"""`POST /v1/events` and `DELETE /v1/users/{user}`: messages for Kafka's input topics, by HTTP.

Each event is checked by the code that checks what comes from Kafka, so a worker rejects none of them later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from streams.bodies import Accepted, ErrorText, EventResult, EventResults, EventsRequest
from streams.contracts import Forget
from streams.kafka.input_producer import InputProducer, NotStored
from streams.kafka.outgoing import Outgoing
from streams.kafka.record_time import now_ms
from streams.receive.decode import receive
from streams.receive.keys import FIELDS, key_of_fields
from streams.receive.message import BadMessage, Message
from streams.serve import http_metrics
from streams.serve.openapi import GUARDED, USER, json_of, operation
from streams.serve.problems import Problem, json_response
from streams.serve.requests import Parameters, id_of, read_json
from streams.serve.rooms import Endpoint
from streams.settings import Settings

USERS = "/v1/users/"
_IN_KEYS = [name for names in FIELDS.values() for name in names]
TOPICS_BY_TYPE = {
    "click": "clicks",
    "purchase": "purchases",
    "search": "searches",
    "preference": "preferences",
    "impression": "impressions",
    "item": "items",
    "triple": "knowledge",
    "merge": "merges",
}
"""An event of any other type goes to the topic `events`, with its type."""
RETRY_AFTER_S = "2"
CHECKED_AT_ONCE = 50
"""Events that are checked before other requests get their turn; chosen by us: about a millisecond."""
_BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _RawEvents(msgspec.Struct, frozen=True):
    events: list[msgspec.Raw]


class EventRoom:
    """Takes events.

    Parameters
    ----------
    settings : Settings
        The names of the topics, the zone of times without one, and how much one request may bring.
    producer : InputProducer
        Sends to Kafka.
    """

    def __init__(self, settings: Settings, producer: InputProducer) -> None:
        self._settings = settings
        self._producer = producer

    def endpoints(self) -> Sequence[Endpoint]:
        """Return both routes."""
        results = json_of(EventResults)
        sent = operation(
            "Send events. The answer comes once Kafka has them on all replicas.",
            {
                "200": ("All were accepted.", results),
                "207": ("Some were accepted; the others have an error.", results),
                "422": ("None was accepted, for their content.", results),
                "503": ("None was accepted, because Kafka is away: send them again.", results),
            },
            {*GUARDED, "400", "413", "415"},
            body=EventsRequest,
        )
        erased = operation(
            "Erase a user: state, lists and pending requests, once the workers read the message.",
            {"202": ("Kafka has the message.", json_of(Accepted))},
            {*GUARDED, "400", "503"},
            parameters=[USER],
        )
        return [
            Endpoint("POST", "/v1/events", self._post, "write", sent),
            Endpoint("DELETE", USERS + "{user:id}", self._forget, "write", erased),
        ]

    def why_not_ready(self) -> list[str]:
        """Return why Kafka takes no events; nothing if it does."""
        return [f"Kafka: {self._producer.away}"] if self._producer.away else []

    async def start(self) -> None:
        """Begin to connect to Kafka.

        Raises
        ------
        SettingsError
            A setting of the connection is wrong.
        """
        await self._producer.start()

    async def stop(self) -> None:
        """Send what is buffered, and disconnect."""
        await self._producer.stop()

    async def send(self, raw_events: Sequence[bytes | msgspec.Raw]) -> list[NotStored | None]:
        """Check events, and send those that are as the contract says.

        Parameters
        ----------
        raw_events : sequence of bytes
            Each a JSON object with a `type` and the fields of its topic.

        Returns
        -------
        list of NotStored or None
            One for each, in their order; None: Kafka has it.
        """
        checked = []
        for begin in range(0, len(raw_events), CHECKED_AT_ONCE):
            checked += [self._checked(raw) for raw in raw_events[begin : begin + CHECKED_AT_ONCE]]
            await asyncio.sleep(0)
        messages = [each for each in checked if isinstance(each, Outgoing)]
        stored = iter(await self._send(messages))
        return [next(stored) if isinstance(each, Outgoing) else each for each in checked]

    async def forget(self, user_id: str) -> NotStored | None:
        """Ask the workers to erase a user; return None if Kafka has the message.

        Raises
        ------
        BadMessage
            No user can have this id.
        """
        value = msgspec.json.encode(Forget(user_id=user_id, timestamp=now_ms()))
        receive(Message("forget", 0, 0, None, value), now_ms())
        (outcome,) = await self._send([Outgoing(self._settings.topic("forget"), user_id.encode(), value)])
        return outcome

    async def _post(self, request: Request) -> Response:
        Parameters(request, ())
        http = self._settings.http
        events = (await read_json(request, _RawEvents, http.max_body_bytes)).events
        if not 0 < len(events) <= http.max_events:
            text = f"events: got {len(events)}, expected 1 to {http.max_events}; send them in several requests"
            raise Problem(400, "invalid_body", text)
        outcomes = await self.send(events)
        results = [EventResult(accepted=True) if each is None else EventResult(error=each.text) for each in outcomes]
        if None in outcomes:
            return json_response(EventResults(results), 207 if any(outcomes) else 200)
        if all(each and each.is_final for each in outcomes):
            error = ErrorText("rejected", "got no event as its topic expects; each has its reason in results")
            return json_response(EventResults(results, error), 422)
        return json_response(EventResults(results, _KAFKA_AWAY), 503, {"Retry-After": RETRY_AFTER_S})

    async def _forget(self, request: Request) -> Response:
        Parameters(request, ())
        try:
            outcome = await self.forget(id_of(request, USERS))
        except BadMessage as error:
            raise Problem(400, "invalid_id", str(error)) from None
        if outcome is not None:
            raise Problem(503, _KAFKA_AWAY.code, outcome.text, {"Retry-After": RETRY_AFTER_S})
        return json_response(Accepted(), 202)

    def _checked(self, raw: bytes | msgspec.Raw) -> Outgoing | NotStored:
        try:
            return self._message(raw)
        except BadMessage as error:
            return NotStored(str(error), is_final=True)

    def _message(self, raw: bytes | msgspec.Raw) -> Outgoing:
        """Return the message for an event: its fields as they were sent; only the topic `events` has their `type`.

        Raises
        ------
        BadMessage
        """
        try:
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            kind = msgspec.json.decode(fields.pop("type", b"null"))
            ids = {name: msgspec.json.decode(fields.get(name, b"null")) for name in _IN_KEYS}
        except _BAD_JSON as error:
            raise _rejected("other", f"event: {error}; expected an object with a type") from None
        weights = self._settings.interest.weights
        if not isinstance(kind, str) or (kind not in TOPICS_BY_TYPE and kind not in weights):
            expected = ", ".join(dict.fromkeys((*TOPICS_BY_TYPE, *weights)))
            raise _rejected("other", f"event: type: got {kind!r:.80}, expected one of {expected}")
        topic = TOPICS_BY_TYPE.get(kind, "events")
        if topic == "events":
            fields["type"] = msgspec.Raw(msgspec.json.encode(kind))
        value = msgspec.json.encode(fields)
        key = key_of_fields(topic, ids)
        try:
            decoded: Any = receive(Message(topic, 0, 0, key, value), now_ms(), self._settings.zone)
        except BadMessage:
            http_metrics.events.labels(topic, "rejected").inc()
            raise
        return Outgoing(self._settings.topic(topic), key or decoded.user_id.encode(), value)

    async def _send(self, messages: Sequence[Outgoing]) -> list[NotStored | None]:
        outcomes = await self._producer.send(messages) if messages else []
        for message, outcome in zip(messages, outcomes, strict=True):
            became = "accepted" if outcome is None else "rejected" if outcome.is_final else "failed"
            http_metrics.events.labels(message.topic.removeprefix(self._settings.topic_prefix), became).inc()
        return outcomes


_KAFKA_AWAY = ErrorText("kafka_unavailable", "got no confirmation from Kafka, expected one; send the events again")


def _rejected(topic: str, text: str) -> BadMessage:
    http_metrics.events.labels(topic, "rejected").inc()
    return BadMessage("invalid", text)
