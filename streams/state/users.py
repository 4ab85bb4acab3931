"""Every user's record over a key-value store: interest state, what was already taken in, who was forgotten.

A record is read through three layers: changes since the last flush, changes being flushed, and the store. So many
events of a user cost one write. Records used lately are kept decoded. Knows no Kafka: `state_worker` gives it the store
and sends what `begin_flush` returns.

Keys are one letter and the user: `u` the record (at most 4 KB) with the latest events that it took in, `m` and `s` the
events before them (see `event_memory`), `f` (by hash, for the id itself is erased) when the user was forgotten. Events
move from a full record to `m`, and from a full `m` to `s`: per event that is under 1 KB of writes, however many events
the user has.

A worker may die when only a first part of a flush is in the changelog. A user's keys are written in the order of
`_ORDER`, and nothing is repeated or lost by that: `m` comes before the record, keeps apart the events that only the new
record has, and names the record that has them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from encoders.interest import Interest, empty
from encoders.interest_record import StateUnreadable
from streams.state.event_memory import ENTRY, NOTHING_DROPPED, Entries, Memory, Older, as_entries, newest
from streams.state.user_record import Record, decode_record, encode_record, is_waiting

RECENT = 32
"""Events remembered in the record itself, 16 bytes each: 512 bytes of the 4 KB."""
MIDDLE = 512
"""Events in `m` when they move to `s`, 8 KB: a write of `s`, up to 256 KB, is then worth so many events."""
SEEN = 16_384
"""Events remembered in `s`: the newest of the user."""
KEPT = 4_096
"""Records kept decoded, about 5 KB each: a user who is at it comes back within as many others; chosen by us."""

Changes = dict[str, dict[bytes, bytes | None]]
"""user id -> key -> value; None deletes."""

_ORDER = b"smuf"
"""Keys of a user by their first letters, as a flush writes them."""
_MIDDLE = struct.Struct("<II")
"""In front of `m`: the fingerprint of its last events, and how many come before those."""
_HORIZON = struct.Struct("<q")
"""In front of `s`: see `event_memory`."""


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
        self._records[user_id] = replace(self.get(user_id), interest=interest)

    def memory(self, user_id: str) -> Memory:
        """Which events the user's state has taken in; what is added to it counts once `accept` has it."""
        record = self.get(user_id)
        return Memory(record.recent, self._older(user_id, record))

    def accept(self, user_id: str, memory: Memory, interest: Interest) -> None:
        """Replace the interest by one that has taken in the events of this memory.

        The record is written at the next flush in any case: an event that comes again may be one whose effects did not
        get out.
        """
        self._records[user_id] = replace(self.get(user_id), interest=interest, recent=tuple(memory.recent))

    def forget(self, user_id: str, time_ms: int) -> bool:
        """Erase the user, unless this wish was heard before: what came since is a new user's.

        Events up to `time_ms`, or up to the newest one that was taken in, will not bring the user back.

        Returns
        -------
        Whether the wish is a new one.
        """
        until_ms, asked_ms = self._forgotten(user_id)
        if time_ms <= asked_ms:
            return False
        until_ms = max(time_ms, until_ms, self._newest_ms(user_id))
        self._records.pop(user_id, None)
        self._kept.pop(user_id, None)
        for key in (_record_key(user_id), _middle_key(user_id), _seen_key(user_id)):
            self._change(user_id, key, None)
        heard = until_ms.to_bytes(8, "little") + time_ms.to_bytes(8, "little")
        self._change(user_id, _forgotten_key(user_id), heard)
        return True

    def forgotten_until(self, user_id: str) -> int:
        """Events up to this time (milliseconds) are of an erased past; 0 if the user was never forgotten."""
        return self._forgotten(user_id)[0]

    def waiting(self) -> Iterator[tuple[str, Interest]]:
        """The users in the store who have events about items unknown at the time. Reads every record.

        Raises
        ------
        StateUnreadable
            One of them cannot be read.
        """
        for key, value in self._store.items():
            if key[:1] == b"u" and is_waiting(value):
                yield key[1:].decode(), self._known(decode_record(value)).interest

    def begin_flush(self) -> Changes:
        """What changed since the last flush, as the store shall hold it, to be written in this order.

        It is readable here until `end_flush`. What the flush before returned is stored by now.
        """
        for user_id, record in self._records.items():
            written = self._spill(user_id, record) if len(record.recent) > RECENT else record
            self._change(user_id, _record_key(user_id), encode_record(written))
            self._keep(user_id, replace(written, stored=len(written.recent)))
        self._flushing = {
            user_id: {key: values[key] for key in sorted(values, key=lambda key: _ORDER.index(key[:1]))}
            for user_id, values in self._changes.items()
        }
        self._changes, self._records = {}, {}
        return self._flushing

    def end_flush(self) -> None:
        """The store holds what `begin_flush` returned."""
        self._flushing = {}

    def _spill(self, user_id: str, record: Record) -> Record:
        """Move the events out of the record into `m`, after what is in there into `s` if that is too much."""
        middle, events = self._middle(user_id, record), as_entries(record.recent)
        settled, fresh = events[: record.stored], events[record.stored :]
        if len(middle) + len(settled) > MIDDLE:
            oldest, horizon = self._oldest(user_id)
            oldest, horizon = newest(np.concatenate([oldest, middle]), SEEN, horizon)
            self._change(user_id, _seen_key(user_id), _HORIZON.pack(horizon) + oldest.tobytes())
            middle = middle[:0]
        settled = np.concatenate([middle, settled])
        spilt = int.from_bytes(hashlib.blake2b(events.tobytes(), digest_size=4).digest(), "little") or 1
        value = _MIDDLE.pack(spilt, len(settled)) + settled.tobytes() + fresh.tobytes()
        self._change(user_id, _middle_key(user_id), value)
        return replace(record, recent=(), spilt=spilt)

    def _older(self, user_id: str, record: Record) -> Older:
        if not record.spilt:
            return Older()
        oldest, horizon = self._oldest(user_id)
        return Older(self._middle(user_id, record), oldest, horizon)

    def _middle(self, user_id: str, record: Record) -> Entries:
        """The events in `m` that this record has taken in: not the last ones, if the record that has them was lost."""
        value = self._read(user_id, _middle_key(user_id)) if record.spilt else None
        if value is None:
            return np.empty(0, ENTRY)
        (spilt, settled), events = _unpacked(_MIDDLE, value)
        return events if spilt == record.spilt else events[:settled]

    def _oldest(self, user_id: str) -> tuple[Entries, int]:
        value = self._read(user_id, _seen_key(user_id))
        if value is None:
            return np.empty(0, ENTRY), NOTHING_DROPPED
        (horizon,), events = _unpacked(_HORIZON, value)
        return events, horizon

    def _forgotten(self, user_id: str) -> tuple[int, int]:
        """Up to when events are of an erased past, and the time of the newest wish to be forgotten; 0 if never."""
        value = self._read(user_id, _forgotten_key(user_id)) or b""
        return int.from_bytes(value[:8], "little"), int.from_bytes(value[8:], "little")

    def _newest_ms(self, user_id: str) -> int:
        """The newest time of any event of the user; of one that came again later, the end of that second."""
        as_of_ms, second = self.get(user_id).interest.as_of_ms, self.memory(user_id).newest_second()
        return as_of_ms if second <= as_of_ms // 1000 else second * 1000 + 999

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


def _middle_key(user_id: str) -> bytes:
    return b"m" + user_id.encode()


def _seen_key(user_id: str) -> bytes:
    return b"s" + user_id.encode()


def _forgotten_key(user_id: str) -> bytes:
    return b"f" + hashlib.blake2b(user_id.encode(), digest_size=16).digest()


def _unpacked(header: struct.Struct, value: bytes) -> tuple[tuple[int, ...], Entries]:
    try:
        return header.unpack_from(value), np.frombuffer(value, ENTRY, offset=header.size)
    except (struct.error, ValueError) as error:
        raise StateUnreadable(f"user's events: got {error}, expected events; restore the changelog topic") from error
