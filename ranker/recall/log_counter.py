"""Count the events of a log in bulk: the counts are exactly those of a worker that takes in one event after the other.

What an event adds to the counts depends on its user's earlier events: which items come before it in the history, when
the user last met its item, and whether the user is busy. In a log that is in the order of time, sorting gives all of
this for all events. Knows no interest state and no file.
"""

from __future__ import annotations

from bisect import insort
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ranker.recall.count_tables import Floats, Slots
from ranker.recall.counts import MAX_PENDING_EVENTS, Counts
from ranker.recall.event_runs import NOT_COUNTED, EventPairs, co_visits

HOUR_S = 3_600
LAST_SECOND = 2**32 - 1
NO_SLOT = -1

Indices = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


class LogColumns(NamedTuple):
    """The events of a log in columns.

    Attributes
    ----------
    keys : (items,) uint64
        The key of each item code.
    user, item : (n,) int32
        Codes of the events' users and items.
    time_ms : (n,) int64
        Ascending.
    weights : (n,) float
        How much of an event each event is, above 0 to 1.
    """

    keys: npt.NDArray[np.uint64]
    user: Codes
    item: Codes
    time_ms: Indices
    weights: npt.NDArray[Any]


class LogCounter:
    """The events of one log, and the counts that they go to.

    Memory: about 50 bytes an event.

    Parameters
    ----------
    counts : Counts
        Nothing else may change them.
    window : int
        Events in a user's history.
    max_events_per_hour : int
        An event of a user who has this many others in an hour adds to no count.
    log : LogColumns

    Raises
    ------
    ValueError
        The events are not in the order of time.
    """

    def __init__(self, counts: Counts, window: int, max_events_per_hour: int, log: LogColumns) -> None:
        keys, user, item, time_ms, _ = log
        if len(time_ms) and (np.diff(time_ms) < 0).any():
            raise ValueError("got a log with an event before an earlier one, expected the order of time; sort it first")
        self._counts, self._window = counts, window
        self._log = log
        self._slot_of = np.full(len(keys), NO_SLOT, np.intp)
        self._key_rank = np.argsort(np.argsort(keys, kind="stable"), kind="stable").astype(np.int32)
        self._item_of_rank = np.argsort(keys, kind="stable").astype(np.int32)
        self._moments: dict[int, tuple[int, list[int]]] = {}  # user -> first event of a moment, key ranks so far
        by_user = np.argsort(user, kind="stable")
        is_first = np.diff(user[by_user], prepend=-1) != 0
        begins_moment = is_first | (np.diff(time_ms[by_user], prepend=-1) != 0)
        seconds = np.clip(time_ms // 1000, 0, LAST_SECOND)
        self._busy = np.empty(len(user), bool)
        self._busy[by_user] = _busy(user[by_user], seconds[by_user], max_events_per_hour)
        self._since, self._earlier = _earlier(user, keys[item].astype(np.uint32), seconds)
        # an event's index within its user's events, and that of the first one of the same moment
        self._begin = np.empty(len(user), np.int64)
        self._index, self._moment = np.empty(len(user), np.int32), np.empty(len(user), np.int32)
        begin = _filled(is_first)
        self._begin[by_user] = begin
        self._index[by_user] = np.arange(len(user)) - begin
        self._moment[by_user] = _filled(begins_moment) - begin
        self._shared = np.empty(len(user), bool)  # the moment has other events
        self._shared[by_user] = ~(begins_moment & np.append(begins_moment[1:], True))
        # the items of each user's history if the user's moments are complete
        self._histories = item[np.lexsort((self._key_rank[item], time_ms, user))]

    def __len__(self) -> int:
        return len(self._log.item)

    def count(self, begin: int, end: int) -> None:
        """Count the events of these indices, which follow those that were counted before.

        Notes
        -----
        Counting replaces weak neighbours batch by batch. A worker's batches end after `MAX_PENDING_EVENTS` events, and
        where the counts are read; so call this once between two reads, or end at a multiple of that from `begin`.
        """
        for first in range(begin, end, MAX_PENDING_EVENTS):
            batch = slice(first, min(end, first + MAX_PENDING_EVENTS))
            busy = self._busy[batch]
            self._counts.count(
                self._pairs(batch),
                self._log.time_ms[batch].astype(np.float64),
                np.where(busy, NOT_COUNTED.since_ms, self._since[batch]),
                np.where(busy, NOT_COUNTED.events, self._earlier[batch]),
                self._log.weights[batch].astype(np.float64),
            )

    def _pairs(self, batch: slice) -> EventPairs:
        """Pair each event of the batch with the items of its user's history."""
        item, index, moment = self._log.item[batch], self._index[batch].astype(np.intp), self._moment[batch]
        new = item[self._slot_of[item] == NO_SLOT]
        if len(new):
            self._slot_of[new] = self._counts.slots(self._log.keys[new].tolist())
        lengths = np.minimum(index, self._window)
        event_of = np.repeat(np.arange(len(item)), lengths)
        distances = np.arange(len(event_of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        place = index[event_of] - 1 - distances
        others = self._histories[self._begin[batch][event_of] + place]
        in_moment = place >= moment[event_of]
        others[in_moment] = self._item_of_rank[self._of_moments(batch)]
        slots: Slots = self._slot_of[item]
        return co_visits(slots, self._slot_of[others], distances, event_of)

    def _of_moments(self, batch: slice) -> Codes:
        """For each event, the key ranks of the user's earlier events of the same moment, as far as the window reaches.

        The order is that of a history, newest first: within a moment, by the item's key.
        """
        ranks: list[int] = []
        shared = np.flatnonzero(self._shared[batch]) + batch.start
        rows = (
            self._log.user[shared],
            self._index[shared],
            self._moment[shared],
            self._key_rank[self._log.item[shared]],
        )
        for user, index, moment, rank in zip(*(row.tolist() for row in rows), strict=True):
            known = self._moments.get(user)
            if index == moment:
                self._moments[user] = moment, [rank]
            elif known is not None and known[0] == moment:
                ranks += known[1][: -self._window - 1 : -1]
                insort(known[1], rank)
        return np.array(ranks, np.int32)


def _earlier(user: Codes, item: npt.NDArray[np.uint32], seconds: Indices) -> tuple[Floats, Codes]:
    """For each event, the time since its user's last event about the item (`inf` for none), and the number of them."""
    pairs = user.astype(np.int64) << 32 | item.astype(np.int64)
    order = np.argsort(pairs, kind="stable")
    is_first = np.diff(pairs[order], prepend=-1) != 0
    since, earlier = np.empty(len(user)), np.empty(len(user), np.int32)
    since[order] = np.where(is_first, np.inf, np.diff(seconds[order], prepend=0) * 1000.0)
    earlier[order] = np.arange(len(user)) - _filled(is_first)
    return since, earlier


def _busy(user: Codes, seconds: Indices, limit: int) -> npt.NDArray[np.bool_]:
    """Whether `limit` of the user's earlier events are of the hour before each event. Sorted by user, then time."""
    moments = user.astype(np.int64) << 33 | seconds
    begins = np.searchsorted(moments, moments - HOUR_S, side="right")
    begins = np.maximum(begins, _filled(np.diff(user, prepend=-1) != 0))
    busy: npt.NDArray[np.bool_] = np.arange(len(user)) - begins >= limit
    return busy


def _filled(is_first: npt.NDArray[np.bool_]) -> Indices:
    """For each entry, the index of the last true one up to it; the first is true."""
    return np.maximum.accumulate(np.where(is_first, np.arange(len(is_first)), 0))
