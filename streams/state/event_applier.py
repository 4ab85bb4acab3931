"""Step 2 on Kafka: apply a batch of events to the users' states, user by user.

A merged user's events are sent on instead; see `merger`.
Events are only applied in memory; `flush` makes them durable.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
from faust.types import EventT

from encoders.describe import context_words
from encoders.event_time import milliseconds
from encoders.interest import Vector
from streams import metrics
from streams.contracts import Click, Forget, Impression, Preference, Search, Trigger, UserMerge
from streams.receive.decode import FUTURE_MS
from streams.receive.user_events import type_of
from streams.settings import Settings
from streams.state.due_requests import OLD_MS, DueRequest, DueRequests, IncompleteRequest
from streams.state.event_receiver import Change, EventReceiver
from streams.state.impressions import note_shown
from streams.state.merger import Merger, tombstone
from streams.state.pending import Pending
from streams.state.query_vectors import Happening, query_vectors
from streams.state.repeats import Repeats
from streams.state.request_builder import Encode
from streams.state.stated_wishes import note_wish
from streams.state.tier import StateTier
from streams.state.transfer import Question, Transfer
from streams.state.waiting_wishes import WaitingWishes
from streams.state.wish_reader import ReadWish, WishReader

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
    merger : Merger
        Deals with merges and merged users.
    settings : Settings
        The names of the topics.
    pending : Pending
        Gets each applied event: in its user's request, or in the events of the next flush.
    encode : coroutine function
        Computes the vectors of the texts of searches, outside the event loop.

    Attributes
    ----------
    repeats : Repeats
        The share of repeated events.
    waiting_wishes : WaitingWishes
        Keeps those that a model has to read.
    """

    def __init__(
        self,
        tier: StateTier,
        receiver: EventReceiver,
        requests: DueRequests,
        merger: Merger,
        settings: Settings,
        pending: Pending,
        encode: Encode,
    ) -> None:
        self._tier = tier
        self._receiver = receiver
        self._requests = requests
        self._merger = merger
        self._settings = settings
        self._pending = pending
        self._encode = encode
        self._queries: Mapping[str, Vector] = {}
        self._reader = WishReader(settings)
        self.waiting_wishes = WaitingWishes(settings, self._reader)
        self._read: dict[int, ReadWish] = {}  # by id() of the message
        self.repeats = Repeats()

    async def apply(self, events: Sequence[EventT[Any]]) -> None:
        """Decode the events, then change the state of each user once for each run of events of one kind."""
        changes: dict[str, list[Change]] = {}
        released = self.waiting_wishes.release()
        for waiting in [*(one for one in self._merger.go_on() if not self.waiting_wishes.hold(one)), *released]:
            changes.setdefault(waiting.user_id, []).append(waiting)
        await self._receiver.prepare(events)
        for index, event in enumerate(events):
            if index % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
            for change in self._receiver.receive(event):
                if isinstance(change, IncompleteRequest):
                    self._pending.incomplete.append(change)
                elif not self.waiting_wishes.hold(change):
                    changes.setdefault(change.user_id, []).append(change)
        received = [change.decoded for of_user in changes.values() for change in of_user]
        self._read = {id(one): self._reader.read(one) for one in received if isinstance(one, Preference)}
        sought = (words for read in self._read.values() for words in read.sought)
        self._queries = await query_vectors(received, self._encode, sought)
        for index, (user_id, changes_of_user) in enumerate(changes.items()):
            if index % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
            for run in _runs(changes_of_user):
                self._apply_run(user_id, run)

    def _apply_run(self, user_id: str, changes: Sequence[Change]) -> None:
        changes = self._merger.pass_on(user_id, changes)
        if not changes:
            return
        change, decoded = changes[0], changes[0].decoded
        if isinstance(decoded, Forget):
            self._forget(user_id, changes)
        elif isinstance(decoded, UserMerge):
            self._merger.begin(user_id, change, decoded)
        elif isinstance(decoded, Question):
            self._merger.answer(user_id, change, decoded)
        elif isinstance(decoded, Transfer):
            self._take_in(user_id, change, decoded)
        elif known := self._merger.without_strangers(user_id, changes):
            apply = {Impression: self._show, Preference: self._wish}.get(type(decoded), self._accept)
            apply(user_id, known)

    def _take_in(self, user_id: str, change: Change, moved: Transfer) -> None:
        if not self._merger.take_in(user_id, moved):
            self._pending.events.append(change.event)
            return
        request = self._pending.request(user_id)
        request.events.append(change.event)
        request.is_awaited |= moved.path[-1].timestamp_ms > self._receiver.newest_ms - OLD_MS

    def _show(self, user_id: str, changes: Sequence[Change]) -> None:
        """Note what was shown. No list is made for that."""
        impressions = [change.decoded for change in changes if isinstance(change.decoded, Impression)]
        outcomes = note_shown(self._tier.users, user_id, impressions, self._tier.decay)
        for change, outcome in zip(changes, outcomes, strict=True):
            metrics.events.labels(change.message.topic, outcome).inc()
            self._pending.events.append(change.event)

    def _wish(self, user_id: str, changes: Sequence[Change]) -> None:
        """Keep wishes, and have a list made that obeys them."""
        for change in changes:
            message = self._redate(user_id, change)
            assert isinstance(message, Preference)
            read = self._read[id(change.decoded)]
            outcome = note_wish(self._tier.users, user_id, message, read, self._queries, self._tier.decay)
            metrics.events.labels(change.message.topic, outcome).inc()
            if outcome == "forgotten":
                self._pending.events.append(change.event)
            else:
                self._due(user_id, change, message, "preference")

    def _due(self, user_id: str, change: Change, message: Happening | Preference, type_: str) -> DueRequest:
        """Have a list made because of an event."""
        request = self._pending.request(user_id)
        request.events.append(change.event)
        request.trigger = Trigger(event_id=message.event_id, type=type_)
        request.arrived_ms = _written_ms(change.event)
        request.is_awaited |= milliseconds(message.timestamp) > self._receiver.newest_ms - OLD_MS
        return request

    def _accept(self, user_id: str, changes: Sequence[Change]) -> None:
        clicks = [click for change in changes if isinstance(click := self._redate(user_id, change), (Click, Search))]
        outcomes = self._tier.accept(user_id, clicks, self._queries)
        for change, click, outcome in zip(changes, clicks, outcomes, strict=True):
            self.repeats.note(_written_ms(change.event), outcome == "duplicate")
            if outcome == "forgotten":
                self._pending.events.append(change.event)
            else:
                request = self._due(user_id, change, click, type_of(click))
                request.context = context_words(click.context)
                if outcome == "accepted" and (chosen := self._tier.choice(click)):
                    request.feedback.append(chosen)
        topics = (change.message.topic for change in changes)
        for (topic, outcome), count in Counter(zip(topics, outcomes, strict=True)).items():
            metrics.events.labels(topic, outcome).inc(count)
        self.repeats.publish()

    def _redate(self, user_id: str, change: Change) -> Happening | Preference:
        """Give the event. If its own time is wrong and it may be of an erased past, date it so that it is erased again.

        An event with a wrong time counts at the time when its record was written, so an erased event that the producer
        sends once more would count as a new one. No event more than `FUTURE_MS` ahead was ever accepted. So up to that
        long after the user was forgotten, an event with a wrong time may be one that was erased.
        """
        assert isinstance(change.decoded, (Click, Search, Preference))
        until_ms = self._tier.users.forgotten_until(user_id) if change.ahead_ms else 0
        if change.ahead_ms > until_ms + FUTURE_MS or not until_ms:
            return change.decoded
        return msgspec.structs.replace(change.decoded, timestamp=until_ms)

    def _forget(self, user_id: str, changes: Sequence[Change]) -> None:
        """Erase the user. If the user came back after requests that are only repeated, make the list again instead."""
        visitors = list(self._tier.users.visitors.of(user_id))
        is_new = [self._tier.forget(user_id, _asked_ms(change)) for change in changes]
        if any(is_new):
            self._merger.tell(visitors, self._tier.users.forgotten_until(user_id))
        for change in changes:
            metrics.events.labels(change.message.topic, "accepted").inc()
            self._pending.events.append(change.event)
        if any(is_new) or not self._tier.users.get(user_id).interest.version:
            unanswered = self._pending.forget(user_id) + self._requests.forget(user_id)
            self._pending.events += unanswered
            self._pending.messages.append(tombstone(self._settings, user_id))
        else:
            self._pending.request(user_id)


def _runs(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Yield events and searches that follow each other together, also impressions and requests to be forgotten."""
    for kind, run in groupby(changes, _kind):
        together = list(run)
        yield from [together] if kind in (Click, Impression, Forget) else ([change] for change in together)


def _kind(change: Change) -> type:
    return Click if isinstance(change.decoded, (Click, Search)) else type(change.decoded)


def _asked_ms(change: Change) -> int:
    assert isinstance(change.decoded, Forget)
    return milliseconds(change.decoded.timestamp)


def _written_ms(event: EventT[Any]) -> int:
    return round((event.message.timestamp or time.time()) * 1000)
