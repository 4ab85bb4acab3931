"""The record of a user in bytes: the interest state and the newest events in it, at most 4 KB.

Beyond that it has the searches, and 0.3 KB of context where rules read one.
Knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np

from encoders import interest_record
from encoders.interest import Interest
from encoders.interest_record import StateUnreadable
from streams.state.event_memory import ENTRY, SeenEvent, as_entries

SCHEMA = 6
"""Schema of a record. In schemas 1 to 4 the hashes of events mean something else: events would count twice. In
schema 5 a state had no signals, and marks of shown items in another form."""


@dataclass(frozen=True)
class Link:
    """Into whom a user was merged.

    Attributes
    ----------
    into : str
        The user who gets this user's events from now on.
    merged_ms : int
        The time of the merge (milliseconds).
    stage : {"asked", "agreed", "moved"}
        "asked": it is not known yet that no cycle closes, and the state is as it was. "agreed": the state must not
        change any more. "moved": it is on its way to the other user.
    """

    into: str
    merged_ms: int
    stage: Literal["asked", "agreed", "moved"] = "asked"


@dataclass(frozen=True, eq=False)
class UserRecord:
    """A user's state and the newest events in it.

    Attributes
    ----------
    interest : Interest
        The interest state.
    recent : tuple of SeenEvent
        In the order of arrival; more than `stored_memory.RECENT` only between two flushes.
    spilt : int
        Fingerprint of the events that the last move to `m` added there; 0 if this record has no events in `m`.
    stored : int
        Number of the events in `recent` that the store has.
    newest_ms : int
        Newest time (milliseconds) of all events that were accepted or repeated.
    context : mapping of str to str
        The newest value of each key that rules read, in words; they are few and short.
    shown : bytes
        The newest lists that the user was shown, see `encoders.events.shown_lists`.
    link : Link or None
        Into whom the user was merged.
    """

    interest: Interest
    recent: tuple[SeenEvent, ...] = ()
    spilt: int = 0
    stored: int = 0
    newest_ms: int = 0
    context: Mapping[str, str] = field(default_factory=dict)
    shown: bytes = b""
    link: Link | None = None


class _StoredRecord(msgspec.Struct, array_like=True, frozen=True):
    schema: int
    interest: bytes
    recent: bytes
    spilt: int
    newest_ms: int
    context: dict[str, str] = {}
    shown: bytes = b""
    link: Link | None = None


_any_decoder = msgspec.msgpack.Decoder(list[Any])
_decoder = msgspec.msgpack.Decoder(_StoredRecord)


def encode_record(record: UserRecord) -> bytes:
    """Serialise a record. What a user does not have takes no room."""
    recent = as_entries(record.recent).tobytes()
    wire = [SCHEMA, interest_record.encode(record.interest), recent, record.spilt, record.newest_ms]
    if record.context or record.shown or record.link:
        wire += [dict(record.context), record.shown, record.link]
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
        interest = interest_record.decode(wire.interest)
        more = (wire.context, wire.shown, wire.link)
        return UserRecord(interest, recent, wire.spilt, len(recent), wire.newest_ms, *more)
    except ValueError as error:
        raise StateUnreadable(f"user record: got {error}, expected a record; restore the changelog topic") from error


def checked(record: UserRecord, dim: int) -> UserRecord:
    """Return a record whose vectors have `dim` numbers; another one raises `StateUnreadable`."""
    if (got := len(record.interest.long)) != dim:
        raise StateUnreadable(
            f"user record: got vectors of {got} numbers, expected {dim}; another encoder made them: set "
            "AFTERCLICK_ENCODER__MODEL to that encoder, or AFTERCLICK_KAFKA__GROUP_ID to a new name to begin anew"
        )
    return record


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
