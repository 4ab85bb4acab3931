"""What all users did, counted as it happens: item popularity and co-visits, decayed by event time.

This is the item-based collaborative filter (Sarwar et al. 2001; cosine normalisation as in Deshpande and Karypis 2004),
kept incrementally. A decayed count `sum_i w_i 2^(-(T - t_i) / half_life)` is stored as its base-2 logarithm at T =
0: such numbers never need an update when time passes, never overflow, and take late events as they take any other.

Counts are sharded by writer: every worker adds to one shard of its own and reads all, so counts of several workers
add up and each shard can be stored and handed over by itself. Knows no transport; `streams.pipeline` feeds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest
from math import log2

import msgspec

from encoders.interest import Event

MOST_NEIGHBOURS = 100
"""Neighbours kept per item and shard; the weakest go first. Chosen by us: recall@100 needs no more."""
MOST_TRENDING = 1_000
NEVER = float("-inf")
WINDOW = 50
"""Earlier events of the user that a new one is paired with."""
DISTANCE_DECAY = 0.97
"""Weight per step between two events of a user: .97 was best of those tried on a shop's invoices."""


class ItemCounts(msgspec.Struct, array_like=True):
    """The counts of one item in one shard: base-2 logarithms of decayed counts at time 0."""

    popularity: float = NEVER
    trend: float = NEVER
    neighbours: dict[int, float] = {}


class Counts:
    """Popularity, trend and co-visits of all items.

    Parameters
    ----------
    co_visit_half_life_ms : decay of co-visits and of the popularity they are normalised by.
    trend_half_life_ms : decay of what is trending.

    Attributes
    ----------
    shards : shard -> item key -> counts.
    writer : the shard that `observe` adds to.
    dirty : items of the writer's shard changed since the last `changes`.
    """

    def __init__(self, co_visit_half_life_ms: float, trend_half_life_ms: float) -> None:
        self.co_visit_half_life_ms = co_visit_half_life_ms
        self.trend_half_life_ms = trend_half_life_ms
        self.writer = 0
        self.shards: dict[int, dict[int, ItemCounts]] = {}
        self.dirty: set[int] = set()
        self._popularity: dict[int, float] = {}
        self._trend: dict[int, float] = {}
        self._trending: list[tuple[int, float]] = []
        self._observed_since_trending = 0

    def observe(self, event: Event, earlier: Sequence[int], weight: float = 1.0) -> None:
        """Count one event: the item's popularity, and a co-visit with each item before it in the user's sequence.

        Parameters
        ----------
        earlier : item keys of the user's history before the event, newest last.
        """
        shard = self.shards.setdefault(self.writer, {})
        when = event.time_ms / self.co_visit_half_life_ms + log2(weight)
        own = shard.setdefault(event.item, ItemCounts())
        own.popularity = _add(own.popularity, when)
        own.trend = _add(own.trend, event.time_ms / self.trend_half_life_ms + log2(weight))
        self._total(event.item)
        self.dirty.add(event.item)
        seen = {event.item}
        for distance, other in enumerate(reversed(earlier[-WINDOW:])):
            if other in seen:
                continue
            seen.add(other)
            strength = when + distance * log2(DISTANCE_DECAY)
            _raise(own.neighbours, other, strength)
            _raise(shard.setdefault(other, ItemCounts()).neighbours, event.item, strength)
            self.dirty.add(other)

    def co_visited(self, item: int) -> dict[int, float]:
        """Cosine-normalised co-visits of one item: `c(i, j) / sqrt(n(i) n(j))`, 0 to about 1, by item key."""
        similar: dict[int, float] = {}
        own = self.popularity(item)
        for shard in self.shards.values():
            if row := shard.get(item):
                for other, strength in row.neighbours.items():
                    popularity = self._popularity.get(other)
                    if popularity is not None:
                        similar[other] = similar.get(other, 0.0) + 2.0 ** min(0.0, strength - (own + popularity) / 2)
        return similar

    def popularity(self, item: int) -> float:
        """Base-2 logarithm of the decayed number of events at time 0; -inf if there was none."""
        return self._popularity.get(item, NEVER)

    def trending(self) -> list[tuple[int, float]]:
        """The `MOST_TRENDING` items with the most events lately, first the most, with the base-2 logarithm of the
        count.

        Sorted anew once the events since then exceed 5% of the items, so the cost per event is bounded.
        """
        if self._observed_since_trending * 20 >= len(self._trend):
            self._trending = nlargest(MOST_TRENDING, self._trend.items(), key=lambda pair: (pair[1], pair[0]))
            self._observed_since_trending = 0
        return self._trending

    def changes(self) -> list[tuple[int, int, ItemCounts]]:
        """The writer's rows changed since the last call, as (shard, item, counts); each is then as stored."""
        shard = self.shards.get(self.writer, {})
        changed = [(self.writer, item, shard[item]) for item in self.dirty]
        self.dirty = set()
        return changed

    def put(self, shard: int, item: int, counts: ItemCounts) -> None:
        """Take in a row that some worker stored; rows of our own shard are ours to know better."""
        if not self.knows_better(shard, item):
            self.shards.setdefault(shard, {})[item] = counts
            self._total(item)

    def knows_better(self, shard: int, item: int) -> bool:
        """Whether a stored row of this item would be older than ours: it is our own."""
        return shard == self.writer and item in self.shards.get(shard, {})

    def _total(self, item: int) -> None:
        rows = [row for shard in self.shards.values() if (row := shard.get(item))]
        if (popularity := _sum(row.popularity for row in rows)) > NEVER:
            self._popularity[item] = popularity
            self._trend[item] = _sum(row.trend for row in rows)
            self._observed_since_trending += 1


def _add(a: float, b: float) -> float:
    high, low = (a, b) if a >= b else (b, a)
    return high if low == NEVER else high + log2(1.0 + 2.0 ** (low - high))


def _sum(logs: Iterable[float]) -> float:
    total = NEVER
    for value in logs:
        total = _add(total, value)
    return total


def _raise(neighbours: dict[int, float], item: int, strength: float) -> None:
    neighbours[item] = _add(neighbours.get(item, NEVER), strength)
    if len(neighbours) > 2 * MOST_NEIGHBOURS:
        for weak in sorted(neighbours, key=lambda other: neighbours[other])[:MOST_NEIGHBOURS]:
            del neighbours[weak]
