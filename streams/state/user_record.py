"""The record of a user in bytes, at most 4 KB: the interest state and the newest events in it. Knows no store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from encoders import interest_record
from encoders.interest import Interest
from encoders.interest_record import StateUnreadable
from streams.state.event_memory import ENTRY, SeenEvent, as_entries

SCHEMA = 3
"""Schema of a record. In schemas 1 and 2 the hashes of events mean something else: events would count twice."""


@dataclass(frozen=True, eq=False)
class UserRecord:
    """A user's state and the newest events in it.

    Attributes
    ----------
    interest : Interest
        The interest state.
    recent : tuple of SeenEvent
        In the order of arrival; more than `users.RECENT` only between two flushes.
    spilt : int
        Fingerprint of the events that the last move to `m` added there; 0 if this record has no events in `m`.
    stored : int
        Number of the events in `recent` that the store has.
    """

    interest: Interest
    recent: tuple[SeenEvent, ...] = ()
    spilt: int = 0
    stored: int = 0


class _StoredRecord(msgspec.Struct, array_like=True, frozen=True):
    schema: int
    interest: bytes
    recent: bytes
    spilt: int


_any_decoder = msgspec.msgpack.Decoder(list[Any])
_decoder = msgspec.msgpack.Decoder(_StoredRecord)


def encode_record(record: UserRecord) -> bytes:
    """Serialise a record."""
    recent = as_entries(record.recent).tobytes()
    wire = _StoredRecord(SCHEMA, interest_record.encode(record.interest), recent, record.spilt)
    return msgspec.msgpack.encode(wire)


def decode_record(value: bytes) -> UserRecord:
    """Read what `encode_record` wrote.

    Raises
    ------
    StateUnreadable
        Another version wrote it, or it is damaged.
    """
    try:
        wire = _wire(value)
        recent = tuple(map(SeenEvent._make, np.frombuffer(wire.recent, ENTRY).tolist()))
        return UserRecord(interest_record.decode(wire.interest), recent, wire.spilt, len(recent))
    except ValueError as error:
        raise StateUnreadable(f"user record: got {error}, expected a record; restore the changelog topic") from error


def is_waiting(value: bytes) -> bool:
    """Whether the record has events about unknown items. Takes a tenth of the time of `decode_record`."""
    return interest_record.has_waiting_events(_wire(value).interest)


def _wire(value: bytes) -> _StoredRecord:
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
        else "an older worker wrote it: set AFTERCLICK_KAFKA__GROUP_ID to a new name; it makes states anew from the log"
    )
    raise StateUnreadable(f"user record: got schema {schema}, expected {SCHEMA}; {advice}")
