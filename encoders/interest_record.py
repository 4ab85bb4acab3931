"""The stored form of an interest state: at most 4 KB of MessagePack, and 0.7 KB more for each search.

A sum is stored as int16 with one scale, the time of an entry in 6 of its 8 bytes. Knows no store and no transport.
"""

from __future__ import annotations

import msgspec
import numpy as np

from encoders.errors import AfterclickError
from encoders.events.entries import ENTRY, Entries
from encoders.events.responses import FIELDS, NO_SUMS, Sums
from encoders.events.searches import Searched
from encoders.interest import Interest, Vector

MAX_SCALE = 1e30
"""Of a stored sum; chosen by us: far beyond any real sum, and 32767 times it is still a float32."""
MAX_DIM = 65_536
"""Of a stored sum of zeros; chosen by us: beyond any encoder."""
SCHEMA = 3
"""In schema 1 an event had no strength, in schema 2 a state had no visits."""
_TIME_BYTES = 6
"""Of a time in milliseconds since 1970: until the year 10889."""


class StateUnreadable(AfterclickError):
    """A stored state that this program cannot read: a newer program wrote it, or it is damaged."""


class _InterestWire(msgspec.Struct, array_like=True, frozen=True):
    schema: int
    version: int
    as_of_ms: int
    session_scale: float
    session: bytes | int
    long_scale: float
    long: bytes | int
    history: bytes
    waiting: bytes
    bought: bytes
    slots: bytes
    responses: bytes
    searches: list[Searched] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_InterestWire)


def encode(state: Interest) -> bytes:
    """Serialise a state. The error of a sum is at most 2^-16 of its largest component."""
    session_scale, session = _quantise(state.session)
    long_scale, long = _quantise(state.long)
    return _encoder.encode(
        _InterestWire(
            SCHEMA,
            state.version,
            state.as_of_ms,
            session_scale,
            session,
            long_scale,
            long,
            _packed(state.history),
            _packed(state.waiting),
            _packed(state.bought),
            state.slots.astype("<u4").tobytes(),
            state.responses.astype("<f4").tobytes() if state.responses.any() else b"",
            list(state.searches),
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
        if wire.schema != SCHEMA:
            raise StateUnreadable(
                f"user state: got schema {wire.schema}, expected {SCHEMA}; a newer worker wrote it: upgrade this one"
            )
        if not (abs(wire.session_scale) < MAX_SCALE and abs(wire.long_scale) < MAX_SCALE):
            raise ValueError("sums that are NaN or too large")
        state = Interest(
            session=_sum(wire.session, wire.session_scale),
            long=_sum(wire.long, wire.long_scale),
            version=wire.version,
            as_of_ms=wire.as_of_ms,
            history=_unpacked(wire.history),
            waiting=_unpacked(wire.waiting),
            bought=_unpacked(wire.bought),
            searches=tuple(wire.searches),
            slots=np.frombuffer(wire.slots, "<u4").astype(np.uint32),
            responses=_responses(wire.responses),
        )
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StateUnreadable(f"user state: got {error}, expected a state; restore the changelog topic") from error
    return state


def has_waiting_events(data: bytes) -> bool:
    """Return whether a stored state has events about unknown items; a tenth of the work of `decode`."""
    return bool(_decoder.decode(data).waiting)


def _quantise(vector: Vector) -> tuple[float, bytes | int]:
    """The scale and the int16 of a vector. A sum whose scale has faded below a normal float32 becomes zero.

    Of zeros the number is enough.
    """
    scale = float(np.abs(vector).max(initial=0.0)) / 32767
    if scale < np.finfo(np.float32).tiny:
        return 0.0, len(vector)
    return scale, np.rint(vector / np.float32(scale)).astype("<i2").tobytes()


def _sum(stored: bytes | int, scale: float) -> Vector:
    if isinstance(stored, int):
        if not 0 <= stored <= MAX_DIM:
            raise ValueError(f"a sum of {stored} numbers")
        return np.zeros(stored, np.float32)
    return np.frombuffer(stored, "<i2").astype(np.float32) * np.float32(scale)


def _packed(entries: Entries) -> bytes:
    rows = entries.view(np.uint8).reshape(-1, ENTRY.itemsize)
    return np.concatenate([rows[:, :_TIME_BYTES], rows[:, 8:]], axis=1).tobytes()


def _unpacked(stored: bytes) -> Entries:
    packed = np.frombuffer(stored, np.uint8).reshape(-1, ENTRY.itemsize - 8 + _TIME_BYTES)
    rows = np.zeros((len(packed), ENTRY.itemsize), np.uint8)
    rows[:, :_TIME_BYTES], rows[:, 8:] = packed[:, :_TIME_BYTES], packed[:, _TIME_BYTES:]
    return rows.reshape(-1).view(ENTRY)


def _responses(stored: bytes) -> Sums:
    sums = np.frombuffer(stored, "<f4").astype(np.float32) if stored else NO_SUMS
    if len(sums) != FIELDS or not np.isfinite(sums).all():
        raise ValueError("sums of responses that are none")
    return sums
