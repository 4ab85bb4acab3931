"""The stored form of an interest state: at most 4 KB of MessagePack.

A sum is stored as int16 with one scale, the entries as they are in memory. Knows no store and no transport.
"""

from __future__ import annotations

import msgspec
import numpy as np

from encoders.errors import AfterclickError
from encoders.interest import ENTRY, TYPES, Interest, Vector

MAX_SCALE = 1e30
"""Of a stored sum; chosen by us: far beyond any real sum, and 32767 times it is still a float32."""
SCHEMA = 1


class StateUnreadable(AfterclickError):
    """A stored state that this program cannot read: a newer program wrote it, or it is damaged."""


class _InterestWire(msgspec.Struct, array_like=True, frozen=True):
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
        if not (abs(wire.session_scale) < MAX_SCALE and abs(wire.long_scale) < MAX_SCALE):
            raise ValueError("sums that are NaN or too large")
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


def has_waiting_events(data: bytes) -> bool:
    """Return whether a stored state has events about unknown items; a tenth of the work of `decode`."""
    return bool(_decoder.decode(data).waiting)


def _quantise(vector: Vector) -> tuple[float, bytes]:
    """The scale and the int16 of a vector. A sum whose scale has faded below a normal float32 becomes zero."""
    scale = float(np.abs(vector).max(initial=0.0)) / 32767
    if scale < np.finfo(np.float32).tiny:
        return 0.0, np.zeros(len(vector), "<i2").tobytes()
    return scale, np.rint(vector / np.float32(scale)).astype("<i2").tobytes()
