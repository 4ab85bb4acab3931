"""One writer's counts as tables: a row per item and a column per neighbour.

So tables because an event touches up to fifty items and a list asks for as many: both are a few array operations. All
numbers are base-2 logarithms (see `counts`, which calls this); items are numbers of its own, slots.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

MOST_NEIGHBOURS = 128
"""Neighbours kept per item and shard; a new one takes the place of the weakest. Chosen by us: recall@100 needs no
more."""
NEVER = float("-inf")
NO_ROW, NOBODY = 0, -1
"""Row 0 of a shard stays empty, for every item that it has not seen; so do a row's columns without a neighbour."""

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.intp]
Scalar = TypeVar("Scalar", bound=np.generic)


class Shard:
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
        self._row = grown(self._row, int(slots.max(initial=-1)) + 1, NO_ROW)
        return self._row[slots].astype(np.intp)

    def add(self, slots: Slots, popularity: Floats, trend: Floats) -> None:
        """Count events, one of each of these items; an item may be there several times."""
        rows = self._made(slots)
        np.logaddexp2.at(self.popularity, rows, popularity)
        np.logaddexp2.at(self.trend, rows, trend)

    def pair(self, slots: Slots, others: Slots, strengths: Floats) -> None:
        """Count co-visits of two different items each; a pair may be there several times.

        A new neighbour of an item takes the place of its weakest one, however strong; nobody gives way to one of the
        same call. So what is new has room to grow: where new ones took the places of weaker ones only, `next-basket`'s
        NDCG@10 on Online Retail, without a model, was .068 and not .089, and recall@100 .22 and not .26.
        """
        if not len(slots):
            return
        rows = self._made(np.concatenate([slots, others]))
        neighbours, strengths = np.concatenate([others, slots]), np.concatenate([strengths, strengths])
        order = np.argsort(pairs := rows << 32 | neighbours)
        first = np.flatnonzero(np.diff(pairs[order], prepend=-1))
        strengths = np.logaddexp2.reduceat(strengths[order], first)
        rows, neighbours = rows[order[first]], neighbours[order[first]]

        is_there = self.neighbours[rows] == neighbours[:, None]
        columns = is_there.argmax(axis=1)
        known = is_there[np.arange(len(rows)), columns]
        self.strengths[rows[known], columns[known]] = np.logaddexp2(
            self.strengths[rows[known], columns[known]], strengths[known]
        )
        if known.all():
            return
        which, row_of = np.unique(rows, return_inverse=True)
        weakness = self.strengths[which]
        weakness[row_of[known], columns[known]] = np.inf  # they stay
        new = np.flatnonzero(~known)
        new = new[np.lexsort((-strengths[new], row_of[new]))]
        _, begin, many = np.unique(row_of[new], return_index=True, return_counts=True)
        rank = np.arange(len(new)) - np.repeat(begin, many)
        fits = rank < (weakness < np.inf).sum(axis=1)[row_of[new]]  # else stronger ones of this call take all places
        new, rank = new[fits], rank[fits]
        columns = weakness.argsort(axis=1)[row_of[new], rank]
        self.neighbours[rows[new], columns] = neighbours[new]
        self.strengths[rows[new], columns] = strengths[new]

    def put(self, slot: Slots, neighbours: Slots, popularity: float, trend: float, strengths: Floats) -> None:
        """Replace the row of one item."""
        row = self._made(slot)[0]
        self.popularity[row], self.trend[row] = popularity, trend
        self.neighbours[row], self.strengths[row] = NOBODY, NEVER
        self.neighbours[row, : len(neighbours)] = neighbours
        self.strengths[row, : len(neighbours)] = strengths

    def _made(self, slots: Slots) -> Slots:
        """The rows of these slots, new ones where they have none."""
        rows = self.find(slots)
        new = np.unique(slots[rows == NO_ROW])
        if len(new):
            self._row[new] = self._rows + np.arange(len(new))
            self._rows += len(new)
            rows = self.find(slots)
            self.popularity, self.trend = (grown(a, self._rows, NEVER) for a in (self.popularity, self.trend))
            self.neighbours = grown(self.neighbours, self._rows, NOBODY)
            self.strengths = grown(self.strengths, self._rows, NEVER)
        return rows


def grown(array: npt.NDArray[Scalar], length: int, fill: float) -> npt.NDArray[Scalar]:
    """The array with at least that many rows; doubled, so that growing costs little per row."""
    if length <= len(array):
        return array
    more = max(length - len(array), len(array), 64)
    return np.concatenate([array, np.full((more, *array.shape[1:]), fill, array.dtype)])
