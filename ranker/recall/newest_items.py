"""The items of a catalogue that appeared last, kept in order while items come and go. Knows no item."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ranker.recall.nearest_items import Rows

MAX_NEWEST = 1_000


class DatedRows(Protocol):
    """The columns of a catalogue that say which items may be recommended, when they appeared, and their keys."""

    available: npt.NDArray[np.bool_]
    time_ms: npt.NDArray[np.int64]
    keys: npt.NDArray[Any]


class NewestItems:
    """Rows of the newest items.

    Parameters
    ----------
    items : DatedRows
        Its columns may be replaced by longer ones.
    """

    def __init__(self, items: DatedRows) -> None:
        self._items = items
        self._newest: Rows | None = None  # twice as many as `rows` returns, so that some may leave
        self._has_all = False

    def rows(self, count: int) -> Rows:
        """Return the rows of the available items that appeared last, newest first; at most `MAX_NEWEST`.

        Of items of the same time the smaller key comes first, in whatever order they were put: a file of items has one
        time for many, and every worker reads it in another order.
        """
        items = self._items
        if self._newest is None:
            rows = np.flatnonzero(items.available)
            if len(rows) > 2 * MAX_NEWEST:
                times = items.time_ms[rows]
                rows = rows[times >= np.partition(times, len(rows) - 2 * MAX_NEWEST)[len(rows) - 2 * MAX_NEWEST]]
            self._newest = rows[np.lexsort((items.keys[rows], -items.time_ms[rows]))][: 2 * MAX_NEWEST]
            self._has_all = len(self._newest) < 2 * MAX_NEWEST
        return self._newest[: min(count, MAX_NEWEST)]

    def update(self, row: int) -> None:
        """Take in a change of one row; finding the newest anew would read all rows."""
        items = self._items
        if self._newest is None:
            return
        others = self._newest[self._newest != row]
        if items.available[row]:
            times, time_ms = items.time_ms[others], items.time_ms[row]
            rank = int(((times > time_ms) | ((times == time_ms) & (items.keys[others] < items.keys[row]))).sum())
            if rank < len(others) or self._has_all:
                others = np.insert(others, rank, row)
        if len(others) > 2 * MAX_NEWEST:
            others, self._has_all = others[: 2 * MAX_NEWEST], False
        self._newest = others if self._has_all or len(others) >= MAX_NEWEST else None
