"""What all users did, counted as it happens: item popularity and co-visits, decayed by event time.

This is the item-based collaborative filter (Sarwar et al. 2001; cosine normalisation as in Deshpande and Karypis 2004),
kept incrementally. A decayed count `sum_i w_i 2^(-(T - t_i) / half_life)` is stored as its base-2 logarithm at T =
0: such numbers never need an update when time passes, never overflow, and take late events as they take any other.

Counts are sharded by writer: every worker adds to one shard of its own and reads all, so counts of several workers
add up and each shard can be stored and handed over by itself. A shard is tables, a row per item and a column per
neighbour, for an event touches up to fifty items and a list asks for as many. Knows no transport; `streams.pipeline`
feeds it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import log2
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from encoders.interest import Event

MOST_NEIGHBOURS = 128
"""Neighbours kept per item and shard; a new one takes the place of the weakest. Chosen by us: recall@100 needs no
more."""
MOST_TRENDING = 1_000
NEVER = float("-inf")
WINDOW = 50
"""Earlier events of the user that a new one is paired with."""
DISTANCE_DECAY = 0.97
"""Weight per step between two events of a user: .97 was best of those tried on a shop's invoices."""

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.intp]
Scalar = TypeVar("Scalar", bound=np.generic)


class ItemCounts(msgspec.Struct, array_like=True):
    """The counts of one item in one shard, as stored: base-2 logarithms of decayed counts at time 0."""

    popularity: float = NEVER
    trend: float = NEVER
    neighbours: dict[int, float] = {}


class CoVisits(NamedTuple):
    """Co-visits of several items, one entry per pair and shard.

    Attributes
    ----------
    items : (n,) uint64, keys of the items that were visited together with one asked for; may repeat.
    similarities : (n,) float64, cosine-normalised: `c(i, j) / sqrt(n(i) n(j))`, 0 to 1.
    places : (n,) intp, which of the items asked for.
    """

    items: npt.NDArray[np.uint64]
    similarities: Floats
    places: Slots


class Counts:
    """Popularity, trend and co-visits of all items.

    Parameters
    ----------
    co_visit_half_life_ms : decay of co-visits and of the popularity they are normalised by.
    trend_half_life_ms : decay of what is trending.

    Attributes
    ----------
    writer : the shard that `observe` adds to.
    """

    def __init__(self, co_visit_half_life_ms: float, trend_half_life_ms: float) -> None:
        self.co_visit_half_life_ms = co_visit_half_life_ms
        self.trend_half_life_ms = trend_half_life_ms
        self.writer = 0
        self._shards: dict[int, _Shard] = {}
        self._slot: dict[int, int] = {}  # item key -> its number in all arrays here
        self._key = np.zeros(0, np.uint64)
        self._popularity = np.zeros(0)
        self._trend = np.zeros(0)
        self._dirty: set[int] = set()
        self._trending: list[int] = []
        self._observed_since_trending = 0
        self._mean_popularity = self._mean_trend = 0.0  # base-2 logarithms, of the items with events

    def observe(self, event: Event, earlier: Sequence[int], weight: float = 1.0) -> None:
        """Count one event: the item's popularity, and a co-visit with each item before it in the user's sequence.

        Parameters
        ----------
        earlier : item keys of the user's history before the event, newest last.
        """
        when = event.time_ms / self.co_visit_half_life_ms + log2(weight)
        nearest: dict[int, int] = {}
        for distance, other in enumerate(reversed(earlier[-WINDOW:])):
            nearest.setdefault(other, distance)
        nearest.pop(event.item, None)
        own, others = self._slots([event.item]), self._slots(nearest)
        shard = self._shard(self.writer)
        shard.add(own, when, event.time_ms / self.trend_half_life_ms + log2(weight))
        self._total(own)
        self._dirty.update(own.tolist(), others.tolist())
        if len(others):
            shard.pair(own, others, when + np.array(list(nearest.values())) * log2(DISTANCE_DECAY))

    def co_visited(self, items: Sequence[int]) -> CoVisits:
        """All co-visits of these items (keys); of an item without events there are none."""
        asked = [(place, slot) for place, item in enumerate(items) if (slot := self._slot.get(item)) is not None]
        places, slots = np.array(asked, np.intp).reshape(-1, 2).T
        found: list[tuple[Slots, Floats, Slots]] = []
        for shard in self._shards.values():
            rows = shard.find(slots)
            neighbours, strengths = shard.neighbours[rows].astype(np.intp), shard.strengths[rows]
            expected = (self._popularity[slots][:, None] + self._popularity[neighbours]) / 2
            row, column = np.nonzero((neighbours != NOBODY) & (expected > NEVER))
            similarities = np.exp2(np.minimum(0.0, strengths[row, column] - expected[row, column]))
            found.append((neighbours[row, column], similarities, places[row]))
        if not found:
            return CoVisits(np.empty(0, np.uint64), np.empty(0), np.empty(0, np.intp))
        neighbours, similarities, places = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return CoVisits(self._key[neighbours], similarities, places)

    def popularity(self, item: int) -> float:
        """Base-2 logarithm of the decayed number of events at time 0; -inf if there was none."""
        slot = self._slot.get(item)
        return NEVER if slot is None else float(self._popularity[slot])

    def trending(self) -> list[int]:
        """Keys of the `MOST_TRENDING` items with the most events lately, first the most.

        Sorted anew once the events since then exceed 5% of the items, so the cost per event is bounded.
        """
        if self._observed_since_trending * 20 >= len(self._slot):
            trend = self._trend[: len(self._slot)]
            slots = np.flatnonzero(trend > NEVER)
            if len(slots) > MOST_TRENDING:
                slots = slots[np.argpartition(trend[slots], -MOST_TRENDING)[-MOST_TRENDING:]]
            slots = slots[np.lexsort((self._key[slots], trend[slots]))[::-1]]
            self._trending = self._key[slots].tolist()
            self._mean_popularity = _mean(self._popularity[: len(self._slot)])
            self._mean_trend = _mean(trend)
            self._observed_since_trending = 0
        return self._trending

    def trend(self, item: int) -> float:
        """Base-2 logarithm of the decayed number of events lately, at time 0; -inf if there was none."""
        slot = self._slot.get(item)
        return NEVER if slot is None else float(self._trend[slot])

    def relative(self, items: npt.NDArray[np.uint64]) -> tuple[Floats, Floats]:
        """Decayed popularity and trend of items (keys), each over its mean among the items with events.

        Returns
        -------
        Two (n,) float64, 0 and more; the means are as of the last sorting of what is trending.
        """
        self.trending()
        asked = [
            (place, slot) for place, item in enumerate(items.tolist()) if (slot := self._slot.get(item)) is not None
        ]
        places, slots = np.array(asked, np.intp).reshape(-1, 2).T
        popularity, trend = np.zeros(len(items)), np.zeros(len(items))
        popularity[places] = np.exp2(self._popularity[slots] - self._mean_popularity)
        trend[places] = np.exp2(self._trend[slots] - self._mean_trend)
        return popularity, trend

    def changes(self) -> list[tuple[int, int, ItemCounts]]:
        """The writer's rows changed since the last call, as (shard, item, counts); each is then as stored."""
        dirty, self._dirty = list(self._dirty), set()
        shard = self._shard(self.writer)
        changed = []
        for slot, row in zip(dirty, shard.find(np.array(dirty, np.intp)), strict=True):
            kept = shard.neighbours[row] != NOBODY
            neighbours = self._key[shard.neighbours[row][kept]].tolist()
            counts = ItemCounts(
                float(shard.popularity[row]),
                float(shard.trend[row]),
                dict(zip(neighbours, shard.strengths[row][kept].tolist(), strict=True)),
            )
            changed.append((self.writer, int(self._key[slot]), counts))
        return changed

    def put(self, shard: int, item: int, counts: ItemCounts) -> None:
        """Take in a row that some worker stored; rows of our own shard are ours to know better."""
        if not self.knows_better(shard, item):
            slots = self._slots([item, *list(counts.neighbours)[:MOST_NEIGHBOURS]])
            self._shard(shard).put(slots[:1], slots[1:], counts)
            self._total(slots[:1])

    def knows_better(self, shard: int, item: int) -> bool:
        """Whether a stored row of this item would be older than ours: it is our own."""
        slot = self._slot.get(item)
        return shard == self.writer and slot is not None and self._shard(shard).find(np.array([slot]))[0] != NO_ROW

    def _shard(self, number: int) -> _Shard:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = _Shard()
        return shard

    def _slots(self, items: Collection[int]) -> Slots:
        """The numbers of these items, new ones where they have none."""
        before = len(self._slot)
        slots = np.array([self._slot.setdefault(item, len(self._slot)) for item in items], np.intp)
        if (known := len(self._slot)) > before:
            self._key = _grown(self._key, known, 0)
            self._key[slots] = np.array(list(items), np.uint64)
            self._popularity, self._trend = _grown(self._popularity, known, NEVER), _grown(self._trend, known, NEVER)
        return slots

    def _total(self, slot: Slots) -> None:
        self._popularity[slot] = np.logaddexp2.reduce([s.popularity[s.find(slot)] for s in self._shards.values()])
        self._trend[slot] = np.logaddexp2.reduce([s.trend[s.find(slot)] for s in self._shards.values()])
        self._observed_since_trending += 1


NO_ROW, NOBODY = 0, -1
"""Row 0 of a shard stays empty, for every item that it has not seen; so do a row's columns without a neighbour."""


class _Shard:
    """One writer's counts as tables of base-2 logarithms."""

    def __init__(self) -> None:
        self.popularity = np.full(1, NEVER)
        self.trend = np.full(1, NEVER)
        self.neighbours = np.full((1, MOST_NEIGHBOURS), NOBODY, np.int32)  # by slot
        self.strengths = np.full((1, MOST_NEIGHBOURS), NEVER)
        self._row = np.zeros(0, np.int32)  # of a slot
        self._rows = 1

    def find(self, slots: Slots) -> Slots:
        """The rows of these slots."""
        self._row = _grown(self._row, int(slots.max(initial=-1)) + 1, NO_ROW)
        return self._row[slots].astype(np.intp)

    def add(self, slot: Slots, popularity: float, trend: float) -> None:
        """Count an event of one item."""
        row = self._made(slot)
        self.popularity[row] = np.logaddexp2(self.popularity[row], popularity)
        self.trend[row] = np.logaddexp2(self.trend[row], trend)

    def pair(self, slot: Slots, others: Slots, strengths: Floats) -> None:
        """Count a co-visit of one item with each of the others; these are distinct, and not that one."""
        rows = self._made(others)
        is_slot = self.neighbours[rows] == slot
        columns = np.where(is_slot.any(axis=1), is_slot.argmax(axis=1), self.strengths[rows].argmin(axis=1))
        self._strengthen(rows, columns, slot, strengths)

        row = self._made(slot)
        is_other = self.neighbours[row] == others[:, None]
        known = is_other.any(axis=1)
        columns = is_other.argmax(axis=1)
        weakness = self.strengths[row[0]].copy()
        weakness[columns[known]] = np.inf
        columns[~known] = weakness.argsort()[: len(others) - known.sum()]
        self._strengthen(row, columns, others, strengths)

    def put(self, slot: Slots, neighbours: Slots, counts: ItemCounts) -> None:
        """Replace the row of one item."""
        row = self._made(slot)[0]
        self.popularity[row], self.trend[row] = counts.popularity, counts.trend
        self.neighbours[row], self.strengths[row] = NOBODY, NEVER
        self.neighbours[row, : len(neighbours)] = neighbours
        self.strengths[row, : len(neighbours)] = list(counts.neighbours.values())[: len(neighbours)]

    def _strengthen(self, rows: Slots, columns: Slots, neighbours: Slots, strengths: Floats) -> None:
        """Add to the neighbours in these places; one that was not there takes the place of who was."""
        same = self.neighbours[rows, columns] == neighbours
        before = np.where(same, self.strengths[rows, columns], NEVER)
        self.neighbours[rows, columns] = neighbours
        self.strengths[rows, columns] = np.logaddexp2(before, strengths)

    def _made(self, slots: Slots) -> Slots:
        """The rows of these slots, new ones where they have none."""
        rows = self.find(slots)
        new = rows == NO_ROW
        if new.any():
            rows[new] = self._rows + np.arange(new.sum())
            self._row[slots] = rows
            self._rows += int(new.sum())
            self.popularity, self.trend = (_grown(a, self._rows, NEVER) for a in (self.popularity, self.trend))
            self.neighbours = _grown(self.neighbours, self._rows, NOBODY)
            self.strengths = _grown(self.strengths, self._rows, NEVER)
        return rows


def _mean(logarithms: Floats) -> float:
    """Base-2 logarithm of the mean count of the items that have events; 0 if none has."""
    counted = logarithms[logarithms > NEVER]
    return float(np.logaddexp2.reduce(counted)) - log2(len(counted)) if len(counted) else 0.0


def _grown(array: npt.NDArray[Scalar], length: int, fill: float) -> npt.NDArray[Scalar]:
    """The array with at least that many rows; doubled, so that growing costs little per row."""
    if length <= len(array):
        return array
    more = max(length - len(array), len(array), 64)
    return np.concatenate([array, np.full((more, *array.shape[1:]), fill, array.dtype)])
