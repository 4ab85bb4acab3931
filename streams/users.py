"""Every user's record over a key-value store: interest state, what was already taken in, who was forgotten.

A record is read through three layers: changes since the last flush, changes being flushed, and the store. So many
events of a user cost one write. Records used lately are kept decoded. Knows no Kafka: `state_worker` gives it the store
and sends what `begin_flush` returns.

Keys are one letter and the user: `u` the record (at most 4 KB), `s` ids of older events, `f` (by hash, for the id
itself is erased) when the user was forgotten: up to which event time, and the time of the wish.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from encoders.interest import Interest, StateUnreadable, decode, empty, encode, is_waiting

RECENT = 64
"""Event ids kept in the record itself: 512 bytes of the 4 KB."""
SEEN = 16_384
"""Event ids kept beside it: a repeated event is recognised among the user's last 16,384."""
KEPT = 4_096
"""Records kept decoded, about 5 KB each: a user who is at it comes back within as many others; chosen by us."""

Changes = dict[str, dict[bytes, bytes | None]]
"""user id -> key -> value; None deletes."""


@dataclass(frozen=True, eq=False)
class Record:
    """A user's state and the ids (8-byte hashes) of the events that it took in last."""

    interest: Interest
    recent: tuple[int, ...] = ()


SCHEMA = 2
"""Of a record. The one before, 1, did not say its number."""


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    schema: int
    interest: bytes
    recent: bytes


class _Before(msgspec.Struct, array_like=True, frozen=True):
    interest: bytes
    recent: bytes


_any_decoder = msgspec.msgpack.Decoder(list[Any])
_decoder = msgspec.msgpack.Decoder(_Wire)
_decoder_before = msgspec.msgpack.Decoder(_Before)


class Users:
    """All users of this worker's partitions.

    Parameters
    ----------
    store : what is durable, by key; written by the caller after a flush.
    dim : length of an interest vector.
    """

    def __init__(self, store: Mapping[bytes, bytes], dim: int) -> None:
        self._store = store
        self._dim = dim
        self._records: dict[str, Record] = {}
        self._kept: dict[str, Record] = {}  # as in `_flushing` or the store; first the one that goes next
        self._changes: Changes = {}
        self._flushing: Changes = {}

    def get(self, user_id: str) -> Record:
        """The user's record; an empty one for a user nobody has seen."""
        record = self._records.get(user_id) or self._kept.get(user_id)
        if record is None:
            value = self._read(user_id, _record_key(user_id))
            record = Record(empty(self._dim)) if value is None else self._known(decode_record(value))
            self._keep(user_id, record)
        return record

    def put(self, user_id: str, interest: Interest) -> None:
        """Replace the interest, without an event (an item arrived that it was waiting for)."""
        self._records[user_id] = Record(interest, self.get(user_id).recent)

    def accept(self, user_id: str, event_ids: Sequence[str], interest: Interest) -> None:
        """Replace the interest by one that has taken in these events."""
        ids = (*self.get(user_id).recent, *map(_hash, event_ids))
        spilt = (len(ids) - 1) // RECENT * RECENT
        if spilt:
            older = (self._read(user_id, _seen_key(user_id)) or b"") + _pack(ids[:spilt])
            self._change(user_id, _seen_key(user_id), older[-8 * SEEN :])
        self._records[user_id] = Record(interest, ids[spilt:])

    def are_new(self, user_id: str, event_ids: Sequence[str]) -> list[bool]:
        """Which of these events are not among the user's last ones; of an event that is there twice, the first."""
        seen = set(self.get(user_id).recent)
        older = np.frombuffer(self._read(user_id, _seen_key(user_id)) or b"", "<u8")
        are_new = []
        for id_ in map(_hash, event_ids):
            are_new.append(id_ not in seen and not (older == id_).any())
            seen.add(id_)
        return are_new

    def touch(self, user_id: str) -> None:
        """Write the record again at the next flush: a repeated event may be one whose effects did not get out."""
        self._records[user_id] = self.get(user_id)

    def forget(self, user_id: str, time_ms: int) -> bool:
        """Erase the user; events up to `time_ms`, or to the newest taken in, will not bring them back.

        False, and nothing is erased, if this wish or a later one was met before: what is there now came after it.
        """
        until_ms, met_ms = self._forgotten(user_id)
        if time_ms <= met_ms:
            return False
        until_ms = max(time_ms, until_ms, self.get(user_id).interest.as_of_ms)
        self._records.pop(user_id, None)
        self._kept.pop(user_id, None)
        self._change(user_id, _record_key(user_id), None)
        self._change(user_id, _seen_key(user_id), None)
        times = until_ms.to_bytes(8, "little") + time_ms.to_bytes(8, "little")
        self._change(user_id, _forgotten_key(user_id), times)
        return True

    def forgotten_until(self, user_id: str) -> int:
        """Events up to this time (milliseconds) are of an erased past; 0 if the user was never forgotten."""
        return self._forgotten(user_id)[0]

    def _forgotten(self, user_id: str) -> tuple[int, int]:
        """Until when, and the time of the newest wish; the version before this one stored only the former."""
        times = self._read(user_id, _forgotten_key(user_id)) or b""
        return int.from_bytes(times[:8], "little"), int.from_bytes(times[8:] or times, "little")

    def waiting(self) -> Iterator[tuple[str, Interest]]:
        """The users in the store who have events about items unknown at the time. Reads every record.

        Raises
        ------
        StateUnreadable
            One of them cannot be read.
        """
        for key, value in self._store.items():
            if key[:1] == b"u" and is_waiting(_wire(value).interest):
                yield key[1:].decode(), self._known(decode_record(value)).interest

    def begin_flush(self) -> Changes:
        """What changed since the last flush, as the store shall hold it. Readable here until `end_flush`."""
        for user_id, record in self._records.items():
            self._change(user_id, _record_key(user_id), encode_record(record))
            self._keep(user_id, record)
        self._flushing, self._changes, self._records = self._changes, {}, {}
        return self._flushing

    def end_flush(self) -> None:
        """The store holds what `begin_flush` returned."""
        self._flushing = {}

    def _known(self, record: Record) -> Record:
        if (dim := len(record.interest.long)) != self._dim:
            raise StateUnreadable(
                f"user record: got vectors of {dim} numbers, expected {self._dim}; another encoder made them: set "
                "AFTERCLICK_ENCODER__MODEL to that one, or AFTERCLICK_KAFKA__GROUP_ID to a new name to begin anew"
            )
        return record

    def discard(self) -> None:
        """What is not in the store never was: another worker has these users now."""
        self._records, self._changes, self._flushing = {}, {}, {}
        self.let_go()

    def let_go(self) -> None:
        """Others may write to the store from now on: keep nothing of it."""
        self._kept = {}

    def _keep(self, user_id: str, record: Record) -> None:
        self._kept.pop(user_id, None)
        self._kept[user_id] = record
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def _change(self, user_id: str, key: bytes, value: bytes | None) -> None:
        self._changes.setdefault(user_id, {})[key] = value

    def _read(self, user_id: str, key: bytes) -> bytes | None:
        for layer in (self._changes, self._flushing):
            changed = layer.get(user_id, {})
            if key in changed:
                return changed[key]
        return self._store.get(key)


def _record_key(user_id: str) -> bytes:
    return b"u" + user_id.encode()


def _seen_key(user_id: str) -> bytes:
    return b"s" + user_id.encode()


def _forgotten_key(user_id: str) -> bytes:
    return b"f" + hashlib.blake2b(user_id.encode(), digest_size=16).digest()


def _hash(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little")


def _pack(ids: tuple[int, ...]) -> bytes:
    return np.array(ids, "<u8").tobytes()


def encode_record(record: Record) -> bytes:
    """Serialise."""
    return msgspec.msgpack.encode(_Wire(SCHEMA, encode(record.interest), _pack(record.recent)))


def decode_record(value: bytes) -> Record:
    """Read what `encode_record` wrote, in this version of the program or the one before.

    Raises
    ------
    StateUnreadable
        A newer version wrote it, or it is damaged.
    """
    try:
        wire = _wire(value)
        return Record(decode(wire.interest), tuple(np.frombuffer(wire.recent, "<u8").tolist()))
    except ValueError as error:
        raise StateUnreadable(f"user record: got {error}, expected a record; restore the changelog topic") from error


def _wire(value: bytes) -> _Wire | _Before:
    try:
        first, *_ = _any_decoder.decode(value)
        if isinstance(first, int) and first > SCHEMA:
            raise StateUnreadable(
                f"user record: got schema {first}, expected at most {SCHEMA}; a newer worker wrote it: upgrade this one"
            )
        return _decoder.decode(value) if isinstance(first, int) else _decoder_before.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StateUnreadable(f"user record: got {error}, expected a record; restore the changelog topic") from error
