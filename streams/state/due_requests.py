"""Step 3 on Kafka: one rank request for each user who needs a new list, however many events made it necessary.

The events that a request answers are acknowledged once the request is out. Knows nothing of how states change.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from streams.contracts import Feedback, Trigger
from streams.kafka.acks import InOrder
from streams.kafka.message_size import outgoing_request
from streams.kafka.reliable_producer import ReliableProducer
from streams.state.tier import StateTier

MAX_BATCH = 64
SLICE_S = 0.05
"""How long requests are made between two flushes. Chosen by us: longer than a few requests take, too short to be
noticed."""
PATIENCE_S = 2.0
"""How long a user waits until requests get more time. Chosen by us: under a backlog events go first, because the more
events a request answers, the fewer requests there are to make; but a user who waits longer has left the page."""


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
    events : list of faust.Event
        The events that the request will answer.
    since : float
        When the user began to wait, in seconds of the monotonic clock.
    """

    trigger: Trigger | None = None
    arrived_ms: int | None = None
    feedback: list[Feedback] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def merge(self, newer: DueRequest) -> None:
        """Let one request answer both."""
        self.events.extend(newer.events)
        self.feedback.extend(newer.feedback)
        if newer.trigger is not None:
            self.trigger, self.arrived_ms = newer.trigger, newer.arrived_ms


class DueRequests:
    """The users with durable states who wait for a request; the user who has waited longest comes first.

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
    """

    def __init__(self, tier: StateTier, producer: ReliableProducer, topic: str, acks: InOrder) -> None:
        self._tier = tier
        self._producer = producer
        self._topic = topic
        self._acks = acks
        self._pending: dict[str, DueRequest] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, user_id: str, newer: DueRequest) -> None:
        """Queue a request for a user whose state is durable."""
        self._pending.setdefault(user_id, DueRequest()).merge(newer)

    def forget(self, user_id: str) -> list[Any]:
        """Remove the user. Returns the events that the request would have answered."""
        return self._pending.pop(user_id, DueRequest()).events

    def clear(self) -> None:
        """Remove all users: another worker holds them now."""
        self._pending = {}

    async def send(self, flush_s: float) -> None:
        """Make requests for a limited time, send them, and acknowledge the events that they answer.

        One recall takes milliseconds, so the event loop gets a turn after each. Under a backlog, where a flush is long,
        requests get a small share of the time. Once a user has waited longer than `PATIENCE_S`, they get a quarter.

        Parameters
        ----------
        flush_s : float
            How long the flush before took, in seconds.

        Raises
        ------
        MembershipLost
            Another worker holds the users now. Nothing was acknowledged.
        """
        started = time.monotonic()
        longest_wait_s = max((started - request.since for request in islice(self._pending.values(), 1)), default=0.0)
        until = started + (max(SLICE_S, flush_s / 3) if longest_wait_s > PATIENCE_S else SLICE_S)
        messages, answered = [], []
        for user_id in list(islice(self._pending, MAX_BATCH)):
            pending = self._pending.pop(user_id, None)
            if pending is None:  # the user was forgotten meanwhile
                continue
            answered.extend(pending.events)
            if self._tier.users.get(user_id).interest.version:  # else the user was forgotten meanwhile
                request = self._tier.request(user_id, pending.trigger, pending.arrived_ms, pending.feedback)
                messages.append(outgoing_request(self._topic, request))
            await asyncio.sleep(0)
            if time.monotonic() > until:
                break
        await self._producer.deliver(messages)
        self._acks.done(answered)
