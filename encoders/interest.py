"""A user's interest state: what the events so far say about the user's taste, in at most 4 KB.

`update` is pure and O(dim) per event. Everything in a state is a function of the *set* of events and does not depend on
the order of their arrival: sums decay by event time, and every bounded list keeps the newest by event time. `recompute`
is the plain reference. Knows neither Kafka nor clocks; `encoders.interest_record` stores a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.events.entries import ENTRY, Entries, Event, are_purchases, entries_of, newest
from encoders.events.responses import NO_SUMS, Sums, with_responses
from encoders.events.searches import Searched, newest_searches, searches_of
from encoders.events.types import (
    DEFAULT_WEIGHTS,
    FULL,
    PURCHASE,
    SEARCH,
    code_of,
    names_by_code,
    weights_by_code,
)
from encoders.events.visits import NO_SLOTS, Slots, with_events
from encoders.events.visits import joined as joined_slots

Vector = npt.NDArray[np.float32]
WAITING = 16
"""Events about items that are not in the catalogue yet, at most; chosen by us: 288 bytes of the 4 KB."""
BOUGHT = 43
"""Purchases remembered beyond the history, at most, so that they are not recommended again; chosen by us: 774 bytes."""


@dataclass(frozen=True)
class Decay:
    """How fast events fade and how much they weigh.

    Attributes
    ----------
    session_half_life_ms, long_half_life_ms : float
        Half-lives of the two sums.
    weights : mapping of str to float
        What an event of each type weighs, in clicks. A type without a weight weighs nothing.
    history : int
        Events in the history, at most.
    """

    session_half_life_ms: float = 30 * 60_000
    long_half_life_ms: float = 30 * 86_400_000
    weights: Mapping[str, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)
    history: int = 50

    def weight(self, event: Event) -> float:
        """Return the weight of an event, in clicks."""
        return self.weights.get(event.type, 0.0) * event.strength / FULL

    def entry_weights(self, entries: Entries) -> Vector:
        """Return the weights of entries, (n,) float32, in clicks."""
        return np.asarray(self._by_code[entries["type"]] * entries["strength"] / np.float32(FULL), np.float32)

    def type_weights(self, entries: Entries) -> Vector:
        """Return what an event of each entry's type weighs, (n,) float32, in clicks."""
        return np.asarray(self._by_code[entries["type"]], np.float32)

    def likes(self, entries: Entries) -> npt.NDArray[np.bool_]:
        """Return which entries say that an item interests the user: no searches, and none of a negative weight."""
        liked: npt.NDArray[np.bool_] = (self.entry_weights(entries) > 0) & (entries["type"] != SEARCH)
        return liked

    @cached_property
    def types(self) -> dict[int, str]:
        """The types that have a weight, by their codes."""
        return names_by_code(self.weights)

    @cached_property
    def _by_code(self) -> Vector:
        return weights_by_code(self.weights)


@dataclass(frozen=True, eq=False)
class Interest:
    """The state of one user. Entries are sorted by their fields, newest last.

    Attributes
    ----------
    session, long : (dim,) float32
        Decayed sums of item vectors as of `as_of_ms`.
    version : int
        Number of accepted events.
    as_of_ms : int
        Newest event time, milliseconds since the epoch.
    history : (<= Decay.history,) ENTRY
        The newest events, about known and unknown items.
    waiting : (<= WAITING,) ENTRY
        Events whose item has no vector yet; they are not in the sums.
    bought : (<= BOUGHT,) ENTRY
        The newest purchases, those that were returned too: their type is `TAKEN_BACK_CODE`.
    searches : tuple of Searched
        The newest searches, at most `MAX_SEARCHES`, newest last.
    slots : (<= MAX_SLOTS,) uint32
        When the user came, see `encoders.events.visits`.
    responses : (FIELDS,) float32
        How the user responds to items, as of `as_of_ms`, see `encoders.events.responses`.
    """

    session: Vector
    long: Vector
    version: int = 0
    as_of_ms: int = 0
    history: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    waiting: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    bought: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    searches: tuple[Searched, ...] = ()
    slots: Slots = field(default_factory=lambda: NO_SLOTS)
    responses: Sums = field(default_factory=lambda: NO_SUMS)

    @property
    def kept_purchases(self) -> Entries:
        """The newest purchases without those that were returned."""
        kept: Entries = self.bought[self.bought["type"] == PURCHASE]
        return kept


def empty(dim: int) -> Interest:
    """Return the state of a user without events."""
    return Interest(session=np.zeros(dim, np.float32), long=np.zeros(dim, np.float32))


def update(state: Interest, event: Event, vector: Vector | None, decay: Decay) -> Interest:
    """Add one event, in O(dim).

    Parameters
    ----------
    state : Interest
    event : Event
    vector : (dim,) float32, optional
        The item's text vector; None while the item is unknown: the event then waits (see `settle`).
    decay : Decay

    Returns
    -------
    Interest
        The new state; the old one is unchanged.

    Notes
    -----
    A sum as of time T is `sum_i w_i 2^(-(T - t_i) / half_life) v_i`. A newer event moves T forward and decays the sum;
    an older one enters decayed. Either way the result is the same.
    """
    return update_all(state, [event], [vector], decay)


def update_all(state: Interest, events: Sequence[Event], vectors: Sequence[Vector | None], decay: Decay) -> Interest:
    """Add several events: the result of one `update` after another, in a fraction of the time.

    A purchase whose type is `TAKEN_BACK` was returned before it arrived.

    Parameters
    ----------
    state : Interest
    events : sequence of Event
    vectors : sequence of (dim,) float32 or None
        For each event, see `update`.
    decay : Decay
    """
    if not events:
        return state
    as_of_ms = max(event.time_ms for event in events)
    moved = _as_of(state, max(state.as_of_ms, as_of_ms) if state.version else as_of_ms, decay)
    entries = entries_of(events)
    counted = [(event, vector) for event, vector in zip(events, vectors, strict=True) if vector is not None]
    session, long = moved.session, moved.long
    if counted:
        weights = [
            [decay.weight(event) * 2.0 ** (-(moved.as_of_ms - event.time_ms) / half_life_ms) for event, _ in counted]
            for half_life_ms in (decay.session_half_life_ms, decay.long_half_life_ms)
        ]
        sums = np.array(weights, np.float32) @ np.array([vector for _, vector in counted])
        session, long = session + sums[0], long + sums[1]
    waiting, bought = state.waiting, state.bought
    if len(counted) < len(events):
        waiting = newest(waiting, entries[[vector is None for vector in vectors]], WAITING)
    if (purchases := are_purchases(entries)).any():
        bought = newest(bought, entries[purchases], BOUGHT)
    return Interest(
        session=session,
        long=long,
        version=state.version + len(events),
        as_of_ms=moved.as_of_ms,
        history=newest(state.history, entries, decay.history),
        waiting=waiting,
        bought=bought,
        searches=newest_searches(state.searches, found) if (found := searches_of(events, vectors)) else state.searches,
        slots=with_events(state.slots, events),
        responses=with_responses(moved.responses, events, moved.as_of_ms, decay.long_half_life_ms),
    )


def passed(state: Interest, time_ms: int, decay: Decay) -> Interest:
    """Count an event that says nothing about items, such as a wish."""
    moved = _as_of(state, max(state.as_of_ms, time_ms) if state.version else time_ms, decay)
    return replace(moved, version=state.version + 1)


def settle(state: Interest, vector_of: Callable[[int], Vector | None], decay: Decay) -> Interest:
    """Add the waiting events whose items have a vector by now to the sums; return the same state if there are none."""
    still_waiting = []
    for entry in state.waiting:
        vector = vector_of(int(entry["item"]))
        if vector is None:
            still_waiting.append(entry)
        else:
            state = add_to_sums(state, _event(entry, decay), vector, decay)
    if len(still_waiting) == len(state.waiting):
        return state
    return replace(state, waiting=np.array(still_waiting, ENTRY))


def join(one: Interest, other: Interest, decay: Decay) -> Interest:
    """Return the state of two users who are one person: what `recompute` makes of the events of both."""
    as_of_ms = max((state.as_of_ms for state in (one, other) if state.version), default=0)
    one, other = _as_of(one, as_of_ms, decay), _as_of(other, as_of_ms, decay)
    return Interest(
        session=one.session + other.session,
        long=one.long + other.long,
        version=one.version + other.version,
        as_of_ms=as_of_ms,
        history=newest(one.history, other.history, decay.history),
        waiting=newest(one.waiting, other.waiting, WAITING),
        bought=newest(one.bought, other.bought, BOUGHT),
        searches=newest_searches(one.searches, other.searches),
        slots=joined_slots(one.slots, other.slots),
        responses=one.responses + other.responses,
    )


def recompute(events: Iterable[Event], vector_of: Callable[[int], Vector | None], decay: Decay, dim: int) -> Interest:
    """Compute the state of these events from scratch, in float64: the plain reference of `update`."""
    ordered = sorted(events, key=lambda e: (e.time_ms, e.item, code_of(e.type), e.strength))
    as_of_ms = ordered[-1].time_ms if ordered else 0
    sums = {decay.session_half_life_ms: np.zeros(dim), decay.long_half_life_ms: np.zeros(dim)}
    for event in ordered:
        vector = vector_of(event.item)
        if vector is not None:
            for half_life_ms, total in sums.items():
                total += decay.weight(event) * 2.0 ** (-(as_of_ms - event.time_ms) / half_life_ms) * vector
    entries = entries_of(ordered)
    unknown = np.array([vector_of(e.item) is None for e in ordered], bool)
    return Interest(
        session=sums[decay.session_half_life_ms].astype(np.float32),
        long=sums[decay.long_half_life_ms].astype(np.float32),
        version=len(ordered),
        as_of_ms=as_of_ms,
        history=entries[-decay.history :],
        waiting=entries[unknown][-WAITING:],
        bought=entries[are_purchases(entries)][-BOUGHT:],
        searches=newest_searches(searches_of(ordered, [vector_of(event.item) for event in ordered])),
        slots=with_events(NO_SLOTS, ordered),
        responses=with_responses(NO_SUMS, ordered, as_of_ms, decay.long_half_life_ms),
    )


def _as_of(state: Interest, as_of_ms: int, decay: Decay) -> Interest:
    """The state at a later time, its sums decayed."""
    elapsed_ms = as_of_ms - state.as_of_ms
    if not elapsed_ms or not state.version:
        return replace(state, as_of_ms=as_of_ms)
    responses = state.responses
    if responses.any():
        responses = responses * np.float32(2.0 ** (-elapsed_ms / decay.long_half_life_ms))
    return replace(
        state,
        as_of_ms=as_of_ms,
        session=state.session * np.float32(2.0 ** (-elapsed_ms / decay.session_half_life_ms)),
        long=state.long * np.float32(2.0 ** (-elapsed_ms / decay.long_half_life_ms)),
        responses=responses,
    )


def add_to_sums(state: Interest, event: Event, vector: Vector, decay: Decay) -> Interest:
    """Return the state with one event more in its sums; it counts as accepted already."""
    weight, age_ms = decay.weight(event), state.as_of_ms - event.time_ms
    return replace(
        state,
        session=state.session + np.float32(weight * 2.0 ** (-age_ms / decay.session_half_life_ms)) * vector,
        long=state.long + np.float32(weight * 2.0 ** (-age_ms / decay.long_half_life_ms)) * vector,
    )


def _event(entry: Any, decay: Decay) -> Event:
    """The event of an entry; one of a type that has no weight any more has no name either, and weighs nothing."""
    type_ = decay.types.get(int(entry["type"]), "")
    return Event(int(entry["item"]), int(entry["time_ms"]), type_, int(entry["strength"]))
