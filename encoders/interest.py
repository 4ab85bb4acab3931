"""A user's interest state: what the events so far say about the user's taste, in at most 4 KB.

`update` is pure and O(dim) per event. Everything in a state is a function of the *set* of events and does not depend on
the order of their arrival: sums decay by event time, and every bounded list keeps the newest by event time. `recompute`
is the plain reference. Knows neither Kafka nor clocks; `encoders.interest_record` stores a state.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Entries = npt.NDArray[Any]
EventType = Literal["click", "purchase"]

ENTRY = np.dtype([("time_ms", "<i8"), ("item", "<u8"), ("type", "u1")])
"""An event in a state; `type` is an index of `TYPES`."""
TYPES: tuple[EventType, ...] = ("click", "purchase")
WAITING = 16
"""Events about items that are not in the catalogue yet, at most; chosen by us: 272 bytes of the 4 KB."""
BOUGHT = 48
"""Purchases remembered beyond the history, at most, so that they are not recommended again; chosen by us: 816 bytes."""


@dataclass(frozen=True)
class Event:
    """One accepted click or purchase.

    Attributes
    ----------
    item : int
        See `item_key`.
    time_ms : int
        Event time, milliseconds since the epoch.
    type : {'click', 'purchase'}
    """

    item: int
    time_ms: int
    type: EventType


@dataclass(frozen=True)
class Decay:
    """How fast events fade and how much they weigh.

    Attributes
    ----------
    session_half_life_ms, long_half_life_ms : float
        Half-lives of the two sums.
    purchase_weight : float
        The weight of a purchase; that of a click is 1.
    history : int
        Events in the history, at most.
    """

    session_half_life_ms: float = 30 * 60_000
    long_half_life_ms: float = 30 * 86_400_000
    purchase_weight: float = 3.0
    history: int = 50

    def weight(self, type_: EventType) -> float:
        """Return the weight of an event of this type."""
        return self.purchase_weight if type_ == "purchase" else 1.0


@dataclass(frozen=True, eq=False)
class Interest:
    """The state of one user. Entries are sorted by `(time_ms, item, type)`, newest last.

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
        The newest purchases.
    """

    session: Vector
    long: Vector
    version: int = 0
    as_of_ms: int = 0
    history: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    waiting: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    bought: Entries = field(default_factory=lambda: np.empty(0, ENTRY))


def item_key(item_id: str) -> int:
    """Return the 64-bit key of an item id, so that the size of a state does not depend on the length of ids.

    Two of a million items share a key with probability 3e-8.
    """
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


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
    entry = entries_of([event])
    moved = _as_of(state, max(state.as_of_ms, event.time_ms) if state.version else event.time_ms, decay)
    counted = replace(
        moved,
        version=state.version + 1,
        history=newest(state.history, entry, decay.history),
        bought=newest(state.bought, entry, BOUGHT) if event.type == "purchase" else state.bought,
    )
    if vector is None:
        return replace(counted, waiting=newest(state.waiting, entry, WAITING))
    return _add(counted, event, vector, decay)


def update_all(state: Interest, events: Sequence[Event], vectors: Sequence[Vector | None], decay: Decay) -> Interest:
    """Add several events: the result of one `update` after another, in a fraction of the time.

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
            [
                decay.weight(event.type) * 2.0 ** (-(moved.as_of_ms - event.time_ms) / half_life_ms)
                for event, _ in counted
            ]
            for half_life_ms in (decay.session_half_life_ms, decay.long_half_life_ms)
        ]
        sums = np.array(weights, np.float32) @ np.array([vector for _, vector in counted])
        session, long = session + sums[0], long + sums[1]
    waiting, bought = state.waiting, state.bought
    if len(counted) < len(events):
        waiting = newest(waiting, entries[[vector is None for vector in vectors]], WAITING)
    if (purchases := entries["type"] == TYPES.index("purchase")).any():
        bought = newest(bought, entries[purchases], BOUGHT)
    return Interest(
        session=session,
        long=long,
        version=state.version + len(events),
        as_of_ms=moved.as_of_ms,
        history=newest(state.history, entries, decay.history),
        waiting=waiting,
        bought=bought,
    )


def settle(state: Interest, vector_of: Callable[[int], Vector | None], decay: Decay) -> Interest:
    """Add the waiting events whose items have a vector by now to the sums; return the same state if there are none."""
    still_waiting = []
    for entry in state.waiting:
        vector = vector_of(int(entry["item"]))
        if vector is None:
            still_waiting.append(entry)
        else:
            state = _add(state, _event(entry), vector, decay)
    if len(still_waiting) == len(state.waiting):
        return state
    return replace(state, waiting=np.array(still_waiting, ENTRY))


def recompute(events: Iterable[Event], vector_of: Callable[[int], Vector | None], decay: Decay, dim: int) -> Interest:
    """Compute the state of these events from scratch, in float64: the plain reference of `update`."""
    ordered = sorted(events, key=lambda e: (e.time_ms, e.item, TYPES.index(e.type)))
    as_of_ms = ordered[-1].time_ms if ordered else 0
    sums = {decay.session_half_life_ms: np.zeros(dim), decay.long_half_life_ms: np.zeros(dim)}
    for event in ordered:
        vector = vector_of(event.item)
        if vector is not None:
            for half_life_ms, total in sums.items():
                total += decay.weight(event.type) * 2.0 ** (-(as_of_ms - event.time_ms) / half_life_ms) * vector
    entries = entries_of(ordered)
    unknown = np.array([vector_of(e.item) is None for e in ordered], bool)
    return Interest(
        session=sums[decay.session_half_life_ms].astype(np.float32),
        long=sums[decay.long_half_life_ms].astype(np.float32),
        version=len(ordered),
        as_of_ms=as_of_ms,
        history=entries[-decay.history :],
        waiting=entries[unknown][-WAITING:],
        bought=entries[entries["type"] == TYPES.index("purchase")][-BOUGHT:],
    )


def _as_of(state: Interest, as_of_ms: int, decay: Decay) -> Interest:
    """The state at a later time, its sums decayed."""
    elapsed_ms = as_of_ms - state.as_of_ms
    if not elapsed_ms or not state.version:
        return replace(state, as_of_ms=as_of_ms)
    return replace(
        state,
        as_of_ms=as_of_ms,
        session=state.session * np.float32(2.0 ** (-elapsed_ms / decay.session_half_life_ms)),
        long=state.long * np.float32(2.0 ** (-elapsed_ms / decay.long_half_life_ms)),
    )


def _add(state: Interest, event: Event, vector: Vector, decay: Decay) -> Interest:
    """The state with one event more in its sums."""
    weight, age_ms = decay.weight(event.type), state.as_of_ms - event.time_ms
    return replace(
        state,
        session=state.session + np.float32(weight * 2.0 ** (-age_ms / decay.session_half_life_ms)) * vector,
        long=state.long + np.float32(weight * 2.0 ** (-age_ms / decay.long_half_life_ms)) * vector,
    )


def entries_of(events: Iterable[Event]) -> Entries:
    """Return the events as an array, (n,) `ENTRY`."""
    return np.array([(event.time_ms, event.item, TYPES.index(event.type)) for event in events], ENTRY)


def in_order(entries: Entries, new: Entries) -> bool:
    """Return whether the new entries come after the others and are sorted themselves."""
    recent = [*entries[-1:].tolist(), *new.tolist()]
    return all(earlier <= later for earlier, later in itertools.pairwise(recent))


def newest(entries: Entries, new: Entries, limit: int) -> Entries:
    """Return the newest of both by `(time_ms, item, type)`, sorted; `entries` must be sorted."""
    merged = np.concatenate([entries, new])
    if not in_order(entries, new):
        merged = np.sort(merged, order=("time_ms", "item", "type"))
    return merged[-limit:]


def _event(entry: Any) -> Event:
    return Event(item=int(entry["item"]), time_ms=int(entry["time_ms"]), type=TYPES[int(entry["type"])])
