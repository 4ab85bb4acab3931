"""How well cold items are ranked, which had few events when the user was asked, and how well warm ones.

A head learns mostly from items with events, because most of what users choose has some. So it may rank new items lower
than the order that it was given. Then it is lifted: its scores rise by a weight times the item's newness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from ranker.evaluation import measures
from ranker.evaluation.measures import COLD_EVENTS, K
from ranker.features import NEWNESS
from ranker.fusion.head import FusionHead
from ranker.train.head_fit import fused
from ranker.train.query_groups import QueryGroups, ScoredGroups

RESAMPLES = 1_000
"""As in `afterclick evaluate`."""
LIFTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Tried in this order. At 1, an item without events counts as 2.7 times as likely, one of four events as 1.2 times."""
MOST_ERRORS, MOST_LOSS = 2.0, 0.02
"""What a lift may cost all items together, in standard errors and as a share of NDCG@10. The same groups chose the best
epoch of the head, so any change looks worse there than on later groups: a lift of 2 by 2% on Online Retail."""
MIN_COLD_GROUPS = 50
"""With a cold item that the user chose; of fewer, chance would choose the lift."""

Floats = npt.NDArray[np.float64]


class Figure(NamedTuple):
    """NDCG@10 of an order, and its 95% interval: bootstrap over users. NaN where there was nothing to measure."""

    value: float
    low: float
    high: float


class ItemFigures(NamedTuple):
    """NDCG@10 of the head, of the order without a model, and their difference, where only some items are relevant.

    Attributes
    ----------
    groups : int
        How many groups have such a relevant item, as a candidate or not.
    head, no_model, difference : Figure
    """

    groups: int
    head: Figure
    no_model: Figure
    difference: Figure


class ColdItems(NamedTuple):
    """How well cold items are ranked, and what was done about it.

    Attributes
    ----------
    cold, warm : ItemFigures
        Of the relevant items with fewer than `COLD_EVENTS` events before the question, and of the others.
    lift : float
        See `fit_lift`.
    difference : float
        Mean difference that the lift makes to NDCG@10 of all items.
    standard_error : float
    """

    cold: ItemFigures
    warm: ItemFigures
    lift: float
    difference: float
    standard_error: float

    @property
    def falls(self) -> bool:
        """Whether the head ranks cold items worse than no model does, as far as there are enough to tell."""
        return self.cold.groups >= MIN_COLD_GROUPS and self.cold.head.value < self.cold.no_model.value

    def advice(self) -> str:
        """What to do where it falls."""
        head, no_model, groups = self.cold.head.value, self.cold.no_model.value, self.cold.groups
        return (
            f"items of fewer than {COLD_EVENTS} events are ranked worse with the model than without: NDCG@10 "
            f"{head:.4f} against {no_model:.4f} on {groups:,} newer query groups; train on a longer log or on more "
            "--query-groups, give the items descriptions and categories, or show new items in a list of their own"
        )

    def facts(self) -> dict[str, Any]:
        """The entry `cold_items` of a report."""
        return {
            "cold": _facts(self.cold),
            "warm": _facts(self.warm),
            "lift": self.lift,
            "difference_by_lift": round(self.difference, 6),
            "standard_error": round(self.standard_error, 6),
            "falls": self.falls,
        }


def fit_lift(head: FusionHead, scored: ScoredGroups) -> float:
    """Find the least lift with which the head ranks cold items as well as no model does.

    A lift is left out if all items together are then ranked worse by more than `MOST_ERRORS` standard errors and by
    more than `MOST_LOSS`. If no lift that is left is enough, the one with the best ranked cold items is taken. With
    fewer than `MIN_COLD_GROUPS` there is none: the lift is 0.

    Parameters
    ----------
    head : FusionHead
    scored : ScoredGroups
        Groups that the head was not fitted on.
    """
    groups = scored.groups
    if (groups.cold_counts > 0).sum() < MIN_COLD_GROUPS:
        return 0.0
    of_all = groups.ndcg(fused(head, scored).scores)
    needed = np.nanmean(ndcg_of_part(groups, groups.retrieval_scores, cold=True))
    best, best_lift = -1.0, 0.0
    for lift in LIFTS:
        scores = fused(lifted(head, groups, lift), scored).scores
        difference, error = _difference(groups.ndcg(scores), of_all)
        cold = float(np.nanmean(ndcg_of_part(groups, scores, cold=True)))
        if difference >= -max(MOST_ERRORS * error, MOST_LOSS * of_all.mean()) and cold > best:
            best, best_lift = cold, lift
        if best >= needed:
            break
    return best_lift


def lifted(head: FusionHead, groups: QueryGroups, lift: float) -> FusionHead:
    """The head with its scores raised by this times the newness of an item."""
    return head.lifted(groups.feature_names.index(NEWNESS), lift)


def cold_items(head: FusionHead, scored: ScoredGroups, lift: float, seed: int) -> ColdItems:
    """Judge the lifted head beside the order that the groups were given.

    Parameters
    ----------
    head : FusionHead
        Without the lift.
    scored : ScoredGroups
    lift : float
    seed : int
        Of the resamples.
    """
    groups = scored.groups
    without, scores = fused(head, scored).scores, fused(lifted(head, groups, lift), scored).scores
    cold, warm = (_part(groups, scores, is_cold, seed) for is_cold in (True, False))
    return ColdItems(cold, warm, lift, *_difference(groups.ndcg(scores), groups.ndcg(without)))


def _part(groups: QueryGroups, scores: Vector, cold: bool, seed: int) -> ItemFigures:
    """The figures of the cold items, or of the others."""
    by_head, no_model = (ndcg_of_part(groups, order, cold) for order in (scores, groups.retrieval_scores))
    estimates = _bootstrap(groups.users, np.stack([by_head, no_model, by_head - no_model]), seed)
    return ItemFigures(int(np.isfinite(by_head).sum()), *estimates)


def _difference(ndcg: Floats, other: Floats) -> tuple[float, float]:
    """The mean difference of two orders of the same groups, and its standard error."""
    difference = ndcg - other
    return float(difference.mean()), float(difference.std() / np.sqrt(max(1, len(difference))))


def ndcg_of_part(groups: QueryGroups, scores: Vector, cold: bool) -> Floats:
    """NDCG@10 of each group by scores, where the cold items alone, or the others alone, are relevant.

    Returns
    -------
    (groups,) float64
        NaN for a group without such a relevant item.
    """
    labels = groups.labels & (groups.is_cold == cold)
    counts = groups.cold_counts if cold else groups.relevant_counts - groups.cold_counts
    ndcg = measures.ndcg(np.take_along_axis(labels, groups.ranked(scores), axis=1), counts, K)
    return np.where(counts > 0, ndcg, np.nan)


def _bootstrap(users: npt.NDArray[np.int32], values: Floats, seed: int) -> list[Figure]:
    """The mean of each row, (rows, groups), without its NaN, and its interval over resamples of users."""
    judged = np.isfinite(values[0])
    if not judged.any():
        return [Figure(np.nan, np.nan, np.nan)] * len(values)
    _, user, counts = np.unique(users[judged], return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(user, row[judged]) for row in values])
    random, share = np.random.default_rng(seed), np.full(len(counts), 1 / len(counts))
    means = np.empty((RESAMPLES, len(values)))
    for resample in means:
        weights = random.multinomial(len(counts), share)
        resample[:] = sums @ weights / (counts @ weights)
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    mean = sums.sum(axis=1) / counts.sum()
    return [Figure(*map(float, one)) for one in zip(mean, low, high, strict=True)]


def _facts(figures: ItemFigures) -> Mapping[str, Any]:
    """JSON has no NaN."""
    named = {"head": figures.head, "no_model": figures.no_model, "difference": figures.difference}
    return {"query_groups": figures.groups} | {
        name: [round(number, 6) if np.isfinite(number) else None for number in figure] for name, figure in named.items()
    }
