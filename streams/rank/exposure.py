"""Which items the lists of each model show: how many, and how unequally. For Prometheus.

Counts lie in tables of a fixed size, by a hash of the item's id, so the memory does not grow with the catalogue: 2 MB a
model. Two items may share a cell, so above some 30,000 items the figures are estimates. Knows no Kafka.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streams import metrics

CELLS = 1 << 18
"""Of a table. With 4 items a cell, a million items, linear counting errs by less than 1%."""
HALF_S = 1_800.0
"""A window has two halves, and forgets the older one when the newer one is this old; chosen by us."""
TOP = 0.01
"""The share of the catalogue that counts as its top."""


class _Window:
    """How often each cell was shown in the last half to whole hour. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._halves = _table(), _table()
        self._began_s = clock()

    def add(self, cells: NDArray[np.intp]) -> None:
        with self._lock:
            self._turn()
            self._halves[1][cells] += 1

    def counts(self) -> NDArray[np.uint32]:
        """The counts of the cells that were shown, (n,)."""
        with self._lock:
            self._turn()
            counts = self._halves[0] + self._halves[1]
        return counts[counts > 0]

    def _turn(self) -> None:
        halves = (self._clock() - self._began_s) // HALF_S
        if halves >= 1:
            self._halves = self._halves[1] if halves == 1 else _table(), _table()
            self._began_s += halves * HALF_S


class Exposure:
    """What the lists of each model show, as the metrics `afterclick_shown_items` and `afterclick_shown_top_share`.

    Parameters
    ----------
    clock : callable
        Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._catalogue = np.zeros(CELLS, np.bool_)

    def know(self, item_ids: Collection[str]) -> None:
        """Note that these items are in the catalogue. Deleted items count until the worker's next start."""
        self._catalogue[_cells(item_ids)] = True

    def note(self, model: str, item_ids: Collection[str]) -> None:
        """Count the items of a list."""
        window = self._windows.get(model)
        if window is None:
            window = self._windows[model] = _Window(self._clock)
            metrics.shown_items.labels(model).set_function(partial(_distinct_shown, window))
            metrics.shown_top_share.labels(model).set_function(partial(self._top_share, window))
        window.add(_cells(item_ids))

    def keep(self, models: Collection[str]) -> None:
        """Drop the counts of all models but these."""
        self._windows = {model: window for model, window in self._windows.items() if model in models}

    def _top_share(self, window: _Window) -> float:
        counts = window.counts()
        if not len(counts):
            return 0.0
        items = max(_distinct(int(self._catalogue.sum())), _distinct(len(counts)))
        top = min(len(counts), math.ceil(TOP * items))
        return float(np.partition(counts, -top)[-top:].sum() / counts.sum())


def _distinct_shown(window: _Window) -> float:
    return _distinct(len(window.counts()))


def _distinct(used: int) -> int:
    """How many items used that many cells: linear counting (Whang, Vander-Zanden and Taylor, ACM TODS 15(2), 1990).

    >>> [_distinct(used) for used in (0, 1, 20, 100_000)]
    [0, 1, 20, 125936]
    """
    return round(-CELLS * math.log(max(1, CELLS - used) / CELLS))


def _cells(item_ids: Collection[str]) -> NDArray[np.intp]:
    return np.fromiter((hash(item_id) % CELLS for item_id in item_ids), np.intp, len(item_ids))


def _table() -> NDArray[np.uint32]:
    return np.zeros(CELLS, np.uint32)
