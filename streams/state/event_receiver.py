"""Step 1 on Kafka: decode an event, and give the change of a user's state that it asks for.

An event that changes no state here is counted, routed or rejected instead. Knows nothing of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from faust.types import EventT

from encoders.event_time import milliseconds
from streams import metrics
from streams.contracts import Click, Forget, Impression, Item
from streams.kafka.own_messages import origin, written_ms
from streams.kafka.record_time import Record, RecordTimes, counted_at, receive_dated
from streams.kafka.reject import rejected
from streams.receive.decode import INPUTS
from streams.receive.message import BadMessage, Message, Tombstone
from streams.receive.pseudonym import under_pseudonym
from streams.settings import Settings
from streams.state.event_router import ROUTED, EventRouter
from streams.state.known_items import KnownItems
from streams.state.pending import Pending

SKEW_MS = 60_000
"""An event whose own time is further ahead of its record than this was dated by a wrong clock; chosen by us."""


class Change(NamedTuple):
    """An event that changes the state of a user of this worker.

    Attributes
    ----------
    message : Message
        The event as it was received.
    decoded : Click or Forget
        The event. Its time is at the latest the time when its record was written.
    event : faust.Event
        To be acknowledged once its effects are out.
    ahead_ms : int
        The event's own time (milliseconds) where that is more than `SKEW_MS` after its record, else 0.
    """

    message: Message
    decoded: Click | Forget
    event: EventT[Any]
    ahead_ms: int


class EventReceiver:
    """Decodes events one by one.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    times : RecordTimes
        Says which times of records are trusted.
    router : EventRouter
        Gets the clicks, purchases and requests to be forgotten.
    known_items : KnownItems
        Says whether a tombstone on `items` deletes an item.
    pending : Pending
        Gets dead letters, and the events that the next flush acknowledges.

    Attributes
    ----------
    newest_ms : int
        When the newest record that was received was written.
    """

    def __init__(
        self, settings: Settings, times: RecordTimes, router: EventRouter, known_items: KnownItems, pending: Pending
    ) -> None:
        self._settings = settings
        self._times = times
        self._router = router
        self._known_items = known_items
        self._pending = pending
        self.newest_ms = 0

    async def look_up_times(self, events: Sequence[EventT[Any]]) -> None:
        """Ask Kafka what `receive` has to know of these events' topics."""
        await self._times.look(map(Record.of, (event.message for event in events)))

    def receive(self, event: EventT[Any]) -> Change | None:
        """Decode an event.

        Returns
        -------
        Change or None
            None if the event changes no state here; then the next flush acknowledges it.
        """
        stored_topic = event.message.topic.removeprefix(self._settings.topic_prefix)
        message = _message(event, stored_topic)
        try:
            change = self._decode(message, event, is_routed=stored_topic == ROUTED)
        except BadMessage as error:
            metrics.events.labels(message.topic, "rejected").inc()
            self._pending.messages.append(rejected(self._settings, replace(message, topic=stored_topic), error))
            change = None
        if change is None:
            self._pending.events.append(event)
        return change

    def _decode(self, message: Message, event: EventT[Any], is_routed: bool) -> Change | None:
        zone, coerced = self._settings.zone, list[str]()
        decoded, when_ms = receive_dated(self._times, Record.of(event.message), message, zone, is_routed, coerced)
        if is_routed:
            when_ms = written_ms(event.message.headers) or when_ms
        self.newest_ms = max(self.newest_ms, when_ms)
        for kind in coerced:
            metrics.values_coerced.labels(message.topic, kind).inc()
        if isinstance(decoded, (Click, Impression, Forget)) and not is_routed:
            decoded = under_pseudonym(decoded, self._settings.pseudonym_key)
        if isinstance(decoded, (Click, Forget)):
            if self._router.route(message, decoded, when_ms, rewritten=bool(coerced)):
                return None
            own_ms = milliseconds(decoded.timestamp)
            ahead_ms = own_ms if own_ms > when_ms + SKEW_MS else 0
            return Change(message, counted_at(decoded, when_ms), event, ahead_ms)
        if isinstance(decoded, (Impression, Item, Tombstone)):
            metrics.events.labels(message.topic, self._known_items.outcome(decoded)).inc()
            return None
        raise TypeError(f"{message.topic}: the state tier does not handle a {type(decoded).__name__}")


def _message(event: EventT[Any], stored_topic: str) -> Message:
    """The record as it was in the input topic that it came from."""
    kafka, topic = event.message, stored_topic
    if topic == ROUTED and (first_topic := origin(kafka.headers)) in INPUTS:
        topic = first_topic
    return Message(topic, kafka.partition, kafka.offset, kafka.key, kafka.value)
