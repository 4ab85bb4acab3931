"""The table of learnt neighbours as it is served: for each item the weights of the items that tend to follow it.

A user's score of an item is the sum over the user's items, newest first, of `exp(-rank / decay)` times the weight.
Knows no fit, no catalogue and no transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from encoders.models import source as model_source

MAX_NEIGHBOURS = 200
"""Weights kept per item. On a shop of 16,859 items more changed nothing."""
LEAST_WEIGHT = 1e-6
"""Smaller weights are rounding errors, and negative ones say little: an item that follows another has some .01."""
MAX_HISTORY = 50
"""Items of a user that are read, at most: as many as a state remembers."""
LEAST = 1e-3
"""Items of a user whose decay falls below this are not read."""

Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]


class LearntScores(NamedTuple):
    """One user's scores of the items of a table.

    Attributes
    ----------
    scores : (items,) float32
        0 for an item that follows none of the user's items.
    items : (n,) int32
        The item of each contribution, as an index of the table.
    shares : (n,) float32
        What each contribution adds.
    ranks : (n,) intp
        The rank in the user's items of the one that contributes; 0 is the newest.
    """

    scores: Floats
    items: Indices
    shares: Floats
    ranks: npt.NDArray[np.intp]

    def strongest(self, items: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return for each item, each given once, the rank of the user's item that contributes most to it."""
        wanted = np.full(len(self.scores), -1, np.intp)
        wanted[items] = np.arange(len(items))
        part = np.flatnonzero(wanted[self.items] >= 0)
        part = part[np.argsort(self.shares[part], kind="stable")]
        ranks = np.zeros(len(items), np.intp)
        ranks[wanted[self.items[part]]] = self.ranks[part]  # the last one written is the largest
        return ranks


class RowWeights(NamedTuple):
    """What a fit found: for each row the columns with a weight, and the weights; see `NeighbourTable`."""

    starts: npt.NDArray[np.int64]
    neighbours: Indices
    weights: Floats

    @staticmethod
    def of(lengths: npt.NDArray[np.integer[Any]], neighbours: Indices, weights: Floats) -> RowWeights:
        """From the number of entries of each row."""
        return RowWeights(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), neighbours, weights)


@dataclass(frozen=True, eq=False)
class NeighbourTable:
    """Weights of item pairs, a row per item in compressed form.

    Attributes
    ----------
    keys : (items,) uint64
        Of the items, ascending; see `encoders.events.entries.item_key`.
    starts : (items + 1,) int64
        The entries of item i are those from `starts[i]` to `starts[i + 1]`.
    neighbours : (entries,) int32
        Index of the item that follows.
    weights : (entries,) float32
        Not 0.
    decay : float
        Number of items of a user after which the weight of an item has fallen to 1 / e.
    """

    keys: Keys
    starts: npt.NDArray[np.int64]
    neighbours: Indices
    weights: Floats
    decay: float

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def read_items(self) -> int:
        """How many of a user's newest items are read."""
        return min(MAX_HISTORY, ceil(self.decay * log(1 / LEAST)))

    def index(self, keys: Keys) -> npt.NDArray[np.intp]:
        """Return the items' indices, -1 for an item that the table does not know."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        index = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[index] == keys, index, -1)

    def scores(self, recent: Sequence[int]) -> LearntScores:
        """Score every item for a user.

        Parameters
        ----------
        recent : sequence of int
            Keys of the user's items, newest first, each once. A key that the table does not know keeps its rank.
        """
        rows = self.index(np.array(recent[: self.read_items], np.uint64))
        ranks = np.flatnonzero(rows >= 0)
        begins, ends = self.starts[rows[ranks]], self.starts[rows[ranks] + 1]
        lengths = ends - begins
        entries = np.arange(lengths.sum()) + np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
        decays = np.exp(-ranks / self.decay).astype(np.float32)
        items, shares = self.neighbours[entries], self.weights[entries] * np.repeat(decays, lengths)
        scores = np.bincount(items, shares, len(self)).astype(np.float32)
        return LearntScores(scores, items, shares, np.repeat(ranks, lengths))

    def save(self, file: Path) -> None:
        """Write the table into a file."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "keys": self.keys,
            "starts": self.starts,
            "neighbours": self.neighbours,
            "weights": self.weights,
        }
        save_file(arrays, file, {"decay": repr(self.decay)})


def read(file: Path) -> NeighbourTable:
    """Read what `save` wrote.

    Raises
    ------
    ModelUnsupported
        The file is damaged.
    """
    try:
        with safe_open(file, "numpy") as stored:
            arrays: dict[str, Any] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            table = NeighbourTable(**arrays, decay=float((stored.metadata() or {})["decay"]))
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise model_source.ModelUnsupported(
            f"{file}: got no table of neighbours ({error}), expected the file that `afterclick train` wrote"
        ) from error
    if not _is_whole(table):
        raise model_source.ModelUnsupported(
            f"{file}: got a table whose parts do not fit together, expected the file that `afterclick train` wrote"
        )
    return table


def _is_whole(table: NeighbourTable) -> bool:
    """Whether no user's items can lead outside of the table, and no weight to a score that is not finite."""
    entries, items = len(table.neighbours), len(table)
    return bool(
        table.starts.shape == (items + 1,)
        and table.weights.shape == (entries,)
        and table.starts[0] == 0
        and table.starts[-1] == entries
        and (np.diff(table.starts) >= 0).all()
        and (table.keys[1:] > table.keys[:-1]).all()
        and 0 <= table.neighbours.min(initial=0) <= table.neighbours.max(initial=0) < max(1, items)
        and np.isfinite(table.weights).all()
        and table.decay > 0
    )
