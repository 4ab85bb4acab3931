"""The merge of the sources' proposals: from an item's ranks in the sources to one retrieval score.

`score = sum over the sources of weight / (offset + 1 + rank)`: reciprocal rank fusion (Cormack, Clarke and Büttcher,
SIGIR 2009) with a weight and an offset for each source. All weights are positive, so an item that one source ranks
higher and the others equal never loses. Knows no source and no user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

NOT_PROPOSED = -1
"""In place of a rank where a source did not propose the item."""
FREE = -1
"""In place of a place in the order where an item has none of its own."""
OFFSET = 60.0
"""k of reciprocal rank fusion, as in the paper."""
MIN_WEIGHT, MAX_WEIGHT, MAX_OFFSET = 2.0**-16, 1_000.0, 10_000.0
"""With the smallest weight beside a weight of 1, a source only orders what the other source ranks alike."""


class SourceWeight(NamedTuple):
    """How much the order of one source counts.

    Attributes
    ----------
    weight : float
        From `MIN_WEIGHT` to `MAX_WEIGHT`.
    offset : float
        From 0 to `MAX_OFFSET`. The smaller, the more the first ranks count beside the later ones.
    """

    weight: float
    offset: float = OFFSET


OTHER = SourceWeight(0.5)
"""Of a source that has no weight of its own, such as a user's own source; chosen by us."""
FIXED_WEIGHTS = {
    "co-visited": SourceWeight(1.0),
    "nearest": SourceWeight(0.6),
    "searched": SourceWeight(1.0),
    "trending": SourceWeight(0.15),
    "newest": SourceWeight(0.05),
    "knowledge": SourceWeight(0.3),
}
"""Without a trained merge; chosen by us: what users did and searched for, then text, then popularity."""


@dataclass(frozen=True)
class Merge:
    """The weights of the sources by their names.

    Attributes
    ----------
    weights : mapping of str to SourceWeight
        Another source gets the weight `OTHER`.
    """

    weights: Mapping[str, SourceWeight] = field(default_factory=lambda: FIXED_WEIGHTS)

    def shares(self, source: str, ranks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """What a source adds to the scores of items at these ranks; 0 for `NOT_PROPOSED`."""
        weight, offset = self.weights.get(source, OTHER)
        shares = weight / (offset + 1 + np.maximum(ranks, 0))
        return np.where(ranks == NOT_PROPOSED, 0.0, shares)

    def scores(self, sources: Sequence[str], ranks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
        """Merge ranks, (..., sources), into retrieval scores, (...), float64."""
        scores = np.zeros(ranks.shape[:-1])
        for number, source in enumerate(sources):
            scores += self.shares(source, ranks[..., number])
        return scores

    def fair_scores(
        self,
        sources: Sequence[str],
        ranks: npt.NDArray[np.integer[Any]],
        lacking: Mapping[str, npt.NDArray[np.bool_]],
    ) -> npt.NDArray[np.float64]:
        """Merge ranks so that an item loses no place because a source can know nothing of it.

        Such an item, without a picture for example, has the place in the order that it has without that source; the
        others have the places that are left. The scores are the same numbers, in that order.

        Parameters
        ----------
        sources : sequence of str
        ranks : (n, sources) int
        lacking : mapping of str to (n,) bool
            By the name of a source, the items that it can never propose.

        Returns
        -------
        (n,) float64
        """
        scores = self.scores(sources, ranks)
        if not lacking:
            return scores
        may_lack = [number for number, name in enumerate(sources) if name in lacking]
        masks = np.array([lacking[sources[number]] for number in may_lack], bool).reshape(len(may_lack), len(scores))
        if not masks.any():
            return scores
        places = np.full(len(scores), FREE)
        for pattern in np.unique(masks.T[masks.any(axis=0)], axis=0):
            kept = np.delete(np.arange(len(sources)), np.array(may_lack)[pattern]).tolist()
            order = best_first(self.scores([sources[number] for number in kept], ranks[:, kept]))
            is_like = (pattern[None] == masks.T).all(axis=1)
            places[order[is_like[order]]] = np.flatnonzero(is_like[order])
        fair = np.empty(len(scores))
        fair[_seated(best_first(scores), places)] = -np.sort(-scores)
        return fair

    def describe(self) -> dict[str, list[float]]:
        """The entry `merge` of `afterclick.json`."""
        return {name: list(weight) for name, weight in self.weights.items()}

    @staticmethod
    def read(described: Any) -> Merge:
        """Read what `describe` returned.

        Raises
        ------
        ValueError
            It is something else, or a number is out of its range. The message names what is wrong.
        """
        if not isinstance(described, dict):
            raise ValueError(f"got {described!r}, expected a weight and an offset by the name of each source")
        return Merge({name: _weight(name, value) for name, value in described.items()})


def _weight(name: str, value: Any) -> SourceWeight:
    ranges = ((MIN_WEIGHT, MAX_WEIGHT), (0.0, MAX_OFFSET))
    if (
        not isinstance(value, list)
        or len(value) != len(ranges)
        or not all(
            isinstance(number, int | float) and math.isfinite(number) and least <= number <= most
            for number, (least, most) in zip(value, ranges, strict=True)
        )
    ):
        raise ValueError(
            f"{name}: got {value!r}, expected [weight, offset] of {MIN_WEIGHT:g} to {MAX_WEIGHT:g} and 0 to "
            f"{MAX_OFFSET:g}"
        )
    return SourceWeight(*map(float, value))


def best_first(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the indices of scores, the highest first; ties in their order."""
    return np.argsort(-scores, kind="stable")


def _seated(order: npt.NDArray[np.intp], places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Give the items that have a place that place, and the others, in their order, the places that are left.

    Of two that have the same place the second one has the next one.
    """
    count = len(order)
    held = np.flatnonzero(places != FREE)
    held = held[np.argsort(places[held], kind="stable")]
    steps = np.arange(len(held))
    taken = np.minimum(np.maximum.accumulate(places[held] - steps) + steps, count - len(held) + steps)
    seated = np.empty(count, np.intp)
    seated[taken] = held
    seated[np.delete(np.arange(count), taken)] = order[places[order] == FREE]
    return seated


def first(ranks: npt.NDArray[np.integer[Any]], count: int) -> npt.NDArray[np.intp]:
    """Return the indices of the items with the best ranks in a source's order, best first, at most `count`.

    >>> first(np.array([7, NOT_PROPOSED, 2, 40]), 2).tolist()
    [2, 0]
    """
    proposed = np.flatnonzero(ranks != NOT_PROPOSED)
    return proposed[np.argsort(ranks[proposed])[:count]]


FIXED = Merge()
