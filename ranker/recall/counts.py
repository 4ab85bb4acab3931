"""What all users did, counted as it happens: item popularity and co-visits, decayed by event time.

This is the item-based collaborative filter (Sarwar et al. 2001; cosine normalisation as in Deshpande and Karypis 2004),
kept incrementally. A decayed count `sum_i w_i 2^(-(T - t_i) / half_life)` is stored as its base-2 logarithm at T =
0: such numbers never need an update when time passes, never overflow, and take late events as they take any other.

Counts are sharded by writer: every worker adds to one shard of its own and reads all, so counts of several workers
add up and each shard can be stored and handed over by itself. Knows no transport; `streams.state.tier` feeds it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf, log2
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from encoders.interest import Event
from ranker.recall.count_tables import MOST_NEIGHBOURS, NEVER, NO_ROW, NOBODY, Floats, Shard, Slots, grown

MOST_TRENDING = 1_000
WINDOW = 50
"""Earlier events of the user that a new one is paired with; as many as a state remembers."""
FOLD = 512
"""Events counted together at most: enough to share the work, milliseconds of it at the most."""
DISTANCE_DECAY = 0.97
"""Weight per step between two events of a user: .97 was best of those tried on a shop's invoices."""


_KEY = re.compile(rb"([0-9]{1,4}):([0-9]{1,20})")
"""A shard is a partition's number: more than 10,000 of them have other troubles."""


class ItemCounts(msgspec.Struct, array_like=True):
    """The counts of one item in one shard, as stored: base-2 logarithms of decayed counts at time 0.

    Attributes
    ----------
    neighbours : `(n,)` little-endian uint64, the keys of the items visited with it, n <= `MOST_NEIGHBOURS`.
    strengths : `(n,)` little-endian float64, the co-visits with each.
    """

    popularity: float = NEVER
    trend: float = NEVER
    neighbours: bytes = b""
    strengths: bytes = b""


_decoder = msgspec.msgpack.Decoder(ItemCounts)


def encode_counts(shard: int, item: int, counts: ItemCounts) -> tuple[bytes, bytes]:
    """Give key and value under which the counts of an item are stored."""
    return f"{shard}:{item}".encode(), msgspec.msgpack.encode(counts)


def decode_counts(key: bytes | None, value: bytes) -> tuple[int, int, ItemCounts]:
    """Read what `encode_counts` wrote: shard, item key and counts.

    Raises
    ------
    ValueError
        It is something else; taken in, a NaN would spread to every sum.
    """
    match = _KEY.fullmatch(key or b"")
    if match is None:
        raise ValueError("item counts: got another key, expected shard:item; nobody else may write to this topic")
    try:
        counts = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"item counts: got {error}, expected counts; nobody else may write to this topic") from None
    if len(counts.neighbours) != len(counts.strengths) or len(counts.neighbours) % 8:
        raise ValueError("item counts: got arrays that do not fit, expected 8 bytes each; nobody else may write here")
    if not (counts.popularity < inf and counts.trend < inf and (np.frombuffer(counts.strengths, "<f8") < inf).all()):
        raise ValueError("item counts: got a number that is none, expected logarithms; nobody else may write here")
    shard, item = int(match[1]), int(match[2])
    if item >= 2**64:
        raise ValueError("item counts: got a key over 64 bits, expected an item's; nobody else may write here")
    return shard, item, counts


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


class Before(NamedTuple):
    """What the user of an event did about its item before.

    Attributes
    ----------
    since_ms : time since the newest of those events; 0 and less if it is newer than this one, `inf` if there is none.
    events : how many there are.
    """

    since_ms: float
    events: float


FIRST, NOT_COUNTED = Before(inf, 0), Before(0.0, inf)


class _Run(NamedTuple):
    """Events of one user, each of which comes after those before it."""

    events: Sequence[Event]
    earlier: Sequence[int]
    before: Sequence[Before]


class Counts:
    """Popularity, trend and co-visits of all items.

    Parameters
    ----------
    co_visit_half_life_ms : decay of co-visits and of the popularity they are normalised by.
    trend_half_life_ms : decay of what is trending.
    window : earlier events of the user that a new one is paired with.

    Attributes
    ----------
    writer : the shard that `observe` adds to.
    """

    def __init__(self, co_visit_half_life_ms: float, trend_half_life_ms: float, window: int = WINDOW) -> None:
        self.co_visit_half_life_ms = co_visit_half_life_ms
        self.trend_half_life_ms = trend_half_life_ms
        self.writer = 0
        self._window = window
        self._noted: list[_Run] = []
        self._noted_events = 0
        self._shards: dict[int, Shard] = {}
        self._slot: dict[int, int] = {}  # item key -> its number in all arrays here
        self._key = np.zeros(0, np.uint64)
        self._popularity = np.zeros(0)
        self._trend = np.zeros(0)
        self._dirty: set[int] = set()
        self._trending: list[int] = []
        self._observed_since_trending = 0
        self._mean_popularity = self._mean_trend = 0.0  # base-2 logarithms, of the items with events

    def observe(self, events: Sequence[Event], earlier: Sequence[int], before: Sequence[Before] | None = None) -> None:
        """Count events of one user: each item's popularity, and a co-visit with each item before it in the sequence.

        They are noted here and counted together with others, `FOLD` at the most, before anything is read.

        Parameters
        ----------
        events : in the user's order.
        earlier : item keys of the user's history before the first of them, newest last.
        before : for each event; None: each is its user's first about its item.

        Notes
        -----
        One user cannot make an item popular. In popularity and trend an event counts `1 - 2^(-since / half_life)`: it
        brings the decayed sum of the user's own events about the item back to 1, and the sum never exceeds 1, however
        many they are and in whatever order they come. In co-visits an event counts that much, or `1 / (1 + n)^2` after
        `n` others where this is more: the sum of the latter stays below 1.65.
        """
        before = [FIRST] * len(events) if before is None else before
        for begin in range(0, len(events), FOLD):
            sequence = [*earlier, *(event.item for event in events[max(0, begin - self._window) : begin])]
            some = slice(begin, begin + FOLD)
            run = _Run(events[some], sequence[-self._window :], before[some])
            self._noted.append(run)
            self._noted_events += len(run.events)
            if self._noted_events >= FOLD:
                self._fold()

    def co_visited(self, items: Sequence[int]) -> CoVisits:
        """All co-visits of these items (keys); of an item without events there are none."""
        self._fold()
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
        self._fold()
        slot = self._slot.get(item)
        return NEVER if slot is None else float(self._popularity[slot])

    def trending(self) -> list[int]:
        """Keys of the `MOST_TRENDING` items with the most events lately, first the most.

        Sorted anew once the events since then exceed 5% of the items, so the cost per event is bounded.
        """
        self._fold()
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
        self._fold()
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
        self._fold()
        dirty, self._dirty = list(self._dirty), set()
        shard = self._shard(self.writer)
        changed = []
        for slot, row in zip(dirty, shard.find(np.array(dirty, np.intp)), strict=True):
            kept = shard.neighbours[row] != NOBODY
            counts = ItemCounts(
                float(shard.popularity[row]),
                float(shard.trend[row]),
                self._key[shard.neighbours[row][kept]].astype("<u8").tobytes(),
                shard.strengths[row][kept].astype("<f8").tobytes(),
            )
            changed.append((self.writer, int(self._key[slot]), counts))
        return changed

    def put(self, shard: int, item: int, counts: ItemCounts) -> None:
        """Take in a row that some worker stored; rows of our own shard are ours to know better."""
        if not self.knows_better(shard, item):
            slots = self._slots([item, *np.frombuffer(counts.neighbours, "<u8").tolist()[:MOST_NEIGHBOURS]])
            strengths = np.frombuffer(counts.strengths, "<f8")[:MOST_NEIGHBOURS]
            self._shard(shard).put(slots[:1], slots[1:], counts.popularity, counts.trend, strengths)
            self._total(slots[:1])

    def knows_better(self, shard: int, item: int) -> bool:
        """Whether a stored row of this item would be older than ours: it is our own."""
        self._fold()
        slot = self._slot.get(item)
        return shard == self.writer and slot is not None and self._shard(shard).find(np.array([slot]))[0] != NO_ROW

    def _fold(self) -> None:
        """Count what was noted."""
        runs, self._noted, self._noted_events = self._noted, [], 0
        if not runs:
            return
        own, others, distances, of_event = self._pairs(runs)
        times = np.array([event.time_ms for run in runs for event in run.events], np.float64)
        since, events = np.array([before for run in runs for before in run.before], np.float64).T
        of_season, of_days = _share(since, self.co_visit_half_life_ms), _share(since, self.trend_half_life_ms)
        counted = of_season > 0
        shard = self._shard(self.writer)
        shard.add(
            own[counted],
            times[counted] / self.co_visit_half_life_ms + np.log2(of_season[counted]),
            times[counted] / self.trend_half_life_ms + np.log2(of_days[counted]),
        )
        together = np.maximum(of_season, 1 / (1 + events) ** 2)[of_event]
        paired = together > 0
        own_of_pair, others, of_event = own[of_event][paired], others[paired], of_event[paired]
        weights = np.log2(together[paired]) + distances[paired] * log2(DISTANCE_DECAY)
        shard.pair(own_of_pair, others, times[of_event] / self.co_visit_half_life_ms + weights)
        self._total(own[counted])
        self._dirty.update(own[counted].tolist(), own_of_pair.tolist(), others.tolist())

    def _pairs(self, runs: Sequence[_Run]) -> tuple[Slots, Slots, Slots, Slots]:
        """All co-visits of these runs.

        Returns
        -------
        The slot of each event's item; then, an entry per co-visit, the other item's slot, how many events lie between,
        and the place of the event.
        """
        lengths = np.array([len(run.events) for run in runs])
        earlier = np.array([len(run.earlier) for run in runs])
        sequence = self._slots([key for run in runs for key in (*run.earlier, *(event.item for event in run.events))])
        begin_of_run = np.cumsum(earlier + lengths) - earlier - lengths
        place_in_run = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - earlier, lengths)
        own_places = np.repeat(begin_of_run, lengths) + place_in_run
        own = sequence[own_places]
        counted = np.minimum(place_in_run, self._window)
        of_event = np.repeat(np.arange(len(own)), counted)
        distances = np.arange(counted.sum()) - np.repeat(np.cumsum(counted) - counted, counted)
        others = sequence[own_places[of_event] - 1 - distances]
        # of an item that is there several times the nearest counts; the item itself does not
        nearest = np.unique(of_event << 32 | others, return_index=True)[1]
        nearest = nearest[others[nearest] != own[of_event[nearest]]]
        return own, others[nearest], distances[nearest], of_event[nearest]

    def _shard(self, number: int) -> Shard:
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = Shard()
        return shard

    def _slots(self, items: Sequence[int]) -> Slots:
        """The numbers of these items, new ones where they have none."""
        before = len(self._slot)
        slots = np.array([self._slot.setdefault(item, len(self._slot)) for item in items], np.intp)
        if (known := len(self._slot)) > before:
            self._key = grown(self._key, known, 0)
            self._key[slots] = np.array(items, np.uint64)
            self._popularity, self._trend = grown(self._popularity, known, NEVER), grown(self._trend, known, NEVER)
        return slots

    def _total(self, slots: Slots) -> None:
        self._popularity[slots] = np.logaddexp2.reduce([s.popularity[s.find(slots)] for s in self._shards.values()])
        self._trend[slots] = np.logaddexp2.reduce([s.trend[s.find(slots)] for s in self._shards.values()])
        self._observed_since_trending += len(slots)


def _share(since_ms: Floats, half_life_ms: float) -> Floats:
    """How much of a count of 1 has decayed after this time: 0 to 1."""
    share: Floats = -np.expm1(-np.log(2) / half_life_ms * np.maximum(since_ms, 0.0))
    return share


def _mean(logarithms: Floats) -> float:
    """Base-2 logarithm of the mean count of the items that have events; 0 if none has."""
    counted = logarithms[logarithms > NEVER]
    return float(np.logaddexp2.reduce(counted)) - log2(len(counted)) if len(counted) else 0.0
