"""Where the store keeps the events of a user's memory that are not in the record: under the keys `m` and `s`.

`m` is written before the record. It keeps the events apart that only the new record has accepted, and carries the
fingerprint of that record. So no event is lost or accepted twice if a worker dies between the two writes.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np

from encoders.interest_record import StateUnreadable
from streams.state.event_memory import ENTRY, NOTHING_DROPPED, Entries, OlderEvents, as_entries, newest
from streams.state.staged_store import StagedStore
from streams.state.user_record import UserRecord

RECENT = 16
"""Limit of the events in the record itself, 16 bytes each: 256 bytes of the 4 KB."""
MIDDLE = 512
"""Limit of the events in `m`, 8 KB. So each write of `s`, which takes up to 256 KB, adds that many events. Events that
arrive at once, such as those of a merged visitor, may exceed it."""
SEEN = 16_384
"""Limit of the events in `s`: the newest ones of the user."""
_MIDDLE = struct.Struct("<II")
"""Header of `m`: the fingerprint of its last events, and the number of events before them."""
_HORIZON = struct.Struct("<q")
"""Header of `s`: the horizon, see `event_memory`."""


class StoredMemory:
    """The events in `m` and `s`.

    Parameters
    ----------
    staged : StagedStore
        Holds the values of the users.
    """

    def __init__(self, staged: StagedStore) -> None:
        self._staged = staged

    def spill(self, user_id: str, record: UserRecord) -> UserRecord:
        """Move the events out of the record into `m`. If `m` would exceed its limit, move its events into `s` first."""
        middle, events = self._middle(user_id, record), as_entries(record.recent)
        settled, fresh = events[: record.stored], events[record.stored :]
        if len(middle) + len(settled) > MIDDLE:
            oldest, horizon = self._oldest(user_id)
            oldest, horizon = newest(np.concatenate([oldest, middle]), SEEN, horizon)
            self._staged.change(user_id, _seen_key(user_id), _HORIZON.pack(horizon) + oldest.tobytes())
            middle = middle[:0]
        settled = np.concatenate([middle, settled])
        spilt = int.from_bytes(hashlib.blake2b(events.tobytes(), digest_size=4).digest(), "little") or 1
        value = _MIDDLE.pack(spilt, len(settled)) + settled.tobytes() + fresh.tobytes()
        self._staged.change(user_id, _middle_key(user_id), value)
        return replace(record, recent=(), spilt=spilt)

    def older(self, user_id: str, record: UserRecord) -> OlderEvents:
        """Give the events of the user's memory that are not in the record."""
        if not record.spilt:
            return OlderEvents()
        oldest, horizon = self._oldest(user_id)
        return OlderEvents(self._middle(user_id, record), oldest, horizon)

    def _middle(self, user_id: str, record: UserRecord) -> Entries:
        """Give the events in `m` that this record has accepted: without the last ones if their record was lost."""
        value = self._staged.read(user_id, _middle_key(user_id)) if record.spilt else None
        if value is None:
            return np.empty(0, ENTRY)
        (spilt, settled), events = _unpacked(_MIDDLE, value)
        return events if spilt == record.spilt else events[:settled]

    def _oldest(self, user_id: str) -> tuple[Entries, int]:
        value = self._staged.read(user_id, _seen_key(user_id))
        if value is None:
            return np.empty(0, ENTRY), NOTHING_DROPPED
        (horizon,), events = _unpacked(_HORIZON, value)
        return events, horizon

    def raise_horizon(self, user_id: str, record: UserRecord, horizon: int) -> UserRecord:
        """Raise the horizon to that of a visitor's memory. Returns the record, which has events in `m` and `s` now."""
        oldest, _ = self._oldest(user_id)
        self._staged.change(user_id, _seen_key(user_id), _HORIZON.pack(horizon) + oldest.tobytes())
        return replace(record, spilt=record.spilt or 1)

    def erase(self, user_id: str) -> None:
        """Delete both keys."""
        for key in (_middle_key(user_id), _seen_key(user_id)):
            self._staged.change(user_id, key, None)


def _middle_key(user_id: str) -> bytes:
    return b"m" + user_id.encode()


def _seen_key(user_id: str) -> bytes:
    return b"s" + user_id.encode()


def _unpacked(header: struct.Struct, value: bytes) -> tuple[tuple[int, ...], Entries]:
    try:
        return header.unpack_from(value), np.frombuffer(value, ENTRY, offset=header.size)
    except (struct.error, ValueError) as error:
        raise StateUnreadable(f"user's events: got {error}, expected events; restore the changelog topic") from error
