"""How many items a fit may have, within memory and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import sqrt

import torch

from ranker.neighbours.dense import BLOCK
from ranker.neighbours.local import GRAM_ENTRIES

MAX_DENSE_ITEMS = 30_000
"""Items of a dense fit, at most: the matrix and its factor have 7.2 GB then."""
BYTES_PER_DENSE_ENTRY = 2 * 4
"""The matrix and its Cholesky factor, float32."""
BYTES_PER_BLOCK_ENTRY = 6 * 4
"""Right side, solution, and what the choice of the best weights copies."""
LOCAL_BYTES = 600e6
"""Of a fit by local regressions, whatever its size: the dense rows, and what orders them."""
BYTES_PER_GRAM_ENTRY, BYTES_PER_PREDICTOR = 2 * 8, 56
"""Of such a fit: columns and values, and a copy; predictors and right sides, weights, and what orders these."""
BYTES_PER_EVENT = 150
"""Columns of the events and what orders them."""
RATE_SIZE = 1_024
DENSE_OPERATIONS = 1.5
"""Multiplications of a dense fit over the cube of its items, at the rate of a product: 1/6 for the Cholesky factor, 1
for the two triangular solves, and the rest because these are slower than a product."""
EVENT_OPERATIONS = 3e5
"""The same for an event, whose pairs with its neighbours in the sequence are added up."""
LOCAL_OPERATIONS = 400.0
"""The same for an entry of the Gram matrix that a local regression reads, but of one thread: it waits for memory."""
PAIR_OPERATIONS = 150.0
"""The same for a pair of items, whose entries of both matrices are cleared and looked at; of one thread, too."""


@dataclass(frozen=True)
class Limits:
    """What bounds a fit.

    Attributes
    ----------
    bytes : float
        Memory.
    seconds : float
        Time.
    rate : float
        Multiplications with addition per second in float32, of all threads; see `matmul_rate`.
    """

    bytes: float
    seconds: float
    rate: float

    def items(self, events: int, predictors: int | None) -> int:
        """Return how many items a fit may have.

        Parameters
        ----------
        events : int
        predictors : int or None
            See `NeighbourSettings`.
        """
        operations = max(0.0, self.seconds * self.rate - EVENT_OPERATIONS * events)
        if predictors is None:
            by_memory = _root(BYTES_PER_DENSE_ENTRY, BYTES_PER_BLOCK_ENTRY * BLOCK, self.bytes - _fixed(events, None))
            return int(min(MAX_DENSE_ITEMS, by_memory, (operations / DENSE_OPERATIONS) ** (1 / 3)))
        by_memory = max(0.0, self.bytes - _fixed(events, predictors)) / _local_bytes(predictors)
        of_one_thread = operations / torch.get_num_threads()
        by_time = _root(PAIR_OPERATIONS, LOCAL_OPERATIONS * GRAM_ENTRIES * predictors, of_one_thread)
        return int(min(by_memory, by_time))


def fit_bytes(items: int, events: int, predictors: int | None) -> float:
    """Return the memory that a fit needs, in bytes."""
    if predictors is None:
        return _fixed(events, None) + BYTES_PER_DENSE_ENTRY * items**2 + BYTES_PER_BLOCK_ENTRY * BLOCK * items
    return _fixed(events, predictors) + _local_bytes(predictors) * items


def matmul_rate() -> float:
    """Measure the multiplications with addition per second in float32: the better of two products, some 20 ms."""
    one = torch.ones(RATE_SIZE, RATE_SIZE)
    best = 0.0
    for _ in range(2):
        started = time.perf_counter()
        torch.mm(one, one)
        best = max(best, RATE_SIZE**3 / (time.perf_counter() - started))
    return best


def _fixed(events: int, predictors: int | None) -> float:
    return BYTES_PER_EVENT * events + (0 if predictors is None else LOCAL_BYTES)


def _local_bytes(predictors: int) -> float:
    """Of an item."""
    return BYTES_PER_GRAM_ENTRY * GRAM_ENTRIES + BYTES_PER_PREDICTOR * predictors


def _root(square: float, linear: float, most: float) -> float:
    """The largest n with `square n^2 + linear n <= most`, at least 0."""
    half = linear / (2 * square)
    return sqrt(half**2 + max(0.0, most) / square) - half
