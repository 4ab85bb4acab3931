"""A user's interest state: what the events so far say about taste, in at most 4 KB.

`update` is pure and O(dim) per event. Everything in a state is a function of the *set* of events, not of the order in
which they arrived: sums decay by event time, and every bounded list keeps the newest by event time. `recompute` is the
plain reference. Knows neither Kafka nor clocks; called by `streams.state.tier`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from encoders.errors import AfterclickError

Vector = npt.NDArray[np.float32]
Entries = npt.NDArray[Any]
EventType = Literal["click", "purchase"]

ENTRY = np.dtype([("time_ms", "<i8"), ("item", "<u8"), ("type", "u1")])
TYPES: tuple[EventType, ...] = ("click", "purchase")
WAITING = 16
"""Events kept about items that are not in the catalogue yet; chosen by us: 272 bytes of the 4 KB."""
BOUGHT = 48
"""Purchases remembered beyond the history, so that they are not recommended again; chosen by us: 816 bytes."""
MOST_SCALE = 1e30
"""Of a stored sum; chosen by us: far beyond any, and times 32767 still a float32."""
SCHEMA = 1


class StateUnreadable(AfterclickError):
    """A stored state that this program cannot read: a newer one wrote it, or it is damaged."""


@dataclass(frozen=True)
class Event:
    """One accepted click or purchase, as the state sees it."""

    item: int
    time_ms: int
    type: EventType


@dataclass(frozen=True)
class Decay:
    """How fast and how much: half-lives in milliseconds, the weight of a purchase in clicks, history length."""

    session_half_life_ms: float = 30 * 60_000
    long_half_life_ms: float = 30 * 86_400_000
    purchase_weight: float = 3.0
    history: int = 50

    def weight(self, type_: EventType) -> float:
        return self.purchase_weight if type_ == "purchase" else 1.0


@dataclass(frozen=True, eq=False)
class Interest:
    """The state. Entries are sorted by `(time_ms, item, type)`, newest last.

    Attributes
    ----------
    version : number of accepted events.
    as_of_ms : newest event time, milliseconds since the epoch.
    session, long : (dim,) float32, decayed sums of item vectors as of `as_of_ms`.
    history : (<= 50,) `ENTRY`, the newest events, about known and unknown items alike.
    waiting : (<= 16,) `ENTRY`, events whose item has no vector yet; not in the sums.
    bought : (<= 48,) `ENTRY`, the newest purchases.
    """

    session: Vector
    long: Vector
    version: int = 0
    as_of_ms: int = 0
    history: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    waiting: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    bought: Entries = field(default_factory=lambda: np.empty(0, ENTRY))


def item_key(item_id: str) -> int:
    """64-bit key of an item id, so that a state's size does not depend on how long ids are.

    Two of a million items share a key with probability 3e-8.
    """
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


def empty(dim: int) -> Interest:
    """The state of a user nobody has seen."""
    return Interest(session=np.zeros(dim, np.float32), long=np.zeros(dim, np.float32))


def update(state: Interest, event: Event, vector: Vector | None, decay: Decay) -> Interest:
    """Take one event in: O(dim).

    Parameters
    ----------
    vector : (dim,) float32, the item's text vector; None while the item is unknown: the event then waits (see
    `settle`).

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
    """Take several events in: what `update` gives for one after another, in a fraction of the time.

    Parameters
    ----------
    vectors : of each event's item; see `update`.
    """
    if not events:
        return state
    as_of_ms = max(event.time_ms for event in events)
    moved = _as_of(state, max(state.as_of_ms, as_of_ms) if state.version else as_of_ms, decay)
    entries = entries_of(events)
    known = [(event, vector) for event, vector in zip(events, vectors, strict=True) if vector is not None]
    session, long = moved.session, moved.long
    if known:
        weights = [
            [decay.weight(event.type) * 2.0 ** (-(moved.as_of_ms - event.time_ms) / half_life_ms) for event, _ in known]
            for half_life_ms in (decay.session_half_life_ms, decay.long_half_life_ms)
        ]
        sums = np.array(weights, np.float32) @ np.array([vector for _, vector in known])
        session, long = session + sums[0], long + sums[1]
    waiting, bought = state.waiting, state.bought
    if len(known) < len(events):
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
    """Count the waiting events whose items are known by now; the same state if there are none."""
    still = []
    for entry in state.waiting:
        vector = vector_of(int(entry["item"]))
        if vector is None:
            still.append(entry)
        else:
            state = _add(state, _event(entry), vector, decay)
    if len(still) == len(state.waiting):
        return state
    return replace(state, waiting=np.array(still, ENTRY))


def recompute(events: Iterable[Event], vector_of: Callable[[int], Vector | None], decay: Decay, dim: int) -> Interest:
    """The plain reference of `update`: every sum from scratch, in float64."""
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
    weight, age_ms = decay.weight(event.type), state.as_of_ms - event.time_ms
    return replace(
        state,
        session=state.session + np.float32(weight * 2.0 ** (-age_ms / decay.session_half_life_ms)) * vector,
        long=state.long + np.float32(weight * 2.0 ** (-age_ms / decay.long_half_life_ms)) * vector,
    )


def entries_of(events: Iterable[Event]) -> Entries:
    """(n,) `ENTRY`, one per event."""
    return np.array([(event.time_ms, event.item, TYPES.index(event.type)) for event in events], ENTRY)


def in_order(entries: Entries, new: Entries) -> bool:
    """Whether the new ones come after the entries, each after the one before it."""
    recent = [*entries[-1:].tolist(), *new.tolist()]
    return all(earlier <= later for earlier, later in itertools.pairwise(recent))


def newest(entries: Entries, new: Entries, limit: int) -> Entries:
    """The newest of both by `(time_ms, item, type)`, in this order; `entries` are in it already."""
    together = np.concatenate([entries, new])
    if not in_order(entries, new):
        together = np.sort(together, order=("time_ms", "item", "type"))
    return together[-limit:]


def _event(entry: Any) -> Event:
    return Event(item=int(entry["item"]), time_ms=int(entry["time_ms"]), type=TYPES[int(entry["type"])])


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    schema: int
    version: int
    as_of_ms: int
    session_scale: float
    session: bytes
    long_scale: float
    long: bytes
    history: bytes
    waiting: bytes
    bought: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


def encode(state: Interest) -> bytes:
    """Serialise: sums as int16 with one scale each (error <= 2^-16 of the largest component), entries as they are."""
    session_scale, session = _quantise(state.session)
    long_scale, long = _quantise(state.long)
    return _encoder.encode(
        _Wire(
            SCHEMA,
            state.version,
            state.as_of_ms,
            session_scale,
            session,
            long_scale,
            long,
            state.history.tobytes(),
            state.waiting.tobytes(),
            state.bought.tobytes(),
        )
    )


def decode(data: bytes) -> Interest:
    """Read what `encode` wrote.

    Raises
    ------
    StateUnreadable
        A newer version of this program wrote it, or it is damaged.
    """
    try:
        wire = _decoder.decode(data)
        if wire.schema > SCHEMA:
            raise StateUnreadable(
                f"user state: got schema {wire.schema}, expected at most {SCHEMA}; a newer worker wrote it: upgrade "
                "this one"
            )
        if not (abs(wire.session_scale) < MOST_SCALE and abs(wire.long_scale) < MOST_SCALE):
            raise ValueError("sums that are no numbers")
        state = Interest(
            session=np.frombuffer(wire.session, "<i2").astype(np.float32) * np.float32(wire.session_scale),
            long=np.frombuffer(wire.long, "<i2").astype(np.float32) * np.float32(wire.long_scale),
            version=wire.version,
            as_of_ms=wire.as_of_ms,
            history=np.frombuffer(wire.history, ENTRY),
            waiting=np.frombuffer(wire.waiting, ENTRY),
            bought=np.frombuffer(wire.bought, ENTRY),
        )
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StateUnreadable(f"user state: got {error}, expected a state; restore the changelog topic") from error
    if any((entries["type"] >= len(TYPES)).any() for entries in (state.history, state.waiting, state.bought)):
        raise StateUnreadable("user state: got an unknown type of event; a newer worker wrote it: upgrade this one")
    return state


def is_waiting(data: bytes) -> bool:
    """Whether the state that `encode` wrote has events about unknown items; a tenth of the work of `decode`."""
    return bool(_decoder.decode(data).waiting)


def _quantise(vector: Vector) -> tuple[float, bytes]:
    """The vector as int16 and their scale; a sum that faded until its scale is no normal float32 any more is zero."""
    scale = float(np.abs(vector).max(initial=0.0)) / 32767
    if scale < np.finfo(np.float32).tiny:
        return 0.0, np.zeros(len(vector), "<i2").tobytes()
    return scale, np.rint(vector / np.float32(scale)).astype("<i2").tobytes()
