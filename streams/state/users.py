"""The users' records over a key-value store: interest states, the events in them, and who was forgotten.

A read looks into three layers: changes since the last flush, changes that are being flushed, and the store. So many
events of a user cost one write. Recently used records stay decoded in memory. Knows no Kafka: the caller provides the
store, and writes what `begin_flush` returns.

A key is a letter and the user id:

- `u`: the record, at most 4 KB, with the newest events that were accepted.
- `m`, `s`: older events, see `event_memory`. Events move from a full record to `m`, and from a full `m` to `s`. That
  costs less than 1 KB of writes per event, however many events the user has.
- `f`: when the user was forgotten. Here a hash replaces the user id, because the id itself is erased.

A worker may die when only the first part of a flush is in the changelog. The keys of a user are written in the order of
`_ORDER`, so that no event is lost or accepted twice then: `m` is written before the record, keeps the events apart that
only the new record has accepted, and carries the fingerprint of that record.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from encoders.interest import Interest, empty
from encoders.interest_record import StateUnreadable
from streams.state.event_memory import ENTRY, NOTHING_DROPPED, Entries, EventMemory, OlderEvents, as_entries, newest
from streams.state.user_record import UserRecord, decode_record, encode_record, is_waiting

RECENT = 32
"""Limit of the events in the record itself, 16 bytes each: 512 bytes of the 4 KB."""
MIDDLE = 512
"""Limit of the events in `m`, 8 KB. So each write of `s`, which takes up to 256 KB, adds that many events."""
SEEN = 16_384
"""Limit of the events in `s`: the newest ones of the user."""
CACHED_RECORDS = 4_096
"""Records that stay decoded, about 5 KB each. Chosen by us: an active user comes back within that many other users."""

Changes = dict[str, dict[bytes, bytes | None]]
"""user id -> key -> value; None deletes."""

_ORDER = b"smuf"
"""First letters of a user's keys, in the order in which a flush writes them."""
_MIDDLE = struct.Struct("<II")
"""Header of `m`: the fingerprint of its last events, and the number of events before them."""
_HORIZON = struct.Struct("<q")
"""Header of `s`: the horizon, see `event_memory`."""


class Users:
    """The records of the users whom the store has, and their changes until the next flush.

    Parameters
    ----------
    store : mapping of bytes to bytes
        The durable values. The caller writes them after a flush.
    dim : int
        Length of an interest vector.
    """

    def __init__(self, store: Mapping[bytes, bytes], dim: int) -> None:
        self._store = store
        self._dim = dim
        self._records: dict[str, UserRecord] = {}
        self._cache: dict[str, UserRecord] = {}  # as in `_flushing` or the store; the least recently used first
        self._changes: Changes = {}
        self._flushing: Changes = {}

    def get(self, user_id: str) -> UserRecord:
        """Give the user's record; an empty record for an unknown user.

        Raises
        ------
        StateUnreadable
            Another version, or another encoder, wrote the record.
        """
        record = self._records.get(user_id) or self._cache.get(user_id)
        if record is None:
            value = self._read(user_id, _record_key(user_id))
            record = UserRecord(empty(self._dim)) if value is None else self._checked(decode_record(value))
            self._put_into_cache(user_id, record)
        return record

    def put(self, user_id: str, interest: Interest) -> None:
        """Replace the interest state without a new event: an item arrived that events were waiting for."""
        self._records[user_id] = replace(self.get(user_id), interest=interest)

    def memory(self, user_id: str) -> EventMemory:
        """Give the memory of the events that the user's state has accepted. `accept` stores what is added to it."""
        record = self.get(user_id)
        return EventMemory(record.recent, self._older(user_id, record))

    def accept(self, user_id: str, memory: EventMemory, interest: Interest) -> None:
        """Replace the interest state by one that has accepted the events of this memory.

        The next flush writes the record even if nothing has changed. An event that was delivered again may be one whose
        effects were not written the first time.
        """
        self._records[user_id] = replace(self.get(user_id), interest=interest, recent=tuple(memory.recent))

    def forget(self, user_id: str, time_ms: int) -> bool:
        """Erase the user, unless this request was met before: then the events since are those of a new user.

        Events up to `time_ms`, and up to the newest accepted event, will not bring the user back.

        Parameters
        ----------
        user_id : str
            The user.
        time_ms : int
            Time of the request to be forgotten.

        Returns
        -------
        bool
            Whether the request is a new one.
        """
        until_ms, requested_ms = self._forgotten(user_id)
        if time_ms <= requested_ms:
            return False
        until_ms = max(time_ms, until_ms, self._newest_ms(user_id))
        self._records.pop(user_id, None)
        self._cache.pop(user_id, None)
        for key in (_record_key(user_id), _middle_key(user_id), _seen_key(user_id)):
            self._change(user_id, key, None)
        times = until_ms.to_bytes(8, "little") + time_ms.to_bytes(8, "little")
        self._change(user_id, _forgotten_key(user_id), times)
        return True

    def forgotten_until(self, user_id: str) -> int:
        """Give the time (milliseconds) up to which events were erased; 0 if the user was never forgotten."""
        return self._forgotten(user_id)[0]

    def waiting(self) -> Iterator[tuple[str, Interest]]:
        """Yield the users in the store who have events about items that were unknown. Reads every record.

        Raises
        ------
        StateUnreadable
            Another version, or another encoder, wrote one of the records.
        """
        for key, value in self._store.items():
            if key[:1] == b"u" and is_waiting(value):
                yield key[1:].decode(), self._checked(decode_record(value)).interest

    def begin_flush(self) -> Changes:
        """Give the changes since the last flush, to be written in this order.

        Reads still see them until `end_flush`. The store must hold the changes of the flush before by now.
        """
        for user_id, record in self._records.items():
            new_record = self._spill(user_id, record) if len(record.recent) > RECENT else record
            self._change(user_id, _record_key(user_id), encode_record(new_record))
            self._put_into_cache(user_id, replace(new_record, stored=len(new_record.recent)))
        self._flushing = {
            user_id: {key: values[key] for key in sorted(values, key=lambda key: _ORDER.index(key[:1]))}
            for user_id, values in self._changes.items()
        }
        self._changes, self._records = {}, {}
        return self._flushing

    def end_flush(self) -> None:
        """Note that the store holds what `begin_flush` returned."""
        self._flushing = {}

    def _spill(self, user_id: str, record: UserRecord) -> UserRecord:
        """Move the events out of the record into `m`. If `m` would exceed its limit, move its events into `s` first."""
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

    def _older(self, user_id: str, record: UserRecord) -> OlderEvents:
        if not record.spilt:
            return OlderEvents()
        oldest, horizon = self._oldest(user_id)
        return OlderEvents(self._middle(user_id, record), oldest, horizon)

    def _middle(self, user_id: str, record: UserRecord) -> Entries:
        """Give the events in `m` that this record has accepted: without the last ones if their record was lost."""
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
        """Give the time up to which events were erased, and that of the newest request to be forgotten; 0 if none."""
        value = self._read(user_id, _forgotten_key(user_id)) or b""
        return int.from_bytes(value[:8], "little"), int.from_bytes(value[8:], "little")

    def _newest_ms(self, user_id: str) -> int:
        """Give the newest time of any event of the user. A memory has seconds: the end of the second counts."""
        as_of_ms, second = self.get(user_id).interest.as_of_ms, self.memory(user_id).newest_second()
        return as_of_ms if second <= as_of_ms // 1000 else second * 1000 + 999

    def _checked(self, record: UserRecord) -> UserRecord:
        if (dim := len(record.interest.long)) != self._dim:
            raise StateUnreadable(
                f"user record: got vectors of {dim} numbers, expected {self._dim}; another encoder made them: set "
                "AFTERCLICK_ENCODER__MODEL to that encoder, or AFTERCLICK_KAFKA__GROUP_ID to a new name to begin anew"
            )
        return record

    def discard(self) -> None:
        """Discard all changes that are not in the store: another worker holds these users now."""
        self._records, self._changes, self._flushing = {}, {}, {}
        self.drop_cache()

    def drop_cache(self) -> None:
        """Read every record from the store again: others may write to it from now on."""
        self._cache = {}

    def _put_into_cache(self, user_id: str, record: UserRecord) -> None:
        self._cache.pop(user_id, None)
        self._cache[user_id] = record
        if len(self._cache) > CACHED_RECORDS:
            del self._cache[next(iter(self._cache))]

    def _change(self, user_id: str, key: bytes, value: bytes | None) -> None:
        self._changes.setdefault(user_id, {})[key] = value

    def _read(self, user_id: str, key: bytes) -> bytes | None:
        for layer in (self._changes, self._flushing):
            values = layer.get(user_id, {})
            if key in values:
                return values[key]
        return self._store.get(key)


def is_record(key: bytes) -> bool:
    """Whether the key is the one of a user's record."""
    return key[:1] == b"u"


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
