"""The counts of one writer as tables: a row per item and a column per neighbour.

An event touches up to fifty items and a list reads as many; with tables, each of these is a few array operations. All
numbers are base-2 logarithms. A slot is an item's index in the caller's arrays. Knows no item key and no time.
"""

from __future__ import annotations

from math import log2
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

MAX_NEIGHBOURS = 128
"""Neighbours kept per item and shard; a new one replaces the weakest. Chosen by us: recall@100 needs no more."""
NEVER = float("-inf")
"""The logarithm of a count of 0."""
NO_ROW, NOBODY = 0, -1
"""Row 0 of a shard stays empty and stands for every item that the shard has not seen; `NOBODY` is an unused column."""

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.intp]
Scalar = TypeVar("Scalar", bound=np.generic)


class CoVisits(NamedTuple):
    """Co-visits of several items, one entry per pair and shard.

    Attributes
    ----------
    items : (n,) uint64
        Keys of the items that were visited together with a queried item; a key may repeat.
    similarities : (n,) float64
        Cosine-normalised: `c(i, j) / sqrt(n(i) n(j))`, 0 to 1.
    query_indices : (n,) intp
        The index of the queried item.
    """

    items: npt.NDArray[np.uint64]
    similarities: Floats
    query_indices: Slots


class ItemEvents(NamedTuple):
    """What the events of all users say about some items.

    Attributes
    ----------
    popularity, trend : (n,) float64
        Decayed, over the mean of the items with events; 0 or more. The means are those of the last sorting in
        `Counts.trending`.
    events : (n,) float64
        The number of events, decayed like the popularity until the time in question: 0 to `MAX_EVENTS`. Later events
        count more than 1.
    """

    popularity: Floats
    trend: Floats
    events: Floats


class Shard:
    """The counts of one writer.

    Attributes
    ----------
    popularity, trend : (rows,) float64
        Base-2 logarithms of decayed counts.
    neighbours : (rows, MAX_NEIGHBOURS) int32
        Slots of the items visited together with a row's item; `NOBODY` where there is none.
    strengths : (rows, MAX_NEIGHBOURS) float64
        Base-2 logarithms of the co-visits with each neighbour.
    """

    def __init__(self) -> None:
        self.popularity = np.full(1, NEVER)
        self.trend = np.full(1, NEVER)
        self.neighbours = np.full((1, MAX_NEIGHBOURS), NOBODY, np.int32)
        self.strengths = np.full((1, MAX_NEIGHBOURS), NEVER)
        self._row = np.zeros(0, np.int32)  # of a slot
        self._rows = 1

    def find(self, slots: Slots) -> Slots:
        """Return the rows of these slots, `NO_ROW` where there is none."""
        self._row = grown(self._row, int(slots.max(initial=-1)) + 1, NO_ROW)
        return self._row[slots].astype(np.intp)

    def has(self, slot: int) -> bool:
        """Return whether the slot has a row."""
        return slot < len(self._row) and self._row.item(slot) != NO_ROW

    def add(self, slots: Slots, popularity: Floats, trend: Floats) -> None:
        """Count one event of each of these items; an item may repeat."""
        rows = self._find_or_add(slots)
        np.logaddexp2.at(self.popularity, rows, popularity)
        np.logaddexp2.at(self.trend, rows, trend)

    def pair(self, slots: Slots, others: Slots, strengths: Floats) -> None:
        """Count co-visits of two different items each; a pair may repeat.

        A new neighbour of an item replaces its weakest one, however strong that is; no neighbour of the same call is
        replaced. This leaves new neighbours room to grow: where they replaced only weaker ones, `next-basket`'s
        NDCG@10 on Online Retail, without a model, was .068 instead of .089, and recall@100 .22 instead of .26.
        """
        if not len(slots):
            return
        rows = self._find_or_add(np.concatenate([slots, others]))
        neighbours, strengths = np.concatenate([others, slots]), np.concatenate([strengths, strengths])
        order = np.argsort(pairs := rows << 32 | neighbours)
        first = np.flatnonzero(is_first(pairs[order]))
        strengths = np.logaddexp2.reduceat(strengths[order], first)
        rows, neighbours = rows[order[first]], neighbours[order[first]]

        matches = self.neighbours[rows] == neighbours[:, None]
        columns = matches.argmax(axis=1)
        present = matches[np.arange(len(rows)), columns]
        self.strengths[rows[present], columns[present]] = np.logaddexp2(
            self.strengths[rows[present], columns[present]], strengths[present]
        )
        if present.all():
            return
        begins_row = is_first(rows)
        row_of = np.cumsum(begins_row) - 1
        weakness = self.strengths[rows[begins_row]]
        weakness[row_of[present], columns[present]] = np.inf  # neighbours of this call stay
        new = np.flatnonzero(~present)
        new = new[np.lexsort((-strengths[new], row_of[new]))]
        begins_row = is_first(row_of[new])
        rank = np.arange(len(new)) - np.flatnonzero(begins_row)[np.cumsum(begins_row) - 1]
        fits = rank < (weakness < np.inf).sum(axis=1)[row_of[new]]  # else stronger ones of this call fill the row
        new, rank = new[fits], rank[fits]
        columns = weakness.argmin(axis=1)[row_of[new]]
        if (others := rank > 0).any():  # of few rows: most have one new neighbour, and a sort of all is the most costly
            row_of_others = row_of[new[others]]
            begins_row = is_first(row_of_others)
            sorted_columns = weakness[row_of_others[begins_row]].argsort(axis=1, kind="stable")
            columns[others] = sorted_columns[np.cumsum(begins_row) - 1, rank[others]]
        self.neighbours[rows[new], columns] = neighbours[new]
        self.strengths[rows[new], columns] = strengths[new]

    def put(self, slot: Slots, neighbours: Slots, popularity: float, trend: float, strengths: Floats) -> None:
        """Replace the row of one item."""
        row = self._find_or_add(slot)[0]
        self.popularity[row], self.trend[row] = popularity, trend
        self.neighbours[row], self.strengths[row] = NOBODY, NEVER
        self.neighbours[row, : len(neighbours)] = neighbours
        self.strengths[row, : len(neighbours)] = strengths

    def _find_or_add(self, slots: Slots) -> Slots:
        """The rows of these slots; a slot without a row gets a new one."""
        rows = self.find(slots)
        if (is_new := rows == NO_ROW).any():
            new = np.unique(slots[is_new])
            self._row[new] = self._rows + np.arange(len(new))
            self._rows += len(new)
            rows = self.find(slots)
            self.popularity, self.trend = (grown(a, self._rows, NEVER) for a in (self.popularity, self.trend))
            self.neighbours = grown(self.neighbours, self._rows, NOBODY)
            self.strengths = grown(self.strengths, self._rows, NEVER)
        return rows


def grown(array: npt.NDArray[Scalar], length: int, fill: float) -> npt.NDArray[Scalar]:
    """Return the array with at least `length` rows. It doubles, so that growing costs little per row."""
    if length <= len(array):
        return array
    added = max(length - len(array), len(array), 64)
    return np.concatenate([array, np.full((added, *array.shape[1:]), fill, array.dtype)])


def is_first(ascending: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which of the ascending values are the first ones of their kind, (n,) bool."""
    first = np.ones(len(ascending), bool)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return first


def share_decayed(since_ms: Floats, half_life_ms: float) -> Floats:
    """Return the share of a count of 1 that has decayed after this time: 0 to 1."""
    share: Floats = -np.expm1(-np.log(2) / half_life_ms * np.maximum(since_ms, 0.0))
    return share


def mean_of(logarithms: Floats) -> float:
    """Return the base-2 logarithm of the mean count of the items that have events; 0 if none has."""
    with_events = logarithms[logarithms > NEVER]
    return float(np.logaddexp2.reduce(with_events)) - log2(len(with_events)) if len(with_events) else 0.0
