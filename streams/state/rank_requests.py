"""Step 3 on Kafka: who needs a new list, and one rank request for each, however many events made it necessary.

Called by `state_worker` after each flush; the events that a request answers are acknowledged once it is out.
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

MOST_AT_ONCE = 64
SLICE_S = 0.05
"""Chosen by us: longer than a few requests take, shorter than anybody notices."""
PATIENCE_S = 2.0
"""Chosen by us: a backlog's events go first, for the more of them a request answers, the fewer there are to make; but
a shopper who waits longer than this has left the page."""


@dataclass
class PendingRequest:
    """A user who needs a new list, why (the newest event), and the events that the request will answer."""

    trigger: Trigger | None = None
    arrived_ms: int | None = None
    feedback: list[Feedback] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, newer: PendingRequest) -> None:
        """One request will answer both."""
        self.events.extend(newer.events)
        self.feedback.extend(newer.feedback)
        if newer.trigger is not None:
            self.trigger, self.arrived_ms = newer.trigger, newer.arrived_ms


class RequestQueue:
    """The users who wait for a request, first who has waited longest.

    Parameters
    ----------
    topic : full name of the topic that requests go to.
    acks : told which events are answered.
    """

    def __init__(self, tier: StateTier, producer: ReliableProducer, topic: str, acks: InOrder) -> None:
        self._tier = tier
        self._producer = producer
        self._topic = topic
        self._acks = acks
        self._wanted: dict[str, PendingRequest] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, user_id: str, newer: PendingRequest) -> None:
        """The user's state is durable, so a request may go out."""
        self._wanted.setdefault(user_id, PendingRequest()).add(newer)

    def forget(self, user_id: str) -> list[Any]:
        """Make no request for the user. Returns the events that it would have answered."""
        return self._wanted.pop(user_id, PendingRequest()).events

    def drop(self) -> None:
        """All users are somebody else's now."""
        self._wanted = {}

    async def send(self, flush_s: float) -> None:
        """Make requests for a while and get them out.

        Recall takes milliseconds. Events get what time they need in between, so under a backlog, where a flush is long,
        requests get a small share; once somebody has waited too long, a quarter of the time.
        """
        started = time.monotonic()
        longest = max((started - wanted.since for wanted in islice(self._wanted.values(), 1)), default=0.0)
        until = started + (max(SLICE_S, flush_s / 3) if longest > PATIENCE_S else SLICE_S)
        messages, answered = [], []
        for user_id in list(islice(self._wanted, MOST_AT_ONCE)):
            wanted = self._wanted.pop(user_id, None)
            if wanted is None:  # forgotten meanwhile
                continue
            answered.extend(wanted.events)
            if self._tier.users.get(user_id).interest.version:  # else forgotten meanwhile
                request = self._tier.request(user_id, wanted.trigger, wanted.arrived_ms, wanted.feedback)
                messages.append(outgoing_request(self._topic, request))
            await asyncio.sleep(0)
            if time.monotonic() > until:
                break
        await self._producer.deliver(messages)
        self._acks.done(answered)
