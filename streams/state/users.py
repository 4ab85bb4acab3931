"""The users' records over a key-value store: interest states, the events in them, and who was forgotten.

Changes wait for a flush in a `StagedStore`, so many events of a user cost one write. Recently used records stay decoded
in memory. Knows no Kafka: the caller provides the store, and writes what `begin_flush` returns.

A key is a letter and the user id:

- `u`: the record, see `user_record`, with the newest events that were accepted.
- `m`, `s`: older events, see `event_memory`. Events move from a full record to `m`, and from a full `m` to `s`. That
  costs less than 1 KB of writes per event, however many events the user has.
- `j`, `J`: who was merged into the user, see `visitors`.
- `w`: what the user wishes, see `kept_wishes`.
- `f`: when the user was forgotten. Here a hash replaces the user id, because the id itself is erased.

A worker may die when only the first part of a flush is in the changelog. The keys of a user are written in the order of
`_ORDER`, so that no event is lost or accepted twice then; see `stored_memory`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from encoders import interest_record
from encoders.events.shown_lists import joined, read
from encoders.interest import Decay, Interest, empty, join
from streams.state import stored_memory
from streams.state.event_memory import ENTRY, EventMemory, SeenEvent, newest
from streams.state.kept_wishes import NONE, KeptWishes
from streams.state.staged_store import Changes, StagedStore
from streams.state.stored_memory import StoredMemory
from streams.state.transfer import UserState
from streams.state.user_record import Link, UserRecord, checked, decode_record, encode_record, is_waiting
from streams.state.visitors import Visitors

CACHED_RECORDS = 4_096
"""Records that stay decoded, about 5 KB each. Chosen by us: an active user comes back within that many other users."""

MOST_LINKS = 100
"""A reader of several partitions may see links of different times, which may form a cycle; chosen by us."""
_ORDER = b"Jjwsmuf"
"""First letters of a user's keys, in the order in which a flush writes them."""


class Users:
    """The records of the users whom the store has, and their changes until the next flush.

    Parameters
    ----------
    store : mapping of bytes to bytes
        The durable values. The caller writes them after a flush.
    dim : int
        Length of an interest vector.

    Attributes
    ----------
    visitors : Visitors
        Who was merged into whom.
    wishes : KeptWishes
        What they wish.
    """

    def __init__(self, store: Mapping[bytes, bytes], dim: int) -> None:
        self._staged = StagedStore(store)
        self.visitors = Visitors(self._staged)
        self.wishes = KeptWishes(self._staged)
        self._memory = StoredMemory(self._staged)
        self._dim = dim
        self._records: dict[str, UserRecord] = {}
        self._cache: dict[str, UserRecord] = {}  # as they are flushed or stored; the least recently used first

    def get(self, user_id: str) -> UserRecord:
        """Give the user's record; an empty record for an unknown user.

        Raises
        ------
        StateUnreadable
            Another version, or another encoder, wrote the record.
        """
        record = self._records.get(user_id) or self._cache.get(user_id)
        if record is None:
            value = self._staged.read(user_id, record_key(user_id))
            record = UserRecord(empty(self._dim)) if value is None else checked(decode_record(value), self._dim)
            self._put_into_cache(user_id, record)
        return record

    def put(self, user_id: str, **changed: Any) -> None:
        """Replace fields of the record without a new event, such as when an item arrives that events wait for."""
        self._records[user_id] = replace(self.get(user_id), **changed)

    def memory(self, user_id: str) -> EventMemory:
        """Give the memory of the events that the user's state has accepted. `accept` stores what is added to it."""
        record = self.get(user_id)
        return EventMemory(record.recent, self._memory.older(user_id, record))

    def accept(
        self,
        user_id: str,
        memory: EventMemory,
        interest: Interest,
        newest_ms: int = 0,
        context: Mapping[str, str] | None = None,
    ) -> None:
        """Replace the interest state by one that has accepted the events of this memory, the newest at `newest_ms`.

        The next flush writes the record even if nothing has changed. An event that was delivered again may be one whose
        effects were not written the first time.
        """
        record = self.get(user_id)
        newest_ms = max(newest_ms, record.newest_ms)
        record = replace(record, interest=interest, recent=tuple(memory.recent), newest_ms=newest_ms)
        self._records[user_id] = record if context is None else replace(record, context=context)

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
        self._erase(user_id)
        self._staged.change(user_id, record_key(user_id), None)
        times = until_ms.to_bytes(8, "little") + time_ms.to_bytes(8, "little")
        self._staged.change(user_id, _forgotten_key(user_id), times)
        return True

    def set_link(self, user_id: str, link: Link | None) -> None:
        """Note into whom the user was merged; None if that was refused. Once the state is out, erase it here."""
        if link is not None and link.stage == "moved":
            self._erase(user_id)
            self._records[user_id] = UserRecord(empty(self._dim), link=link)
        else:
            self._records[user_id] = replace(self.get(user_id), link=link)

    def member_of(self, user_id: str) -> str:
        """Give the user into whom this one was merged, also by way of others; the user who was not. Reads all users."""
        for _ in range(MOST_LINKS):
            link = self.get(user_id).link
            if link is None or link.stage != "moved":
                break
            user_id = link.into
        return user_id

    def state_of(self, user_id: str) -> UserState:
        """Give the state of a user, as another user takes it in."""
        record, memory = self.get(user_id), self.memory(user_id)
        entries, horizon = newest(memory.entries(), stored_memory.SEEN, memory.horizon)
        interest, wishes = interest_record.encode(record.interest), self.wishes.of(user_id)
        rest = (dict(record.context), record.shown, None if wishes == NONE else wishes)
        return UserState(interest, entries.tobytes(), horizon, record.newest_ms, *rest)

    def take_in(self, user_id: str, visitor_id: str, merge: SeenEvent, state: UserState, decay: Decay) -> bool:
        """Add the state of a visitor who was merged into the user, unless this merge was taken in before.

        Returns
        -------
        bool
            Whether the state was added.
        """
        memory = self.memory(user_id)
        novelty = memory.look_up(merge)
        if novelty == "known" or (novelty == "too-old" and self.visitors.has(user_id, visitor_id)):
            return False
        other = checked(UserRecord(interest_record.decode(state.interest)), self._dim).interest
        for entry in np.frombuffer(state.events, ENTRY).tolist():
            memory.add(SeenEvent._make(entry))
        memory.add(merge)
        if state.horizon > memory.horizon:
            self._records[user_id] = self._memory.raise_horizon(user_id, self.get(user_id), state.horizon)
        record = self.get(user_id)
        context = {**record.context, **state.context}
        if record.newest_ms > state.newest_ms:
            context = {**state.context, **record.context}
        self.accept(user_id, memory, join(record.interest, other, decay), state.newest_ms, context)
        self.put(user_id, shown=joined(record.shown, state.shown))
        if state.wishes is not None:
            self.wishes.add(user_id, state.wishes)
        return True

    def _erase(self, user_id: str) -> None:
        """Erase all but the record in the store."""
        self._records.pop(user_id, None)
        self._cache.pop(user_id, None)
        self._memory.erase(user_id)
        self.visitors.erase(user_id)
        self.wishes.erase(user_id)

    def forgotten_until(self, user_id: str) -> int:
        """Give the time (milliseconds) up to which events were erased; 0 if the user was never forgotten."""
        return self._forgotten(user_id)[0]

    def asked_to_forget(self, user_id: str) -> int:
        """Give the time (milliseconds) of the newest request to forget the user; 0 if there was none."""
        return self._forgotten(user_id)[1]

    def waiting(self) -> Iterator[tuple[str, Interest]]:
        """Yield the users in the store who have events about items that were unknown. Reads every record.

        Raises
        ------
        StateUnreadable
            Another version, or another encoder, wrote one of the records.
        """
        for key, value in self._staged.durable.items():
            if key[:1] == b"u" and is_waiting(value):
                yield key[1:].decode(), checked(decode_record(value), self._dim).interest

    def begin_flush(self) -> Changes:
        """Give the changes since the last flush, to be written in this order.

        Reads still see them until `end_flush`. The store must hold the changes of the flush before by now.
        """
        for user_id, record in self._records.items():
            new_record = self._memory.spill(user_id, record) if len(record.recent) > stored_memory.RECENT else record
            self._staged.change(user_id, record_key(user_id), encode_record(new_record))
            self._put_into_cache(user_id, replace(new_record, stored=len(new_record.recent)))
        self._records = {}
        return self._staged.begin_flush(lambda key: _ORDER.index(key[:1]))

    def end_flush(self) -> None:
        """Note that the store holds what `begin_flush` returned."""
        self._staged.end_flush()

    def _forgotten(self, user_id: str) -> tuple[int, int]:
        """Give the time up to which events were erased, and that of the newest request to be forgotten; 0 if none."""
        value = self._staged.read(user_id, _forgotten_key(user_id)) or b""
        return int.from_bytes(value[:8], "little"), int.from_bytes(value[8:], "little")

    def _newest_ms(self, user_id: str) -> int:
        """Give the newest time of any event of the user, repeats included.

        The memory has the times of merges in seconds: the end of the second counts.
        """
        record, second = self.get(user_id), self.memory(user_id).newest_second()
        shown_ms = max((one.second * 1000 + 999 for one in read(record.shown)), default=0)
        merged_ms = record.link.merged_ms if record.link else 0
        newest_ms = max(record.interest.as_of_ms, record.newest_ms, merged_ms, shown_ms)
        return newest_ms if second <= newest_ms // 1000 else second * 1000 + 999

    def discard(self) -> None:
        """Discard all changes that are not in the store: another worker holds these users now."""
        self._records = {}
        self._staged.discard()
        self.drop_cache()

    def drop_cache(self) -> None:
        """Read every record from the store again: others may write to it from now on."""
        self._cache = {}

    def drop(self, user_id: str) -> None:
        """Read the user's record from the store again: another process has changed it."""
        self._cache.pop(user_id, None)

    def _put_into_cache(self, user_id: str, record: UserRecord) -> None:
        self._cache.pop(user_id, None)
        self._cache[user_id] = record
        if len(self._cache) > CACHED_RECORDS:
            del self._cache[next(iter(self._cache))]


def is_record(key: bytes) -> bool:
    """Whether the key is the one of a user's record."""
    return key[:1] == b"u"


def user_of(record_key: bytes) -> str:
    """Give the id of the user whose record has this key."""
    return record_key[1:].decode()


def record_key(user_id: str) -> bytes:
    """Return the key of a user's record."""
    return b"u" + user_id.encode()


def _forgotten_key(user_id: str) -> bytes:
    return b"f" + hashlib.blake2b(user_id.encode(), digest_size=16).digest()
