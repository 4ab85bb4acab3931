"""The weights between all items: one matrix, one Cholesky factor, as many right sides as items.

The matrix has as many rows and columns as items, so memory and time bound their number; see `ranker.neighbours.limits`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ranker.neighbours.matrices import Followers, Gram
from ranker.neighbours.sequences import Floats, Sequences
from ranker.neighbours.settings import NeighbourSettings
from ranker.neighbours.table import LEAST_WEIGHT, MAX_NEIGHBOURS, RowWeights
from ranker.progress import Progress

BLOCK = 1_024
"""Columns solved at a time."""


def solve(rows: Sequences, settings: NeighbourSettings, progress: Progress) -> RowWeights:
    """Solve for all pairs of items.

    Parameters
    ----------
    rows : Sequences
    settings : NeighbourSettings
    progress : Progress
        In items.
    """
    best = _BestWeights(rows.items)
    for columns, weights in _weights(rows, settings):
        best.add(columns, weights)
        progress(columns.stop, rows.items)
    return best.rows()


def _weights(rows: Sequences, settings: NeighbourSettings) -> Iterator[tuple[slice, Floats]]:
    """Blocks of columns of B, (items, columns) float32, with a diagonal of 0."""
    items, ridge = rows.items, settings.ridge
    is_slit = settings.kind == "slit"
    factor = _factor(Gram(rows, settings).rows(slice(0, items)), ridge)
    followers = Followers(rows, settings)
    for begin in range(0, items, BLOCK):
        columns = slice(begin, min(begin + BLOCK, items))
        own = np.arange(columns.start, columns.stop), np.arange(columns.stop - columns.start)
        if is_slit:
            right = followers.rows(columns).T
        else:
            right = np.zeros((items, columns.stop - columns.start), np.float32)
            right[own] = 1
        weights: Floats = torch.cholesky_solve(torch.from_numpy(right), factor).numpy()
        if not is_slit:
            weights *= -ridge if settings.kind == "slis" else -1 / weights[own]
        weights[own] = 0
        yield columns, weights


def _factor(gram: Floats, ridge: float) -> torch.Tensor:
    """The Cholesky factor of `gram + ridge I`; changes `gram`."""
    np.fill_diagonal(gram, gram.diagonal() + np.float32(ridge))
    factor: torch.Tensor = torch.linalg.cholesky(torch.from_numpy(gram))
    return factor


class _BestWeights:
    """The `MAX_NEIGHBOURS` largest weights of each row, found block by block of columns."""

    def __init__(self, items: int) -> None:
        self._weights = torch.zeros(items, 0)
        self._columns = torch.zeros(items, 0, dtype=torch.int32)

    def add(self, columns: slice, weights: Floats) -> None:
        numbers = torch.arange(columns.start, columns.stop, dtype=torch.int32)
        every = torch.cat([self._weights, torch.from_numpy(weights)], dim=1)
        best = every.topk(min(MAX_NEIGHBOURS, every.shape[1]), dim=1)
        of_best = torch.cat([self._columns, numbers.expand(len(weights), -1)], dim=1)
        self._weights, self._columns = best.values, of_best.gather(1, best.indices)

    def rows(self) -> RowWeights:
        weights, columns = self._weights.numpy(), self._columns.numpy()
        kept = weights > LEAST_WEIGHT
        return RowWeights.of(kept.sum(axis=1), columns[kept], weights[kept])
