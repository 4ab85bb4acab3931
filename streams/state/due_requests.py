"""Step 3 on Kafka: one rank request for each user who needs a new list, however many events made it necessary.

The events that a request answers are acknowledged once the request is out. Users whose events are old wait for no list,
nor do users whose list only has to be ranked again: their requests are made when all others are, and no event waits. So
a back-fill makes few requests for each user. Knows nothing of how states change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from encoders.event_time import milliseconds
from encoders.events.shown_lists import read
from streams.contracts import Feedback, RankRequest, Trigger
from streams.kafka.acks import InOrder
from streams.kafka.message_size import outgoing_request
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import AGAIN, LATER
from streams.kafka.reliable_producer import ReliableProducer
from streams.state.request_builder import Encode
from streams.state.tier import StateTier

MAX_BATCH = 64
SLICE_S = 0.05
"""How long requests are made between two flushes. Chosen by us: longer than a few requests take, too short to be
noticed."""
PAUSE_S = 0.005
"""Between two requests that nobody waits for. A new event takes many turns of the event loop, and each would last as
long as a request. Chosen by us: nearly as long as one takes."""
PATIENCE_S = 2.0
"""How long a user waits until requests get more time. Chosen by us: under a backlog events go first, because the more
events a request answers, the fewer requests there are to make; but a user who waits longer has left the page."""
OLD_MS = 600_000
"""A user whose newest event is this much older than the newest record waits for no list; chosen by us."""
BACKLOG = 256
"""Events that wait to be applied; above it the requests that nobody waits for can wait too. Chosen by us: many times
what arrives during a flush."""


@dataclass
class DueRequest:
    """A request that a user needs.

    Attributes
    ----------
    trigger : Trigger or None
        The newest event; None if the state changed without an event of the user.
    arrived_ms : int or None
        When the record of the newest event was written.
    feedback : list of Feedback
        The items that the user chose from lists.
    context : dict of str to str
        Of the newest event.
    events : list of faust.Event
        The events that the request will answer.
    since : float
        When the user began to wait, in seconds of the monotonic clock.
    is_awaited : bool
        Whether the user waits for the list: an event of theirs is new.
    again : bool
        The user has a list of the newest state, which only has to be ranked again.
    """

    trigger: Trigger | None = None
    arrived_ms: int | None = None
    feedback: list[Feedback] = field(default_factory=list)
    context: dict[str, str] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    is_awaited: bool = False
    again: bool = False

    def merge(self, newer: DueRequest) -> None:
        """Let one request answer both."""
        self.events.extend(newer.events)
        self.feedback.extend(newer.feedback)
        if newer.trigger is not None:
            self.trigger, self.arrived_ms, self.context = newer.trigger, newer.arrived_ms, newer.context
        self.again = False


class IncompleteRequest(NamedTuple):
    """A request of an upstream recommender that lacks features, and the event that it came in."""

    request: RankRequest
    event: Any


def split_by_user(
    requests: Sequence[IncompleteRequest], user_id: str
) -> tuple[list[IncompleteRequest], list[IncompleteRequest]]:
    """Return the user's requests, and those of the others."""
    return (
        [one for one in requests if one.request.user_id == user_id],
        [one for one in requests if one.request.user_id != user_id],
    )


class DueRequests:
    """The users who wait for a request; the user who has waited longest comes first.

    Their states are durable, or being written.

    Parameters
    ----------
    tier : StateTier
        Makes the requests.
    producer : ReliableProducer
        Sends messages until Kafka has acknowledged them.
    topic : str
        Full name of the topic that requests go to.
    acks : InOrder
        Is told which events are answered.
    encode : coroutine function
        Computes the vectors of texts, outside the event loop.
    domains : sequence of str
        Of each a user has a list more.

    Attributes
    ----------
    incomplete : list of IncompleteRequest
        Requests to be completed, the oldest first.
    """

    def __init__(
        self,
        tier: StateTier,
        producer: ReliableProducer,
        topic: str,
        acks: InOrder,
        encode: Encode,
        domains: Sequence[str] = (),
    ) -> None:
        self.incomplete: list[IncompleteRequest] = []
        self._encode = encode
        self._domains = domains
        self._tier = tier
        self._producer = producer
        self._topic = topic
        self._acks = acks
        self._delivery_s = 0.0  # how long the last one took
        self._pending: dict[str, DueRequest] = {}
        self._later: dict[str, DueRequest] = {}  # none of these users is in `_pending`
        self._empty: dict[str, None] = {}  # their newest request had no candidate; only names, so all of them

    def __len__(self) -> int:
        return len(self._pending) + len(self._later) + len(self.incomplete)

    def add(self, user_id: str, newer: DueRequest) -> None:
        """Queue a request for a user."""
        earlier = self._later.pop(user_id, None)
        if user_id in self._pending or newer.is_awaited:
            due = self._pending.setdefault(user_id, DueRequest())
        else:
            due = self._later.setdefault(user_id, DueRequest())
        for one in filter(None, (earlier, newer)):
            due.merge(one)

    def make_anew(self, user_ids: Iterable[str]) -> None:
        """Queue requests for users whose lists only have to be ranked again."""
        for user_id in user_ids:
            if user_id not in self._pending:
                self._later.setdefault(user_id, DueRequest(again=True))

    def forget(self, user_id: str) -> list[Any]:
        """Remove the user. Returns the events that the request would have answered."""
        dropped, self.incomplete = split_by_user(self.incomplete, user_id)
        self._empty.pop(user_id, None)
        due = self._pending.pop(user_id, None) or self._later.pop(user_id, DueRequest())
        return [*due.events, *(one.event for one in dropped)]

    def clear(self) -> None:
        """Remove all users: another worker holds them now."""
        self._pending, self._later, self._empty, self.incomplete = {}, {}, {}, []

    def take_empty(self) -> list[str]:
        """Return some users whose newest request had no candidate: new items may be some."""
        users = list(islice(self._empty, MAX_BATCH))
        for user_id in users:
            del self._empty[user_id]
        return users

    async def send(self, flush_s: float, backlog: Callable[[], int], stored: Awaitable[bool]) -> None:
        """Make requests for a limited time, send them, and acknowledge the events that they answer.

        One recall takes milliseconds, so the event loop gets a turn after each. Under a backlog, where a flush is long,
        requests get a small share of the time. Once a user has waited longer than `PATIENCE_S`, they get a quarter.
        Requests that nobody waits for get as much as the flush and the delivery before took, until an event comes: on a
        busy machine these cost more than a few requests do.

        Parameters
        ----------
        flush_s : float
            How long the flush before took, in seconds.
        backlog : callable
            Returns how many events wait to be applied.
        stored : awaitable of bool
            Done once the users' states are durable, and whether anything may be sent then.

        Raises
        ------
        MembershipLost
            Another worker holds the users now. Nothing was acknowledged.
        """
        started = time.monotonic()
        longest_wait_s = max((started - request.since for request in islice(self._pending.values(), 1)), default=0.0)
        until = started + (max(SLICE_S, flush_s / 3) if longest_wait_s > PATIENCE_S else SLICE_S)
        messages, answered = await self._completed(until)
        is_later = not self._pending and backlog() <= BACKLOG
        due_requests, mark = (self._later, (LATER,)) if is_later else (self._pending, ())
        for user_id in list(islice(due_requests, MAX_BATCH)):
            due = due_requests.pop(user_id, None)
            if due is None:  # the user was forgotten meanwhile
                continue
            answered.extend(due.events)
            if self._tier.users.get(user_id).interest.version:  # else the user was forgotten meanwhile
                request = self._tier.request(user_id, due.trigger, due.arrived_ms, due.feedback, due.context)
                messages.append(outgoing_request(self._topic, request, *((AGAIN,) if due.again else mark)))
                if request.candidates:
                    self._empty.pop(user_id, None)
                else:
                    self._empty[user_id] = None
                for domain in () if due.again else self._domains:
                    of_domain = self._tier.request(user_id, due.trigger, due.arrived_ms, (), due.context, domain)
                    messages.append(outgoing_request(self._topic, of_domain, *mark))
            await asyncio.sleep(PAUSE_S if is_later else 0)
            spent_s = time.monotonic() - started
            if started + spent_s > until and (backlog() or not is_later or spent_s > flush_s + self._delivery_s):
                break
        if not await stored:
            return
        delivered_from = time.monotonic()
        await self._producer.deliver(messages)
        self._delivery_s = time.monotonic() - delivered_from
        self._acks.done(answered)

    async def _completed(self, until_s: float) -> tuple[list[Outgoing], list[Any]]:
        """Complete requests for a limited time. Returns the messages to send, and the events that they answer.

        A request that is older than its user's wish to be forgotten is dropped.
        """
        messages: list[Outgoing] = []
        answered: list[Any] = []
        while self.incomplete and len(answered) < MAX_BATCH and time.monotonic() < until_s:
            request, event = self.incomplete.pop(0)
            answered.append(event)
            vectors = await self._tier.requests.vectors_for(request, self._encode)
            if milliseconds(request.as_of) > self._tier.users.forgotten_until(request.user_id):
                record = self._tier.users.get(request.user_id)
                completed = self._tier.requests.complete(request, record.interest, vectors, read(record.shown))
                completed = self._tier.with_wishes(completed)
                messages.append(outgoing_request(self._topic, completed))
            await asyncio.sleep(0)
        return messages, answered
