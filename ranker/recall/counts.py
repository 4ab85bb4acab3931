"""The events of all users, counted as they come: item popularity and co-visits, decayed by event time.

This is the item-based collaborative filter (Sarwar et al. 2001; cosine normalisation as in Deshpande and Karypis 2004),
kept incrementally. A decayed count `sum_i w_i 2^(-(T - t_i) / half_life)` is stored as its base-2 logarithm at T =
0. Such a number needs no update when time passes, never overflows, and a late event is added like any other.

Counts are sharded by writer: every worker adds to its own shard and reads all shards. The counts of several workers
add up, and each shard can be stored and moved to another worker alone. Knows no transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from math import log2

import numpy as np
import numpy.typing as npt

from encoders.events.entries import Event
from ranker.recall.count_records import ItemCounts
from ranker.recall.count_tables import (
    MAX_NEIGHBOURS,
    NEVER,
    NO_ROW,
    NOBODY,
    CoVisits,
    Floats,
    ItemEvents,
    Shard,
    Slots,
    grown,
    mean_of,
    share_decayed,
)
from ranker.recall.event_runs import NO_EARLIER_EVENTS, EarlierEvents, EventPairs, EventRun, pair

MAX_TRENDING = 1_000
MAX_EVENTS = 2**20
"""At which `ItemEvents.events` ends: seen from 1970, where a user without events is, every event is far ahead."""
WINDOW = 50
"""Preceding events of the user that a new event is paired with: as many as a state remembers."""
MAX_PENDING_EVENTS = 512
"""Events that are counted together: enough to share the work, and a few milliseconds of it."""
DISTANCE_DECAY = 0.97
"""Weight per step between two events of a user; .97 was the best of the values tried on a shop's invoices."""
TRENDING_REFRESH = 20
"""`trending` sorts anew once the events since the last time exceed one in this many items."""
NO_SLOT = -1


class Counts:
    """Popularity, trend and co-visits of all items.

    Parameters
    ----------
    co_visit_half_life_ms : float
        Decay of the co-visits, and of the popularity that normalises them.
    trend_half_life_ms : float
        Decay of the trend.
    window : int
        Preceding events of the user that a new event is paired with.

    Attributes
    ----------
    writer : int
        The shard that `observe` adds to.
    """

    def __init__(self, co_visit_half_life_ms: float, trend_half_life_ms: float, window: int = WINDOW) -> None:
        self.co_visit_half_life_ms = co_visit_half_life_ms
        self.trend_half_life_ms = trend_half_life_ms
        self.writer = 0
        self._window = window
        self._pending: list[EventRun] = []
        self._pending_events = 0
        self._shards: dict[int, Shard] = {}
        self._slot: dict[int, int] = {}  # item key -> its index in all arrays here
        self._key = np.zeros(0, np.uint64)
        self._popularity = np.zeros(0)
        self._trend = np.zeros(0)
        self._dirty: set[int] = set()
        self._trending: list[int] = []
        self._observed_since_trending = 0
        self._mean_popularity = self._mean_trend = 0.0  # base-2 logarithms, of the items with events

    def observe(
        self, events: Sequence[Event], preceding: Sequence[int], earlier: Sequence[EarlierEvents] | None = None
    ) -> None:
        """Count events of one user: the popularity of each item, and a co-visit with each item before it.

        The events wait until `MAX_PENDING_EVENTS` are there or something is read, and are then counted together.

        Parameters
        ----------
        events : sequence of Event
            In the user's order.
        preceding : sequence of int
            Item keys of the user's history before the first event, newest last.
        earlier : sequence of EarlierEvents, optional
            For each event, what its user did about the same item earlier; None if each event is the user's first about
            its item.

        Notes
        -----
        One user cannot make an item popular. In popularity and trend an event counts `1 - 2^(-since / half_life)`: it
        brings the decayed sum of the user's own events about the item back to 1, and the sum never exceeds 1, however
        many events there are and in whatever order they come. In co-visits an event counts the same, or
        `1 / (1 + n)^2` after `n` earlier events where this is more: the sum of the latter stays below 1.65.
        """
        earlier = [NO_EARLIER_EVENTS] * len(events) if earlier is None else earlier
        for begin in range(0, len(events), MAX_PENDING_EVENTS):
            sequence = [*preceding, *(event.item for event in events[max(0, begin - self._window) : begin])]
            part = slice(begin, begin + MAX_PENDING_EVENTS)
            run = EventRun(events[part], sequence[-self._window :], earlier[part])
            self._pending.append(run)
            self._pending_events += len(run.events)
            if self._pending_events >= MAX_PENDING_EVENTS:
                self._count_pending()

    def co_visited(self, items: Sequence[int]) -> CoVisits:
        """Return all co-visits of these items (keys); an item without events has none."""
        self._count_pending()
        indices, slots = self._known(items)
        per_shard: list[tuple[Slots, Floats, Slots]] = []
        for shard in self._shards.values():
            rows = shard.find(slots)
            neighbours, strengths = shard.neighbours[rows].astype(np.intp), shard.strengths[rows]
            expected = (self._popularity[slots][:, None] + self._popularity[neighbours]) / 2
            used = np.flatnonzero((neighbours != NOBODY) & (expected > NEVER))
            similarities = np.exp2(np.minimum(0.0, strengths.ravel()[used] - expected.ravel()[used]))
            per_shard.append((neighbours.ravel()[used], similarities, indices[used // neighbours.shape[1]]))
        if not per_shard:
            return CoVisits(np.empty(0, np.uint64), np.empty(0), np.empty(0, np.intp))
        neighbours, similarities, query_indices = (np.concatenate(arrays) for arrays in zip(*per_shard, strict=True))
        return CoVisits(self._key[neighbours], similarities, query_indices)

    def popularity(self, item: int) -> float:
        """Return the base-2 logarithm of the item's decayed number of events at time 0; -inf if there was none."""
        self._count_pending()
        slot = self._slot.get(item)
        return NEVER if slot is None else float(self._popularity[slot])

    def trend(self, item: int) -> float:
        """Return the same as `popularity`, with the half-life of the trend."""
        self._count_pending()
        slot = self._slot.get(item)
        return NEVER if slot is None else float(self._trend[slot])

    def trending(self) -> list[int]:
        """Return the keys of the `MAX_TRENDING` items with the highest trend, highest first.

        Sorted anew once the events since the last time exceed 5% of the items, so the cost per event is bounded.
        """
        self._count_pending()
        if self._observed_since_trending * TRENDING_REFRESH >= len(self._slot):
            trend = self._trend[: len(self._slot)]
            slots = np.flatnonzero(trend > NEVER)
            if len(slots) > MAX_TRENDING:
                slots = slots[np.argpartition(trend[slots], -MAX_TRENDING)[-MAX_TRENDING:]]
            slots = slots[np.lexsort((self._key[slots], trend[slots]))[::-1]]
            self._trending = self._key[slots].tolist()
            self._mean_popularity = mean_of(self._popularity[: len(self._slot)])
            self._mean_trend = mean_of(trend)
            self._observed_since_trending = 0
        return self._trending

    def of_items(self, items: npt.NDArray[np.uint64], time_ms: int) -> ItemEvents:
        """Return what the events so far say about items (keys), seen from a time."""
        self.trending()
        indices, slots = self._known(items.tolist())
        counts = ItemEvents(*np.zeros((3, len(items))))
        popularity, age = self._popularity[slots], time_ms / self.co_visit_half_life_ms
        counts.popularity[indices] = np.exp2(popularity - self._mean_popularity)
        counts.trend[indices] = np.exp2(self._trend[slots] - self._mean_trend)
        counts.events[indices] = np.exp2(np.minimum(popularity - age, log2(MAX_EVENTS)))
        return counts

    def changes(self) -> list[tuple[int, int, ItemCounts]]:
        """Return the writer's rows that changed since the last call, as (shard, item, counts) to be stored."""
        return self.stored(self.take_changed())

    def take_changed(self) -> list[int]:
        """Return the slots whose rows in the writer's shard changed since the last call, for `stored`."""
        self._count_pending()
        changed, self._dirty = list(self._dirty), set()
        return changed

    def stored(self, slots: Sequence[int]) -> list[tuple[int, int, ItemCounts]]:
        """Return the writer's rows of these slots as they are now; see `changes`. A new writer may have fewer."""
        self._count_pending()
        shard, of_slots = self._shard(self.writer), np.array(slots, np.intp)
        of_slots = of_slots[shard.find(of_slots) != NO_ROW]
        rows = shard.find(of_slots)
        neighbours = shard.neighbours[rows]
        used, keys = neighbours != NOBODY, self._key[neighbours].astype("<u8")
        strengths = shard.strengths[rows].astype("<f8")
        columns = (shard.popularity[rows].tolist(), shard.trend[rows].tolist(), keys, strengths, used)
        items = self._key[of_slots].tolist()
        return [
            (self.writer, item, ItemCounts(popularity, trend, others[of].tobytes(), shares[of].tobytes()))
            for item, popularity, trend, others, shares, of in zip(items, *columns, strict=True)
        ]

    def put(self, shard: int, item: int, counts: ItemCounts) -> None:
        """Take in a row that a worker stored. A row of the own shard is ignored where memory has a newer one."""
        if not self.has_newer(shard, item):
            slots = self.slots([item, *np.frombuffer(counts.neighbours, "<u8").tolist()[:MAX_NEIGHBOURS]])
            strengths = np.frombuffer(counts.strengths, "<f8")[:MAX_NEIGHBOURS]
            self._shard(shard).put(slots[:1], slots[1:], counts.popularity, counts.trend, strengths)
            self._total(slots[:1])

    def has_newer(self, shard: int, item: int) -> bool:
        """Return whether a stored row of this item is older than the one here: the shard is the writer's own."""
        self._count_pending()
        slot = self._slot.get(item)
        return shard == self.writer and slot is not None and self._shard(shard).has(slot)

    def _count_pending(self) -> None:
        runs, self._pending, self._pending_events = self._pending, [], 0
        if not runs:
            return
        times = np.array([event.time_ms for run in runs for event in run.events], np.float64)
        columns = np.array([earlier for run in runs for earlier in run.earlier], np.float64).T
        self.count(pair(runs, self._window, self.slots), times, *columns)

    def count(self, pairs: EventPairs, times: Floats, since: Floats, earlier: Floats, weights: Floats) -> None:
        """Count events and their co-visits together, as `observe` does; nothing may be waiting from `observe`.

        Parameters
        ----------
        pairs : EventPairs
            With `slots` of items.
        times : (events,) float64
            Milliseconds since the epoch.
        since, earlier, weights : (events,) float64
            The fields of `EarlierEvents`.
        """
        own, others, distances, event_of = pairs
        share = weights * share_decayed(since, self.co_visit_half_life_ms)
        trend_share = weights * share_decayed(since, self.trend_half_life_ms)
        counted = share > 0
        shard = self._shard(self.writer)
        shard.add(
            own[counted],
            times[counted] / self.co_visit_half_life_ms + np.log2(share[counted]),
            times[counted] / self.trend_half_life_ms + np.log2(trend_share[counted]),
        )
        pair_share = np.maximum(share, weights / (1 + earlier) ** 2)[event_of]
        paired = pair_share > 0
        own_of_pair, others, event_of = own[event_of][paired], others[paired], event_of[paired]
        weights = np.log2(pair_share[paired]) + distances[paired] * log2(DISTANCE_DECAY)
        shard.pair(own_of_pair, others, times[event_of] / self.co_visit_half_life_ms + weights)
        self._total(own[counted])
        self._dirty.update(own[counted].tolist(), own_of_pair.tolist(), others.tolist())

    def _known(self, items: Sequence[int]) -> tuple[Slots, Slots]:
        """The items (keys) that have a slot: their indices among the items, and their slots."""
        slots = np.fromiter(map(self._slot.get, items, repeat(NO_SLOT)), np.intp, len(items))
        indices = np.flatnonzero(slots != NO_SLOT)
        return indices, slots[indices]

    def _shard(self, number: int) -> Shard:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = Shard()
        return shard

    def slots(self, items: Sequence[int]) -> Slots:
        """Return the slots of these items (keys), their indices here; an item without a slot gets a new one."""
        slots = np.fromiter(map(self._slot.get, items, repeat(NO_SLOT)), np.intp, len(items))
        if len(new := np.flatnonzero(slots == NO_SLOT)):
            slots[new] = [self._slot.setdefault(items[index], len(self._slot)) for index in new.tolist()]
            after = len(self._slot)
            self._key = grown(self._key, after, 0)
            self._key[slots] = np.array(items, np.uint64)
            self._popularity, self._trend = grown(self._popularity, after, NEVER), grown(self._trend, after, NEVER)
        return slots

    def _total(self, slots: Slots) -> None:
        """Sum the counts of these items over all shards."""
        self._popularity[slots] = np.logaddexp2.reduce([s.popularity[s.find(slots)] for s in self._shards.values()])
        self._trend[slots] = np.logaddexp2.reduce([s.trend[s.find(slots)] for s in self._shards.values()])
        self._observed_since_trending += len(slots)
