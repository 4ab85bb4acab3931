"""Fit the merge: how much each source's order counts, so that the candidates hold what users choose next.

A search over a weight and an offset for each source, one after the other, maximises recall on the older query groups.
The newer ones judge it beside the fixed weights and each source alone: the best of them is kept. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.progress import Progress
from ranker.recall.merge import FIXED, MAX_WEIGHT, MIN_WEIGHT, OTHER, Merge, SourceWeight
from ranker.train.fit import train_validation_split
from ranker.train.recalled import RecalledGroups

WEIGHTS = (MIN_WEIGHT, *(2.0**exponent for exponent in np.arange(-6, 3.5, 0.5).tolist()))
OFFSETS = (1.0, 4.0, 10.0, 25.0, 60.0, 150.0, 400.0, 2_000.0)
SWEEPS = 3
"""Times that the search goes through all sources; chosen by us."""
MAX_GROUPS = 1_500
"""Of the older groups, the newest: what a source is worth changes as counts grow. Chosen by us: they tell recall to
about .01."""
TOP, TOP_SHARE = 10, 0.5
"""The share of recall@10 beside recall at the limit: a list that goes out without a model has the merged order."""
FIXED_NAME, LEARNT_NAME = "fixed weights", "learnt weights"

Recall = tuple[float, float]
"""At the limit, and at `TOP`."""


@dataclass(frozen=True)
class FittedMerge:
    """A merge, and how good it is.

    Attributes
    ----------
    merge : Merge
        The best of the candidates.
    name : str
        Which one it is.
    recall : mapping of str to float
        Recall at the limit on the newer groups, of the fixed weights, the learnt ones, and each source alone.
    """

    merge: Merge
    name: str
    recall: Mapping[str, float]

    def describe(self) -> dict[str, Any]:
        """The merge and its figures, for a JSON file."""
        return {"merge": self.merge.describe(), "name": self.name, "recall": dict(self.recall)}

    @staticmethod
    def of(described: Mapping[str, Any]) -> FittedMerge:
        """Read what `describe` returned."""
        return FittedMerge(Merge.read(described["merge"]), described["name"], described["recall"])


FIXED_MERGE = FittedMerge(FIXED, FIXED_NAME, {})


def fit_merge(recalled: RecalledGroups, limit: int, progress: Progress) -> FittedMerge:
    """Fit a merge and judge it.

    Parameters
    ----------
    recalled : RecalledGroups
        In the order of time.
    limit : int
        How many candidates a model scores.
    progress : Progress
        In sources.
    """
    recalled = recalled[recalled.recalled]
    older, newer = (recalled[indices] for indices in train_validation_split(len(recalled)))
    if not older.groups.labels.any() or not newer.groups.labels.any():
        return FIXED_MERGE
    search = _Search(older[np.arange(len(older))[-MAX_GROUPS:]], limit)
    merges = {FIXED_NAME: FIXED, LEARNT_NAME: search.best(progress)}
    merges |= {f"{name} alone": alone(name, recalled.sources) for name in recalled.sources}
    judge = _Search(newer, limit)
    recall = {name: judge.recall(merge) for name, merge in merges.items()}
    best = max(merges, key=lambda name: recall[name])
    return FittedMerge(merges[best], best, {name: at_limit for name, (at_limit, _) in recall.items()})


def alone(source: str, sources: tuple[str, ...]) -> Merge:
    """The merge that has the order of one source: the others only fill what that source leaves free."""
    return Merge({name: SourceWeight(1.0 if name == source else MIN_WEIGHT) for name in sources})


class _Search:
    """Computes recall of merges of the same groups; only groups with a relevant proposal make a difference."""

    def __init__(self, recalled: RecalledGroups, limit: int) -> None:
        groups = recalled.groups
        self._limit, self._cases = limit, len(recalled)
        with_relevant = np.flatnonzero(groups.labels.any(axis=1))
        self._sources = recalled.sources
        self._ranks = np.ascontiguousarray(np.moveaxis(recalled.ranks[with_relevant], 2, 0).astype(np.intp))
        self._group, self._column = np.nonzero(groups.labels[with_relevant])
        self._share = 1 / groups.relevant_counts[with_relevant][self._group]

    def best(self, progress: Progress) -> Merge:
        """Search from the fixed weights."""
        weights = {name: FIXED.weights.get(name, OTHER) for name in self._sources}
        parts = {name: self._part(name, weight) for name, weight in weights.items()}
        best = self._objective(self._recall(sum(parts.values(), np.zeros(()))))
        for sweep in range(SWEEPS):
            before = dict(weights)
            for number, name in enumerate(self._sources):
                others = sum((part for other, part in parts.items() if other != name), np.zeros(()))
                for weight in self._alternatives(weights[name]):
                    part = self._part(name, weight)
                    value = self._objective(self._recall(others + part))
                    if value > best:
                        best, weights[name], parts[name] = value, weight, part
                progress(sweep * len(self._sources) + number + 1, SWEEPS * len(self._sources))
            if weights == before:
                break
        return Merge(weights)

    def recall(self, merge: Merge) -> Recall:
        """Mean recall of the cases."""
        weights = {name: merge.weights.get(name, OTHER) for name in self._sources}
        return self._recall(sum((self._part(*one) for one in weights.items()), np.zeros(())))

    @staticmethod
    def _alternatives(current: SourceWeight) -> list[SourceWeight]:
        """Another weight, or another offset with which the first rank counts as much as before."""
        others = [
            *(SourceWeight(weight, current.offset) for weight in WEIGHTS),
            *(SourceWeight(current.weight * (offset + 1) / (current.offset + 1), offset) for offset in OFFSETS),
        ]
        return [other for other in others if MIN_WEIGHT <= other.weight <= MAX_WEIGHT]

    def _part(self, name: str, weight: SourceWeight) -> npt.NDArray[np.float64]:
        ranks = self._ranks[self._sources.index(name)]
        return Merge({name: weight}).shares(name, ranks)

    def _recall(self, scores: npt.NDArray[np.float64]) -> Recall:
        """A relevant proposal is found if fewer proposals than the limit come before it; ties by their order."""
        own = scores[self._group, self._column][:, None]
        others = scores[self._group]
        before = (others > own).sum(axis=1)
        before += ((others == own) & (np.arange(scores.shape[1]) < self._column[:, None])).sum(axis=1)
        at_limit, at_top = (float(self._share[before < depth].sum()) / self._cases for depth in (self._limit, TOP))
        return at_limit, at_top

    @staticmethod
    def _objective(recall: Recall) -> float:
        at_limit, at_top = recall
        return at_limit + TOP_SHARE * at_top
