"""The memory of a user's accepted events: repeats are recognised by their id, and beyond the memory by their age.

The identity of an event is its event id, its user, its item and its topic. It names the user because the events of a
visitor who was merged into a user are in the user's memory too, and both may use the same ids. The memory holds two
hashes of each event (of the identity, and of the item alone) and its time in seconds. It keeps the newest events by
*event time*. Its `horizon` is the newest time of all events that it ever dropped. An event that is neither in the
memory nor newer than the horizon may be one that was dropped, so it is treated as a repeat.

The guarantee: no event counts twice, however often and from wherever the log is read again, because an event that
counted is either in the memory or not newer than the horizon. If an identity comes again with a later time, the memory
keeps the later time, so that the guarantee holds for it too.

Why by event time: for that many events the horizon is then as low as possible, so as few late events as possible are
treated as repeats. In the order of arrival, an import of old events would push out the newest events, and the rest of
the import would be treated as repeats. Why seconds: 4 bytes suffice until 2106, and the order by seconds never
contradicts the order by milliseconds, so the guarantee is the same. Why the hash of the item: the memory also gives the
time of the user's last event about an item, which bounds the weight of one user in the counts. Knows no store.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.entries import Event
from ranker.recall.event_runs import NO_EARLIER_EVENTS, EarlierEvents

ENTRY = np.dtype([("second", "<u4"), ("item", "<u4"), ("id", "<u8")])
Entries = npt.NDArray[Any]
HOUR_S = 3_600
NOTHING_DROPPED = -1
RETURNED = 2**64 - 1
"""The id of a return is that of its purchase with all bits flipped: each leads to the other."""
Novelty = Literal["new", "known", "too-old"]


class SeenEvent(NamedTuple):
    """An event in the memory: the fields of `ENTRY`."""

    second: int
    item: int
    id: int


class OlderEvents(NamedTuple):
    """The part of a memory that is not in the user's record. An event may be in several parts.

    Attributes
    ----------
    middle : numpy.ndarray
        (n,) `ENTRY`, in the order of arrival.
    oldest : numpy.ndarray
        (n,) `ENTRY`, in the order of time.
    horizon : int
        Newest time (seconds) of the events that were dropped; `NOTHING_DROPPED` if none was.
    """

    middle: Entries = np.empty(0, ENTRY)
    oldest: Entries = np.empty(0, ENTRY)
    horizon: int = NOTHING_DROPPED


def seen_of(user_id: str, event_id: str, event: Event) -> SeenEvent:
    """Give an event in the memory's form.

    The identity contains item and type, because the lines of an order may share an event id, and so may a click and a
    purchase. The user is the one whom the event names.
    """
    return _seen(f"{event.type} {event.item} {event_id}", user_id, event.time_ms, event.item)


def seen_return(user_id: str, purchase_event_id: str, event: Event) -> SeenEvent:
    """Give the return of a purchase in the memory's form. A purchase is returned once, whatever the return's own id."""
    purchase = seen_of(user_id, purchase_event_id, Event(event.item, event.time_ms, "purchase"))
    return purchase._replace(id=purchase.id ^ RETURNED)


def seen_merge(user_id: str, into: str, merged_ms: int) -> SeenEvent:
    """Give the merge of a user into another one in the memory's form, so that their state is taken in once."""
    return _seen(f"merge {merged_ms} {into}", user_id, merged_ms, 0)


def seen_preference(user_id: str, event_id: str, time_ms: int) -> SeenEvent:
    """Give a wish, or the revocation of one, in the memory's form."""
    return _seen(f"preference {event_id}", user_id, time_ms, 0)


def _seen(identity: str, user_id: str, time_ms: int, item: int) -> SeenEvent:
    named = f"{len(user_id)} {user_id} {identity}"
    digest = hashlib.blake2b(named.encode(), digest_size=8).digest()
    second = min(max(0, time_ms // 1000), 2**32 - 1)
    return SeenEvent(second, item & 0xFFFF_FFFF, int.from_bytes(digest, "little"))


class EventMemory:
    """One user's memory while a batch of the user's events is applied.

    Parameters
    ----------
    recent : sequence of SeenEvent
        The events in the user's record, in the order of arrival.
    older : OlderEvents
        The events before them.

    Attributes
    ----------
    recent : list of SeenEvent
        The events of the record, then those that were added, in the order of arrival.
    """

    def __init__(self, recent: Sequence[SeenEvent], older: OlderEvents) -> None:
        self.recent = list(recent)
        self._older = older
        self._second_of = {seen.id: seen.second for seen in recent}  # the latest time of each
        self._of_item: dict[int, tuple[int, int]] = {}
        for seen in recent:
            self._note_item(seen)
        self._seconds: list[int] | None = None

    def look_up(self, seen: SeenEvent) -> Novelty:
        """Tell whether the event was accepted before. If it was, and with an earlier time, remember the later time.

        Returns
        -------
        {"new", "known", "too-old"}
            "too-old": not in the memory, and not newer than the horizon.
        """
        second = self.second_of(seen.id)
        if second is None:
            return "too-old" if seen.second <= self._older.horizon else "new"
        if seen.second > second:
            self.add(seen)
        return "known"

    def add(self, seen: SeenEvent) -> None:
        """Add an event."""
        self.recent.append(seen)
        self._second_of[seen.id] = seen.second
        self._note_item(seen)
        if self._seconds is not None:
            insort(self._seconds, seen.second)

    def before(self, seen: SeenEvent) -> EarlierEvents:
        """Give the user's earlier events about the same item: the time since the last one, and their number.

        If the memory has none, one may have been dropped: then the time is the one since the horizon.
        """
        newest, count = self._of_item.get(seen.item, (NOTHING_DROPPED, 0))
        for part in (self._older.middle, self._older.oldest):
            same = part["second"][part["item"] == seen.item]
            if len(same):
                newest, count = max(newest, int(same.max())), count + len(same)
        newest = newest if count else self._older.horizon
        return NO_EARLIER_EVENTS if newest == NOTHING_DROPPED else EarlierEvents((seen.second - newest) * 1000.0, count)

    def is_busy(self, second: int, limit: int) -> bool:
        """Whether the memory has `limit` events or more of the hour before this second, or of the hour after it."""
        middle, oldest = self._older.middle["second"], self._older.oldest["second"]
        if len(self.recent) + len(middle) + len(oldest) < limit:
            return False
        if self._seconds is None:
            self._seconds = sorted(seen.second for seen in self.recent)
        hour_before = bisect_right(self._seconds, second) - bisect_right(self._seconds, second - HOUR_S)
        hour_after = bisect_left(self._seconds, second + HOUR_S) - bisect_left(self._seconds, second)
        ahead = middle.astype(np.int64) - second
        begin, end = np.searchsorted(oldest, [second - HOUR_S, second], "right").tolist()
        hour_before += int(np.count_nonzero((ahead > -HOUR_S) & (ahead <= 0))) + end - begin
        begin, end = np.searchsorted(oldest, [second, second + HOUR_S], "left").tolist()
        hour_after += int(np.count_nonzero((ahead >= 0) & (ahead < HOUR_S))) + end - begin
        busiest: int = max(hour_before, hour_after)
        return busiest >= limit

    def entries(self) -> Entries:
        """Give all events: (n,) `ENTRY`, in any order; an event may be in it twice."""
        return np.concatenate([self._older.oldest, self._older.middle, as_entries(self.recent)])

    @property
    def horizon(self) -> int:
        """Newest time (seconds) of the events that were dropped; `NOTHING_DROPPED` if none was."""
        return self._older.horizon

    def newest_second(self) -> int:
        """Give the newest time (seconds) of all events in the memory; 0 if it is empty."""
        parts = (self._older.middle, self._older.oldest)
        older = [int(part["second"].max()) for part in parts if len(part)]
        return max([0, *older, *(seen.second for seen in self.recent)])

    def _note_item(self, seen: SeenEvent) -> None:
        newest, count = self._of_item.get(seen.item, (0, 0))
        self._of_item[seen.item] = max(seen.second, newest), count + 1

    def second_of(self, id_: int) -> int | None:
        """Give the time of an event (seconds), by its id; None if the memory does not have it."""
        seconds = [self._second_of[id_]] if id_ in self._second_of else []
        for part in (self._older.middle, self._older.oldest):
            same = part["second"][part["id"] == id_]
            if len(same):
                seconds.append(int(same.max()))
        return max(seconds, default=None)


def as_entries(seen: Sequence[SeenEvent]) -> Entries:
    """Give the events as an array: (n,) `ENTRY`, in the given order."""
    return np.array(list(seen), ENTRY)


def newest(entries: Entries, limit: int, horizon: int) -> tuple[Entries, int]:
    """Keep the newest events, each once with its latest time.

    Parameters
    ----------
    entries : numpy.ndarray
        (n,) `ENTRY`, in any order.
    limit : int
        Number of events to keep.
    horizon : int
        The horizon so far, in seconds.

    Returns
    -------
    tuple of numpy.ndarray and int
        (at most `limit`,) `ENTRY` in the order of time, and the new horizon.
    """
    by_time = entries[np.argsort(entries["second"], kind="stable")][::-1]
    unique = by_time[np.sort(np.unique(by_time["id"], return_index=True)[1])]
    if len(unique) > limit:
        horizon = max(horizon, int(unique["second"][limit]))
    return unique[:limit][::-1], horizon
