"""The users who wait for a list, in the order of their waiting, each with the newest request alone.

Knows neither Kafka nor models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, NamedTuple

import msgspec

from streams import metrics
from streams.contracts import RankRequest
from streams.kafka.outgoing import Outgoing

MAX_OVERDUE = 256
"""Overdue requests that are taken at once, so that publishing goes on."""


@dataclass
class PendingRequest:
    """A user's newest request.

    Attributes
    ----------
    user_id : str
        The user whose list is to be made.
    request : RankRequest, optional
        None for a user who is to be forgotten.
    events : list
        The Kafka events that the list will answer: of this request, and of older ones that it replaced.
    since_s : float
        Monotonic time from which the user has been waiting.
    """

    user_id: str
    request: RankRequest | None
    events: list[Any] = field(default_factory=list)
    since_s: float = field(default_factory=time.monotonic)


class RejectedRequest(NamedTuple):
    """A message that is no rank request: the dead letter to be sent, and the Kafka event."""

    dead_letter: Outgoing
    event: Any


class RequestQueue:
    """Requests between their arrival and the batch that they are ranked in.

    Parameters
    ----------
    max_wait_s : float
        A request that has been waiting longer is overdue.
    variant_of : callable
        User id -> the number of the variant that makes the user's lists.
    """

    def __init__(self, max_wait_s: float, variant_of: Callable[[str], int]) -> None:
        self._max_wait_s = max_wait_s
        self._variant_of = variant_of
        self._pending: dict[str, PendingRequest] = {}
        self._rejected: list[RejectedRequest] = []

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, user_id: str, request: RankRequest | None, event: Any) -> None:
        """Add a request. It replaces an older one of the user, and keeps its place in the queue and its feedback."""
        newer = PendingRequest(user_id, request)
        older = self._pending.get(user_id)
        if older is not None:
            metrics.requests_superseded.inc()
            newer.events, newer.since_s = older.events, older.since_s
            if older.request and request and older.request.feedback:
                feedback = [*older.request.feedback, *request.feedback]
                newer.request = msgspec.structs.replace(request, feedback=feedback)
        newer.events.append(event)
        self._pending[user_id] = newer

    def reject(self, rejected: RejectedRequest) -> None:
        """Add a dead letter."""
        self._rejected.append(rejected)

    def take_rejected(self) -> list[RejectedRequest]:
        """Remove and return all dead letters."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def take_overdue(self) -> list[PendingRequest]:
        """Remove and return the requests that have been waiting too long, at most `MAX_OVERDUE`."""
        oldest_s = time.monotonic() - self._max_wait_s
        overdue = takewhile(lambda user_id: self._pending[user_id].since_s < oldest_s, self._pending)
        return [self._pending.pop(user_id) for user_id in list(islice(overdue, MAX_OVERDUE))]

    def next_variant(self) -> int:
        """The variant of the user who has been waiting longest; 0 if nobody waits."""
        return next((self._variant_of(user_id) for user_id in self._pending), 0)

    def take_batch(self, variant: int, limit: int) -> list[PendingRequest]:
        """Remove and return the oldest requests of one variant's users, at most `limit`.

        A batch is of one variant alone, so that a model that fails or is slow does no harm to the other's users.
        """
        users = (user_id for user_id in self._pending if self._variant_of(user_id) == variant)
        batch = [self._pending.pop(user_id) for user_id in list(islice(users, limit))]
        metrics.requests_pending.set(len(self._pending))
        return batch

    def drop(self, partitions: Collection[Any]) -> None:
        """Remove the requests that came from these partitions."""
        for user_id, pending in list(self._pending.items()):
            if any(event.message.tp in partitions for event in pending.events):
                del self._pending[user_id]
