"""The weights to each item from the items that best predict it: one small ridge regression an item, exact within it.

An item's predictors are the `NeighbourSettings.predictors` items whose weight would be the largest if each stood alone:
`right / (gram diagonal + ridge)`. All other weights to the item are 0, as in SLIM (Ning and Karypis, ICDM 2011) where
it selects features. Of the Gram matrix the `GRAM_ENTRIES` largest entries of a row are kept, so memory grows with the
items and not with their square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ranker.neighbours.matrices import Followers, Gram
from ranker.neighbours.sequences import Floats, Ints, Sequences
from ranker.neighbours.settings import NeighbourSettings
from ranker.neighbours.table import LEAST_WEIGHT, MAX_NEIGHBOURS, Indices, RowWeights
from ranker.progress import Progress

GRAM_ENTRIES = 500
"""Of a row; chosen by us: on Online Retail 1,000, or all, changed NDCG@10 by less than its error."""
BLOCK_ENTRIES = 2**23
"""Of the rows that are dense at a time: 32 MB, and 15 times as much to order them where none is 0."""
SOLVED = 128
"""Regressions solved at a time."""
NOTHING = -1
"""In place of a predictor where an item has fewer."""


class _Predictors(NamedTuple):
    """The predictors of items, (items, predictors) int32, and the right sides of their regressions, float32."""

    items: Indices
    right: Floats


class _Entries(NamedTuple):
    """Entries of a matrix: a row, a column and a value each."""

    rows: npt.NDArray[np.integer]
    columns: Indices
    values: Floats

    @staticmethod
    def together(parts: list[_Entries]) -> _Entries:
        return _Entries(*map(np.concatenate, zip(*parts, strict=True)))

    def largest(self, rows: int, most: int) -> _Entries:
        """Of each of so many rows the largest entries, ordered by row and then from the largest value on."""
        order = np.lexsort((-self.values, self.rows))
        ordered = self.rows[order]
        begins = np.searchsorted(ordered, np.arange(rows))
        order = order[np.arange(len(order)) - begins[ordered] < most]
        return _Entries(self.rows[order], self.columns[order], self.values[order])

    def lengths(self, rows: int) -> Ints:
        return np.bincount(self.rows, minlength=rows)


def solve(rows: Sequences, settings: NeighbourSettings, predictors: int, progress: Progress) -> RowWeights:
    """Solve for each item.

    Parameters
    ----------
    rows : Sequences
    settings : NeighbourSettings
    predictors : int
        Of an item, at most.
    progress : Progress
        In items.
    """
    items = rows.items
    matrix = Gram(rows, settings)
    gram = _SparseGram.of(matrix, items, settings.ridge)
    right = Followers(rows, settings) if settings.kind == "slit" else matrix
    chosen = _predictors(right, gram, settings, min(predictors, items))
    found = [_Entries(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))]
    for begin in range(0, items, SOLVED):
        part = np.arange(begin, min(begin + SOLVED, items))
        found.append(_solved(part, chosen.items[part], chosen.right[part], gram))
        progress(int(part[-1]) + 1, items)
    best = _Entries.together(found).largest(items, MAX_NEIGHBOURS)
    return RowWeights.of(best.lengths(items), best.columns, best.values)


def _predictors(right: Gram | Followers, gram: _SparseGram, settings: NeighbourSettings, count: int) -> _Predictors:
    """Choose the predictors of each item."""
    items = len(gram.diagonal)
    chosen = _Predictors(np.full((items, count), NOTHING, np.int32), np.zeros((items, count), np.float32))
    for part in _parts(items):
        alone = right.rows(part) / gram.diagonal
        own = np.arange(part.stop - part.start), np.arange(part.start, part.stop)
        if settings.kind == "ease":  # the others let an item predict itself, and drop that weight
            alone[own] = 0
        rows, columns, values = _entries(alone).largest(len(alone), count)
        ranks = np.arange(len(rows)) - np.searchsorted(rows, np.arange(len(alone)))[rows]
        chosen.items[rows + part.start, ranks] = columns
        chosen.right[rows + part.start, ranks] = values * gram.diagonal[columns]
    return chosen


def _solved(items: Ints, predictors: Indices, right: Floats, gram: _SparseGram) -> _Entries:
    """Solve the regressions of some items."""
    blocks = torch.from_numpy(np.stack([gram.block(one) for one in predictors]))
    factors, failed = torch.linalg.cholesky_ex(blocks)
    more = gram.ridge
    while failed.any():  # without the entries that were left out a block may be indefinite
        blocks[failed > 0] += more * torch.eye(blocks.shape[1])
        factors, failed = torch.linalg.cholesky_ex(blocks)
        more *= 2
    weights = torch.cholesky_solve(torch.from_numpy(right)[:, :, None], factors)[:, :, 0].numpy()
    kept = (weights > LEAST_WEIGHT) & (predictors != NOTHING) & (predictors != items[:, None])
    return _Entries(predictors[kept], np.repeat(items, kept.sum(axis=1)).astype(np.int32), weights[kept])


@dataclass(frozen=True)
class _SparseGram:
    """The largest entries of each row of the Gram matrix, a row after the other.

    Attributes
    ----------
    starts : (items + 1,) int64
        The entries of row i are those from `starts[i]` to `starts[i + 1]`.
    columns : (entries,) int32
    values : (entries,) float32
    diagonal : (items,) float32
        With the ridge.
    ridge : float
    position : (items,) int64
        Scratch space: -1 but during `block`.
    """

    starts: Ints
    columns: Indices
    values: Floats
    diagonal: Floats
    ridge: float
    position: Ints

    @staticmethod
    def of(gram: Gram, items: int, ridge: float) -> _SparseGram:
        parts, lengths, diagonal = [], [np.zeros(1, np.int64)], np.empty(items, np.float32)
        for part in _parts(items):
            rows = gram.rows(part)
            diagonal[part] = rows[np.arange(len(rows)), np.arange(part.start, part.stop)] + np.float32(ridge)
            parts.append(_entries(rows).largest(len(rows), GRAM_ENTRIES))
            lengths.append(parts[-1].lengths(len(rows)))
        columns = np.concatenate([np.empty(0, np.int32), *(part.columns for part in parts)])
        values = np.concatenate([np.empty(0, np.float32), *(part.values for part in parts)])
        starts = np.cumsum(np.concatenate(lengths))
        return _SparseGram(starts, columns, values, diagonal, ridge, np.full(items, -1, np.int64))

    def block(self, predictors: Indices) -> Floats:
        """The matrix of some items with the ridge, (predictors, predictors); that of `NOTHING` is the unit matrix's."""
        items = predictors[predictors != NOTHING]
        result = np.eye(len(predictors), dtype=np.float32)
        begins, lengths = self.starts[items], self.starts[items + 1] - self.starts[items]
        entries = np.arange(lengths.sum()) + np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
        self.position[items] = np.arange(len(items))
        columns = self.position[self.columns[entries]]
        self.position[items] = -1
        inside = np.flatnonzero(columns >= 0)
        rows, columns, values = (
            np.repeat(np.arange(len(items)), lengths)[inside],
            columns[inside],
            self.values[entries[inside]],
        )
        result[rows, columns] = values
        result[columns, rows] = values  # the other row may have left it out
        result[np.arange(len(items)), np.arange(len(items))] = self.diagonal[items]
        return result


def _entries(rows: Floats) -> _Entries:
    """The entries of dense rows that are not 0."""
    flat = np.flatnonzero(rows)
    row, column = np.divmod(flat, rows.shape[1])
    return _Entries(row, column.astype(np.int32), rows.reshape(-1)[flat])


def _parts(items: int) -> list[slice]:
    """Rows that are dense at a time."""
    step = max(1, BLOCK_ENTRIES // max(1, items))
    return [slice(begin, min(begin + step, items)) for begin in range(0, items, step)]
