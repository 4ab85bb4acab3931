"""Keep the exposure of groups of items within bounds, at the smallest loss.

The exposure of rank `r` is `1 / log2(r + 1)`: the discount of DCG, and the position bias of Singh and Joachims
("Fairness of Exposure in Rankings", KDD 2018). The share of a group is its items' exposure over that of all ranks. The
bounds hold in the first ten ranks, in the first twenty, and so on, and in the whole list, so they hold on the pages of
a list too. FA*IR (Zehlike et al., CIKM 2017) bounds every prefix for the same reason.

The loss is that of the expected DCG. The item at rank `r` without bounds gains `1 / r`: a rank means the same for every
model and for a list without one, and a score does not. In the first ten ranks no order within the bounds has a higher
sum of gains times exposures. Singh and Joachims relax the order to probabilities and solve a linear program; the prices
of its bounds limit the search here, which needs an order. Later ranks do not count in NDCG@10: there any order within
the bounds will do.

Where no order is within all bounds, the order misses them by the smallest sum. Knows no rule and no item.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ranker.rules.least_loss import least_loss
from ranker.rules.limits import ExposureLimit

STEP = 10
"""The ranks of NDCG@10, and of a usual page."""
WITHIN, REACHED, MISSED = "within", "reached", "missed"
OUTCOMES = (WITHIN, REACHED, MISSED)


class Bounds(NamedTuple):
    """The bounds on the share of one group.

    Attributes
    ----------
    rule : str
    low, high : float
        0 to 1.
    members : frozenset of int
        The group's items.
    """

    rule: str
    low: float
    high: float
    members: frozenset[int]

    def limits(self, total: float, settled: float) -> Iterator[ExposureLimit]:
        """Yield the limits on further exposure, of `total` in all, if the group has a settled exposure."""
        if self.low > 0:
            yield ExposureLimit(self.members, 1, self.low * total - settled)
        if self.high < 1:
            yield ExposureLimit(self.members, -1, settled - self.high * total)


class Bounded(NamedTuple):
    """A list within bounds.

    Attributes
    ----------
    indices : list of int
        The items, rank 1 first.
    outcomes : dict of str to str
        By rule: `within`, if the list is within its bounds with the rule and without; `reached`, if only with the
        rule; or `missed`.
    cut : bool
        The search ended early: there may be an order with a smaller loss.
    """

    indices: list[int]
    outcomes: dict[str, str]
    cut: bool


def exposure(rank: int) -> float:
    """Return the exposure of a rank, from 1.

    >>> exposure(1), exposure(3)
    (1.0, 0.5)
    """
    return 1 / math.log2(rank + 1)


def gain(rank: int) -> float:
    """Return what the item gains that has this rank without bounds, from 1: what its place says of its relevance."""
    return 1 / rank


def bounded(
    natural: Sequence[int], reserve: Sequence[int], fixed: Collection[int], bounds: Sequence[Bounds]
) -> Bounded:
    """Order a list within bounds.

    Parameters
    ----------
    natural : sequence of int
        The items of the list without bounds, rank 1 first.
    reserve : sequence of int
        Items that may take their ranks, best first.
    fixed : collection of int
        The items of `natural` that keep their ranks.
    bounds : sequence of Bounds
    """
    exposures = [exposure(rank) for rank in range(1, len(natural) + 1)]
    waiting = [*(index for index in natural if index not in fixed), *reserve]
    gains = {index: gain(rank) for rank, index in enumerate(waiting, 1)}
    indices, cut = list[int](), False
    for begin in range(0, len(natural), STEP):
        block = range(begin, min(begin + STEP, len(natural)))
        total = sum(exposures[: block.stop])
        settled = {index: exposures[place] for place, index in enumerate(indices)}
        settled |= {natural[place]: exposures[place] for place in block if natural[place] in fixed}
        limits = [
            limit
            for one in bounds
            for limit in one.limits(total, sum(settled[index] for index in one.members & settled.keys()))
        ]
        free = [exposures[place] for place in block if natural[place] not in fixed]
        filled = least_loss(free, waiting, gains, limits, exact=not begin)
        cut |= filled.cut
        taken = iter(filled.indices)
        indices += [natural[place] if natural[place] in fixed else next(taken) for place in block]
        waiting = [index for index in waiting if index not in set(filled.indices)]
    return Bounded(indices, _outcomes(natural, indices, bounds, exposures), cut)


def _outcomes(
    natural: Sequence[int], indices: Sequence[int], bounds: Sequence[Bounds], exposures: Sequence[float]
) -> dict[str, str]:
    outcomes = dict[str, str]()
    for one in bounds:
        found = MISSED
        if _holds(indices, one, exposures):
            found = WITHIN if _holds(natural, one, exposures) else REACHED
        outcomes[one.rule] = max(found, outcomes.get(one.rule, WITHIN), key=OUTCOMES.index)
    return outcomes


def _holds(indices: Sequence[int], one: Bounds, exposures: Sequence[float]) -> bool:
    """Whether a list is within bounds: its first ten ranks, its first twenty, and so on."""
    return not any(
        limit.shortfall(limit.exposure(indices[:end], exposures[:end]))
        for end in {*range(STEP, len(indices), STEP), len(indices)}
        for limit in one.limits(sum(exposures[:end]), 0.0)
    )
