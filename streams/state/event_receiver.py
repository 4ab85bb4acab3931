"""Step 1 on Kafka: decode an event, and give the changes of users' states that it asks for.

An event is a record of a topic. A record of a topic of the team's may hold several messages. What changes no state here
is counted, routed, forwarded or rejected instead. Knows nothing of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from faust.types import EventT

from encoders.event_time import milliseconds
from encoders.interest_record import StateUnreadable
from streams import metrics
from streams.contracts import Click, Forget, Impression, Item, Preference, RankRequest, Search, Triple, UserMerge
from streams.kafka.acks import InOrder
from streams.kafka.own_messages import (
    OF_MERGE,
    TO_COMPLETE,
    TO_MAKE_ANEW,
    addressed_to,
    is_returned,
    is_told,
    origin,
    written_ms,
)
from streams.kafka.record_reader import Received, RecordReader
from streams.kafka.record_time import counted_at
from streams.kafka.reject import rejected
from streams.kafka.topics import changelog_name
from streams.receive.decode import INPUTS
from streams.receive.message import BadMessage, Message, Tombstone
from streams.receive.pseudonym import Pseudonymous, under_pseudonym
from streams.receive.triples import TOPIC as TRIPLES
from streams.settings import Settings
from streams.state import transfer
from streams.state.due_requests import IncompleteRequest
from streams.state.event_router import ROUTED, EventRouter
from streams.state.known_items import KnownItems
from streams.state.pending import Pending
from streams.state.transfer import Sent

SKEW_MS = 60_000
"""An event whose own time is further ahead of its record than this was dated by a wrong clock; chosen by us."""


class Change(NamedTuple):
    """A message that changes the state of a user of this worker.

    Attributes
    ----------
    message : Message
        The message as it was received.
    decoded : Click, Search, Preference, Impression, Forget, UserMerge, Question or Transfer
        The message. Its time is at the latest the time when its record was written.
    event : faust.Event
        The record that it came in, to be acknowledged once the effects of all its messages are out.
    ahead_ms : int
        The event's own time (milliseconds) where that is more than `SKEW_MS` after its record, else 0.
    user_id : str
        The user whose state it changes: the one whom the message names, or the one into whom that one was merged.
    written_ms : int
        When the message's first record was written (milliseconds).
    is_returned : bool
        The user that it was sent to does not know the one whom it names.
    is_told : bool
        A request to forget a user: those into whom the user was merged are forgotten already.
    """

    message: Message
    decoded: Click | Search | Preference | Impression | Forget | UserMerge | Sent
    event: EventT[Any]
    ahead_ms: int
    user_id: str
    written_ms: int
    is_returned: bool = False
    is_told: bool = False


class EventReceiver:
    """Decodes events one by one.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    reader : RecordReader
        Gives the messages of a record.
    router : EventRouter
        Gets what changes users' states, and the items and triples of the team's topics.
    known_items : KnownItems
        Says whether a tombstone on `items` deletes an item.
    pending : Pending
        Gets dead letters, and the events that the next flush acknowledges.
    acks : InOrder
        Is told how many changes an event asks for.

    Attributes
    ----------
    newest_ms : int
        When the newest record that was received was written.
    """

    def __init__(
        self,
        settings: Settings,
        reader: RecordReader,
        router: EventRouter,
        known_items: KnownItems,
        pending: Pending,
        acks: InOrder,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._router = router
        self._known_items = known_items
        self._pending = pending
        self._acks = acks
        self._routed_topic = settings.topic(ROUTED)
        self._owner = changelog_name(settings)
        self.newest_ms = 0

    def is_ready(self, event: EventT[Any]) -> bool:
        """Tell whether the event can be decoded: its schema is known, or it needs none."""
        return self._reader.is_ready(event.message)

    async def prepare(self, events: Sequence[EventT[Any]]) -> None:
        """Ask Kafka what `receive` has to know of these events, which are ready."""
        await self._reader.look_up_times([event.message for event in events])

    def receive(self, event: EventT[Any]) -> list[Change | IncompleteRequest]:
        """Decode an event.

        Returns
        -------
        list of Change or IncompleteRequest
            The event is acknowledged once all of them are done. Empty if the event changes no state here; then the next
            flush acknowledges it.
        """
        record, is_routed = event.message, event.message.topic == self._routed_topic
        if is_routed and origin(record.headers) == OF_MERGE:
            return self._between_workers(event)
        try:
            received = [self._routed(record)] if is_routed else self._reader.read(record)
        except BadMessage as error:
            message = self._reader.whole(record)
            metrics.events.labels(_topic_of_origin(record) if is_routed else message.topic, "rejected").inc()
            self._pending.messages.append(rejected(self._settings, message, error))
            received = []
        else:
            if not received:
                metrics.records_not_ours.labels(record.topic).inc()
        is_mapped = self._reader.is_mapped(record.topic)
        found = [self._change(one, event, is_routed, is_mapped) for one in received]
        changes = [change for change in found if change is not None]
        if not changes:
            self._pending.events.append(event)
        elif len(changes) > 1:
            self._acks.expect(event, len(changes))
        return changes

    def _between_workers(self, event: EventT[Any]) -> list[Change | IncompleteRequest]:
        """Decode what another worker sent because of a merge, if it is one of our group."""
        record = event.message
        message = Message(_topic_of_origin(record), record.partition, record.offset, record.key, record.value)
        when_ms = written_ms(record.headers) or 0
        try:
            sent = transfer.decode(record.value or b"")
        except StateUnreadable as error:
            self._pending.messages.append(rejected(self._settings, message, BadMessage("malformed", str(error))))
            metrics.events.labels(message.topic, "rejected").inc()
        else:
            if sent.owner != self._owner:
                metrics.records_not_ours.labels(record.topic).inc()
            elif self._router.is_home(sent.user_id, record.partition):
                return [Change(message, sent, event, 0, sent.user_id, when_ms)]
            else:
                self._pending.messages.append(self._router.between_workers(sent, when_ms))
        self._pending.events.append(event)
        return []

    def _routed(self, record: Any) -> Received:
        """Decode an event that a worker routed: a message in the form of the contract, whatever topic it came from."""
        message = Message(_topic_of_origin(record), record.partition, record.offset, record.key, record.value)
        received = self._reader.receive(record, message, from_worker=True)
        return received._replace(written_ms=written_ms(record.headers) or received.written_ms)

    def _change(
        self, received: Received, event: EventT[Any], is_routed: bool, is_mapped: bool
    ) -> Change | IncompleteRequest | None:
        message, decoded, when_ms, coerced = received
        self.newest_ms = max(self.newest_ms, when_ms)
        for kind in coerced:
            metrics.values_coerced.labels(message.topic, kind).inc()
        if isinstance(decoded, Pseudonymous) and not is_routed:
            decoded = under_pseudonym(decoded, self._settings.pseudonym_key)
        if isinstance(decoded, Pseudonymous):
            headers = event.message.headers if is_routed else None
            user_id = addressed_to(headers) or decoded.user_id
            if self._router.route(message, decoded, user_id, when_ms, rewritten=bool(coerced)):
                return None
            own_ms = milliseconds(decoded.timestamp)
            ahead_ms = own_ms if own_ms > when_ms + SKEW_MS else 0
            dated, marks = counted_at(decoded, when_ms), (is_returned(headers), is_told(headers))
            return Change(message, dated, event, ahead_ms, user_id, when_ms, *marks)
        if isinstance(decoded, RankRequest):
            if origin(event.message.headers) != TO_MAKE_ANEW:
                return IncompleteRequest(decoded, event)
            self._pending.anew.add(decoded.user_id)
            return None
        if is_mapped and isinstance(decoded, (Item, Triple, Tombstone)):
            self._router.forward(message, when_ms)
            return None
        if isinstance(decoded, Triple) or message.topic == TRIPLES:  # the reader of the graph takes it
            metrics.events.labels(message.topic, "accepted").inc()
            return None
        if isinstance(decoded, (Item, Tombstone)):
            metrics.events.labels(message.topic, self._known_items.outcome(decoded)).inc()
            return None
        raise TypeError(f"{message.topic}: the state tier does not handle a {type(decoded).__name__}")


def _topic_of_origin(record: Any) -> str:
    """The contract topic that a routed event came from; `routed-events` if it names none."""
    topic = origin(record.headers)
    if topic in (TO_COMPLETE, TO_MAKE_ANEW):
        return "rank-requests"
    return "merges" if topic == OF_MERGE else topic if topic in INPUTS else ROUTED
