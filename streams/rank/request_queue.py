"""Who waits for a list, in the order of waiting: of each user and placement the newest request alone.

Knows neither Kafka nor models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from typing import Any, NamedTuple

import msgspec

from streams import metrics
from streams.contracts import RankRequest
from streams.kafka.outgoing import Outgoing

_FORGET = ""
"""In place of a placement: the user is to be forgotten."""
_Slot = tuple[str, str | None]
"""User id and placement."""
MAX_OVERDUE = 256
"""Overdue requests that are taken at once, so that publishing goes on."""
MAX_HURRIED = 256
"""Requests that go out without the model to make room for others; chosen by us: some 100 ms of publishing."""


@dataclass
class PendingRequest:
    """A user's newest request for one placement, or the wish to forget the user.

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
    until_s : float
        Monotonic time before which no batch gets it.
    again : bool
        The user has this list already, made without the model. A batch gets such requests if it would be empty.
    later : bool
        Nobody waits for the list. A batch gets such requests before those of `again`.
    """

    user_id: str
    request: RankRequest | None
    events: list[Any] = field(default_factory=list)
    since_s: float = field(default_factory=time.monotonic)
    until_s: float = 0.0
    again: bool = False
    later: bool = False

    @property
    def placement(self) -> str | None:
        """Where the list will be shown."""
        return None if self.request is None else self.request.placement


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
    placements : sequence of str
        Those that a request may name.
    """

    def __init__(self, max_wait_s: float, variant_of: Callable[[str], int], placements: Sequence[str] = ()) -> None:
        self._max_wait_s = max_wait_s
        self._variant_of = variant_of
        self._of_user = (None, *placements, _FORGET)
        self._pending: dict[_Slot, PendingRequest] = {}
        self._later: dict[_Slot, PendingRequest] = {}
        self._hurried: dict[_Slot, PendingRequest] = {}
        self._again: dict[_Slot, PendingRequest] = {}
        self._all = (self._pending, self._later, self._hurried, self._again)  # a slot is in one of them
        self._rejected: list[RejectedRequest] = []
        metrics.requests_pending.set_function(self.__len__)

    def __len__(self) -> int:
        return len(self._pending) + len(self._later) + len(self._hurried)

    @property
    def awaited(self) -> int:
        """How many of the requests somebody waits for."""
        return len(self._pending)

    def put(
        self, user_id: str, request: RankRequest | None, event: Any, until_s: float = 0.0, *, later: bool = False
    ) -> None:
        """Add a request. It replaces an older one, and keeps its position in the queue and its feedback.

        A request replaces that of the same user and placement. None, which forgets the user, replaces all of the user.
        Before the monotonic time `until_s` no batch gets it, because a completed request may replace it. For one that
        comes `later` nobody waits, unless it replaces one that somebody waits for.
        """
        slot: _Slot = (user_id, _FORGET if request is None else request.placement)
        is_waiting = slot in self._pending or (user_id, _FORGET) in self._pending
        newer = PendingRequest(user_id, request, until_s=until_s, later=later and not is_waiting)
        target = self._later if newer.later else self._pending
        for other in [slot] if request else [(user_id, name) for name in self._of_user]:
            for requests in self._all:
                keeps_place = requests is target and other == slot
                older = requests.get(other) if keeps_place else requests.pop(other, None)
                if older is not None:
                    self._replace(older, newer)
        newer.events.append(event)
        target[slot] = newer

    def _replace(self, older: PendingRequest, newer: PendingRequest) -> None:
        """Have the newer request answer the older one's events too."""
        newer.events = [*older.events, *newer.events]
        if older.again:
            return
        metrics.requests_superseded.inc()
        if older.later == newer.later:
            newer.since_s = min(newer.since_s, older.since_s)
        if older.request and newer.request and older.request.feedback:
            feedback = [*older.request.feedback, *newer.request.feedback]
            newer.request = msgspec.structs.replace(newer.request, feedback=feedback)

    def put_again(self, request: RankRequest, events: Sequence[Any]) -> None:
        """Add a request for a list that is to be ranked again. A user who waits for a list has no need of it.

        Parameters
        ----------
        request : RankRequest
            As new as the list that the user has.
        events : sequence
            The Kafka event that it came in, if it came from Kafka.
        """
        slot: _Slot = (request.user_id, request.placement)
        slots = (slot, (request.user_id, _FORGET))
        waiting = next((queued[one] for queued in self._all[:-1] for one in slots if one in queued), None)
        if waiting is not None:
            waiting.events[:0] = events
            return
        older = self._again.get(slot)
        merged = [*(older.events if older else []), *events]
        self._again[slot] = PendingRequest(request.user_id, request, merged, again=True)

    def reject(self, rejected: RejectedRequest) -> None:
        """Add a dead letter."""
        self._rejected.append(rejected)

    def take_rejected(self) -> list[RejectedRequest]:
        """Remove and return all dead letters."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def take_overdue(self) -> list[PendingRequest]:
        """Remove and return the hurried requests, and those that have been waiting too long, at most `MAX_OVERDUE`."""
        oldest_s = time.monotonic() - self._max_wait_s
        overdue = takewhile(lambda slot: self._pending[slot].since_s < oldest_s, self._pending)
        hurried = [self._hurried.pop(slot) for slot in list(self._hurried)]
        return [*hurried, *(self._pending.pop(slot) for slot in list(islice(overdue, MAX_OVERDUE)))]

    def hurry(self) -> None:
        """Have the oldest requests that nobody waits for, at most `MAX_HURRIED`, taken as if they were overdue.

        The worker is full, and requests that somebody waits for may be behind them.
        """
        self._hurried.update({slot: self._later.pop(slot) for slot in list(islice(self._later, MAX_HURRIED))})

    def take_stale(self) -> list[PendingRequest]:
        """Remove and return the requests for lists to be ranked again for which there was no time."""
        oldest_s = time.monotonic() - self._max_wait_s
        return [self._again.pop(slot) for slot, one in list(self._again.items()) if one.since_s < oldest_s]

    def anyone_waits(self) -> bool:
        """Whether a batch would get requests of users who wait for a list."""
        return next(self._ripe(), None) is not None

    def next_variant(self) -> int:
        """The variant of the user who has been waiting longest; 0 if there is no request."""
        return next((self._variant_of(user_id) for user_id, _ in chain(self._ripe(), self._later, self._again)), 0)

    def take_batch(self, variant: int, limit: int) -> list[PendingRequest]:
        """Remove and return the oldest requests of one variant's users, at most `limit`.

        A batch is of one variant alone, so that a model that fails or is slow does no harm to the other's users. If no
        user waits, the requests are those that nobody waits for, and then those for lists to be ranked again.
        """
        if self.anyone_waits():
            requests, slots = self._pending, self._ripe()
        else:
            requests = self._later or self._again
            slots = iter(requests)
        of_variant = (slot for slot in slots if self._variant_of(slot[0]) == variant)
        return [requests.pop(slot) for slot in list(islice(of_variant, limit))]

    def _ripe(self) -> Iterator[_Slot]:
        now_s = time.monotonic()
        return (slot for slot, pending in self._pending.items() if pending.until_s <= now_s)

    def drop(self, partitions: Collection[Any]) -> None:
        """Remove the requests that came from these partitions."""
        for requests in self._all:
            for slot, pending in list(requests.items()):
                if any(event.message.tp in partitions for event in pending.events):
                    del requests[slot]
