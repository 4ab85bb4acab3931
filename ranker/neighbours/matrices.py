"""The two matrices of a linear item-to-item model over sequences, some rows at a time. Knows no solver.

They are computed without S and T: the splits between two events contribute a geometric series. So the cost is events
times reach, and the memory is that of the rows.
"""

from __future__ import annotations

from math import ceil, exp, log

import numpy as np
import numpy.typing as npt

from ranker.neighbours.sequences import LEFT_OUT, Floats, Ints, Sequences
from ranker.neighbours.settings import NeighbourSettings

LEAST = 1e-3
"""Pairs of events further apart than where a decay falls below this are left out."""
MAX_REACH = 50
"""Events that a pair may be apart, at most: a user's state remembers as many."""
DISTINCT = 200
"""Newest distinct items of a user that count as bought together, at most: pairs grow with the square."""


class Gram:
    """The symmetric matrix of a fit: `S'WS` for `slit`, and otherwise `X'WX`, the users who have both of two items.

    It adds `decay^distance onwards(b)` for each pair of events a <= b that are fewer than `most` apart. In `X` the
    `DISTINCT` newest distinct items of each user count, each once.

    Parameters
    ----------
    rows : Sequences
    settings : NeighbourSettings
    """

    def __init__(self, rows: Sequences, settings: NeighbourSettings) -> None:
        self._rows = rows
        self._events = _ByItem(rows, rows.item != LEFT_OUT)
        self._onwards, self._decay, self._most = rows.weight, 1.0, DISTINCT
        if settings.kind == "slit":
            self._decay, self._most = exp(-1 / settings.past), reach(settings.past)
            self._onwards = np.zeros(len(rows.item), np.float32)  # over the splits from the event on, decayed twice
            for ahead in range(reach(settings.past / 2)):
                event = np.flatnonzero(rows.remaining > ahead)
                self._onwards[event] += np.float32(self._decay ** (2 * ahead)) * rows.weight[event + ahead]

    def rows(self, items: slice) -> Floats:
        """Return the rows of some items, (rows, items) float32."""
        result = np.zeros((items.stop - items.start, self._rows.items), np.float32)
        earlier = later = self._events.of(items)
        for distance in range(self._most):
            share = np.float32(self._decay**distance)
            later = later[self._rows.position[later] >= distance]
            self._add(result, items, later, later - distance, share * self._onwards[later])
            if distance:
                earlier = earlier[self._rows.remaining[earlier] >= distance]
                self._add(result, items, earlier, earlier + distance, share * self._onwards[earlier + distance])
            if not len(earlier) and not len(later):
                break
        return result

    def _add(self, result: Floats, items: slice, events: Ints, others: Ints, shares: Floats) -> None:
        item, other = self._rows.item[events], self._rows.item[others]
        known = other != LEFT_OUT
        np.add.at(result.reshape(-1), (item[known] - items.start) * self._rows.items + other[known], shares[known])


class Followers:
    """`T'WS`, the transposed right side of `slit`: a row for each item of the future.

    Only an event that is the user's first about its item is part of the future: lists show what is new.

    Parameters
    ----------
    rows : Sequences
    settings : NeighbourSettings
    """

    def __init__(self, rows: Sequences, settings: NeighbourSettings) -> None:
        self._rows, self._settings = rows, settings
        self._events = _ByItem(rows, rows.is_new & (rows.position > 0) & (rows.item != LEFT_OUT))

    def rows(self, items: slice) -> Floats:
        """Return the rows of some items, (rows, items) float32."""
        rows, past, future = self._rows, self._settings.past, self._settings.future
        result = np.zeros((items.stop - items.start, rows.items), np.float32)
        decay, future_decay = exp(-1 / past), exp(-1 / future)
        later = self._events.of(items)
        shares = np.zeros(len(later), np.float32)
        for distance in range(1, reach(max(past, future)) + 1):
            near = rows.position[later] >= distance
            later, shares = later[near], shares[near]
            earlier = later - distance
            shares = decay * shares + np.float32(future_decay ** (distance - 1)) * rows.weight[earlier]
            known = rows.item[earlier] != LEFT_OUT
            index = (rows.item[later[known]] - items.start) * rows.items + rows.item[earlier[known]]
            np.add.at(result.reshape(-1), index, shares[known])
        return result


def reach(decay: float) -> int:
    """Return how many events apart a decay by `exp(-distance / decay)` is followed."""
    return min(MAX_REACH, ceil(decay * log(1 / LEAST)))


class _ByItem:
    """The chosen events, ordered by item."""

    def __init__(self, rows: Sequences, chosen: npt.NDArray[np.bool_]) -> None:
        events = np.flatnonzero(chosen)
        self._events: Ints = events[np.argsort(rows.item[events], kind="stable")]
        self._begins = np.searchsorted(rows.item[self._events], np.arange(rows.items + 1))

    def of(self, items: slice) -> Ints:
        return self._events[self._begins[items.start] : self._begins[items.stop]]
