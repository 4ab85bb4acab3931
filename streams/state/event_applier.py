"""Step 2 on Kafka: apply a batch of events to the users' states, user by user.

Events are only applied in memory; `flush` makes them durable.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
from faust.types import EventT

from encoders.event_time import milliseconds
from streams import metrics
from streams.contracts import Click, Feedback, Forget, Trigger
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import OUR_REQUEST
from streams.receive.decode import FUTURE_MS
from streams.state.due_requests import DueRequest, DueRequests
from streams.state.event_receiver import Change, EventReceiver
from streams.state.pending import Pending
from streams.state.repeats import Repeats
from streams.state.tier import StateTier, type_of

EVENTS_PER_TURN = 64
"""Events, or users, that are processed before other tasks get a turn: a few milliseconds."""


class EventApplier:
    """Applies batches of events.

    Parameters
    ----------
    tier : StateTier
        Holds the users.
    receiver : EventReceiver
        Decodes the events.
    requests : DueRequests
        Loses the requests of users who are forgotten.
    requests_topic : str
        Full name of the topic that tombstones of forgotten users go to.
    pending : Pending
        Gets each applied event: in its user's request, or in the events of the next flush.
    """

    def __init__(
        self, tier: StateTier, receiver: EventReceiver, requests: DueRequests, requests_topic: str, pending: Pending
    ) -> None:
        self._tier = tier
        self._receiver = receiver
        self._requests = requests
        self._requests_topic = requests_topic
        self._pending = pending
        self.repeats = Repeats()

    async def apply(self, events: Sequence[EventT[Any]]) -> None:
        """Decode the events, then change the state of each user once for each run of events of one kind."""
        changes: dict[str, list[Change]] = {}
        await self._receiver.look_up_times(events)
        for index, event in enumerate(events):
            if index % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
            change = self._receiver.receive(event)
            if change is not None:
                changes.setdefault(change.decoded.user_id, []).append(change)
        for index, (user_id, changes_of_user) in enumerate(changes.items()):
            if index % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
            for is_forget, run in groupby(changes_of_user, lambda change: isinstance(change.decoded, Forget)):
                (self._forget if is_forget else self._accept)(user_id, list(run))

    def _accept(self, user_id: str, changes: Sequence[Change]) -> None:
        clicks = [self._redate(change) for change in changes]
        outcomes = self._tier.accept(user_id, clicks)
        for change, click, outcome in zip(changes, clicks, outcomes, strict=True):
            self.repeats.note(_written_ms(change.event), outcome == "duplicate")
            if outcome == "forgotten":
                self._pending.events.append(change.event)
            else:
                request = self._pending.request(user_id)
                request.events.append(change.event)
                request.trigger = Trigger(event_id=click.event_id, type=type_of(click))
                request.arrived_ms = _written_ms(change.event)
                if click.list_id is not None and outcome == "accepted":
                    request.feedback.append(Feedback(list_id=click.list_id, item_id=click.item_id))
        topics = (change.message.topic for change in changes)
        for (topic, outcome), count in Counter(zip(topics, outcomes, strict=True)).items():
            metrics.events.labels(topic, outcome).inc(count)
        self.repeats.publish()

    def _redate(self, change: Change) -> Click:
        """Give the event. If its own time is wrong and it may be of an erased past, date it so that it is erased again.

        An event with a wrong time counts at the time when its record was written, so an erased event that the producer
        sends once more would count as a new one. No event more than `FUTURE_MS` ahead was ever accepted. So up to that
        long after the user was forgotten, an event with a wrong time may be one that was erased.
        """
        assert isinstance(change.decoded, Click)
        until_ms = self._tier.users.forgotten_until(change.decoded.user_id) if change.ahead_ms else 0
        if change.ahead_ms > until_ms + FUTURE_MS or not until_ms:
            return change.decoded
        return msgspec.structs.replace(change.decoded, timestamp=until_ms)

    def _forget(self, user_id: str, changes: Sequence[Change]) -> None:
        """Erase the user. If the user came back after requests that are only repeated, make the list again instead."""
        is_new = [self._tier.forget(user_id, milliseconds(change.decoded.timestamp)) for change in changes]
        for change in changes:
            metrics.events.labels(change.message.topic, "accepted").inc()
            self._pending.events.append(change.event)
        if any(is_new) or not self._tier.users.get(user_id).interest.version:
            unanswered = self._pending.requests.pop(user_id, DueRequest()).events + self._requests.forget(user_id)
            self._pending.events += unanswered
            tombstone = Outgoing(self._requests_topic, user_id.encode(), None, headers=OUR_REQUEST)
            self._pending.messages.append(tombstone)
        else:
            self._pending.request(user_id)


def _written_ms(event: EventT[Any]) -> int:
    return round((event.message.timestamp or time.time()) * 1000)
