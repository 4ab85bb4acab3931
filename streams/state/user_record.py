"""A user's record in bytes, at most 4 KB: the interest state and the latest events that it took in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from encoders import interest_record
from encoders.interest import Interest
from encoders.interest_record import StateUnreadable
from streams.state.event_memory import ENTRY, Seen, as_entries

SCHEMA = 3
"""Of a record. Those before, 1 and 2, have ids that mean something else: their events would count a second time."""


@dataclass(frozen=True, eq=False)
class Record:
    """A user's state and the newest events that it took in.

    Attributes
    ----------
    recent : in the order of arrival; more than `RECENT` only between two flushes.
    spilt : fingerprint of the events that this record has in `m` and the one before it had not; 0 if it has none there.
    stored : how many of `recent` the store has.
    """

    interest: Interest
    recent: tuple[Seen, ...] = ()
    spilt: int = 0
    stored: int = 0


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    schema: int
    interest: bytes
    recent: bytes
    spilt: int


_any_decoder = msgspec.msgpack.Decoder(list[Any])
_decoder = msgspec.msgpack.Decoder(_Wire)


def encode_record(record: Record) -> bytes:
    """Serialise."""
    wire = _Wire(SCHEMA, interest_record.encode(record.interest), as_entries(record.recent).tobytes(), record.spilt)
    return msgspec.msgpack.encode(wire)


def decode_record(value: bytes) -> Record:
    """Read what `encode_record` wrote.

    Raises
    ------
    StateUnreadable
        Another version wrote it, or it is damaged.
    """
    try:
        wire = _wire(value)
        recent = tuple(map(Seen._make, np.frombuffer(wire.recent, ENTRY).tolist()))
        return Record(interest_record.decode(wire.interest), recent, wire.spilt, len(recent))
    except ValueError as error:
        raise StateUnreadable(f"user record: got {error}, expected a record; restore the changelog topic") from error


def is_waiting(value: bytes) -> bool:
    """Whether the user of this record has events about unknown items; a tenth of the work of `decode_record`."""
    return interest_record.has_waiting_events(_wire(value).interest)


def _wire(value: bytes) -> _Wire:
    try:
        first, *_ = _any_decoder.decode(value)
        schema = first if isinstance(first, int) else 1
        if schema == SCHEMA:
            return _decoder.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StateUnreadable(f"user record: got {error}, expected a record; restore the changelog topic") from error
    advice = (
        "a newer worker wrote it: upgrade this one"
        if schema > SCHEMA
        else "an older worker wrote it: set AFTERCLICK_KAFKA__GROUP_ID to a new name, to make states anew from the log"
    )
    raise StateUnreadable(f"user record: got schema {schema}, expected {SCHEMA}; {advice}")
