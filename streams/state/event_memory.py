"""Which events of a user were taken in before: told by their ids while those are kept, and after that by their age.

An event is one event id about one item in one topic. It is remembered as two hashes (of that, and of its item alone)
and the second of its time. The memory keeps the newest events by *event time*. Its `horizon` is the newest time that
it ever dropped. An event that is not in the memory, at or before the horizon, may be one of those that were dropped,
and is taken for a repeat. This gives the guarantee: no event counts twice, however often and from wherever the log is
read again, because an event that counted is either in the memory or not newer than the horizon. An id that comes again
under a later time is kept under the later one, so that the same holds for it.

Why by event time: the horizon is then as low as it can be for that many ids, so as few late events as possible are
refused for their age. In the order of arrival, one import of old events would push out the newest ones, and the rest
of the import would be refused. Why seconds: 4 bytes do until 2106, and the order by seconds never contradicts the order
by milliseconds, so the guarantee is the same. Why the item's hash: the memory also tells when the user last did
something about an item, which bounds their weight in everybody's counts. Knows no store.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.interest import Event
from ranker.recall.event_runs import NO_EARLIER_EVENTS, EarlierEvents

ENTRY = np.dtype([("second", "<u4"), ("item", "<u4"), ("id", "<u8")])
Entries = npt.NDArray[Any]
HOUR_S = 3_600
NOTHING_DROPPED = -1
Known = Literal["new", "known", "too-old"]


class Seen(NamedTuple):
    """An event as it is remembered; the fields of `ENTRY`."""

    second: int
    item: int
    id: int


class Older(NamedTuple):
    """The part of a memory that is not in the user's record; an event may be in several parts.

    Attributes
    ----------
    middle : in the order of arrival.
    oldest : in the order of time.
    """

    middle: Entries = np.empty(0, ENTRY)
    oldest: Entries = np.empty(0, ENTRY)
    horizon: int = NOTHING_DROPPED


def seen_of(event_id: str, event: Event) -> Seen:
    """Give the event as it is remembered: lines of an order may share an id, and so may a click and a purchase."""
    identity = f"{event.type} {event.item} {event_id}"
    return Seen(
        second=min(max(0, event.time_ms // 1000), 2**32 - 1),
        item=event.item & 0xFFFF_FFFF,
        id=int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little"),
    )


class Memory:
    """One user's memory while some of their events are looked at.

    Attributes
    ----------
    recent : what the record keeps, and behind it what was added here, in the order of arrival.
    """

    def __init__(self, recent: Sequence[Seen], older: Older) -> None:
        self.recent = list(recent)
        self._older = older
        self._second_of = {seen.id: seen.second for seen in recent}  # of one that came again later, the later one
        self._of_item: dict[int, tuple[int, int]] = {}
        for seen in recent:
            self._note_item(seen)
        self._seconds: list[int] | None = None

    def look_up(self, seen: Seen) -> Known:
        """Tell whether the event was taken in before; a later time of a known one is noted."""
        second = self._newest_of(seen.id)
        if second is None:
            return "too-old" if seen.second <= self._older.horizon else "new"
        if seen.second > second:
            self.add(seen)
        return "known"

    def add(self, seen: Seen) -> None:
        """Remember an event."""
        self.recent.append(seen)
        self._second_of[seen.id] = seen.second
        self._note_item(seen)
        if self._seconds is not None:
            insort(self._seconds, seen.second)

    def before(self, seen: Seen) -> EarlierEvents:
        """What the user did about the same item until now.

        An item that is not in the memory may be among what was dropped: then the time is since the horizon.
        """
        newest, count = self._of_item.get(seen.item, (NOTHING_DROPPED, 0))
        for part in (self._older.middle, self._older.oldest):
            same = part["second"][part["item"] == seen.item]
            if len(same):
                newest, count = max(newest, int(same.max())), count + len(same)
        newest = newest if count else self._older.horizon
        return NO_EARLIER_EVENTS if newest == NOTHING_DROPPED else EarlierEvents((seen.second - newest) * 1000.0, count)

    def is_busy(self, second: int, most: int) -> bool:
        """Whether so many events are remembered of the hour up to this second, or of the hour from it on."""
        middle, oldest = self._older.middle["second"], self._older.oldest["second"]
        if len(self.recent) + len(middle) + len(oldest) < most:
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
        return busiest >= most

    def newest_second(self) -> int:
        """The newest time of all events that are remembered; 0 if there are none."""
        parts = (self._older.middle, self._older.oldest)
        older = [int(part["second"].max()) for part in parts if len(part)]
        return max([0, *older, *(seen.second for seen in self.recent)])

    def _note_item(self, seen: Seen) -> None:
        newest, count = self._of_item.get(seen.item, (0, 0))
        self._of_item[seen.item] = max(seen.second, newest), count + 1

    def _newest_of(self, id_: int) -> int | None:
        seconds = [self._second_of[id_]] if id_ in self._second_of else []
        for part in (self._older.middle, self._older.oldest):
            same = part["second"][part["id"] == id_]
            if len(same):
                seconds.append(int(same.max()))
        return max(seconds, default=None)


def as_entries(seen: Sequence[Seen]) -> Entries:
    """(n,) `ENTRY`, in the order given."""
    return np.array(list(seen), ENTRY)


def newest(entries: Entries, limit: int, horizon: int) -> tuple[Entries, int]:
    """Keep the newest events, each once under its latest time, by time; and say up to when others were dropped."""
    by_time = entries[np.argsort(entries["second"], kind="stable")][::-1]
    once = by_time[np.sort(np.unique(by_time["id"], return_index=True)[1])]
    if len(once) > limit:
        horizon = max(horizon, int(once["second"][limit]))
    return once[:limit][::-1], horizon
