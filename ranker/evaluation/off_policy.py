"""What another ranker would have got, estimated from lists that were shown with known propensities.

    logged lists -> weights of each place -> IPS, self-normalised IPS, doubly robust -> intervals, or a refusal

The value is the mean number of clicks on the first places of a list. Each place is weighed by itself: whether an item
is clicked may depend on the user, the item and its place, but not on the other items of the list (the item-position
estimator; Li et al., "Offline evaluation of ranking policies with click models", KDD 2018). Then
`IPS = mean of w r`, with `w = 1 / propensity` where the other ranker shows the same item in the same place, else 0, is
unbiased as far as the log could have shown what the other ranker does (Horvitz and Thompson 1952). SNIPS divides by the
mean weight, which is 1 in expectation (Swaminathan and Joachims, NIPS 2015). The doubly robust estimate corrects the
clicks that a model expects by weighted errors: `mean of q(target) + w (r - q(shown))` (Dudik, Langford and Li, ICML
2011). What a place shows less often than once in the square root of the number of lists counts as never shown there
(Ionides, "Truncated importance sampling", JCGS 17(2), 2008): one click must not decide. Then IPS leaves it out, and the
doubly robust estimate is SWITCH (Wang, Agarwal and Dudik, ICML 2017). Knows no system, file or catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Items = NDArray[np.intp]

NO_ITEM = -1
MIN_EFFECTIVE_LISTS = 100
"""Below it the intervals of a bootstrap promise too much; chosen by us."""
MIN_OVERLAP = 0.5
"""The least share of what users look at that the log must tell of; chosen by us. IPS leaves the rest out, and the
doubly robust estimate has the click model's word for it alone."""
ASSUMED_LOOKS = 5.0
"""Looks at an item that the mean appeal of all items counts for in the click model; chosen by us."""
RESAMPLES, AT_A_TIME = 1_000, 50
"""Of the bootstrap, as in `ranker.evaluation.judge`."""


class Interval(NamedTuple):
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class LoggedLists:
    """Lists that were shown, as arrays.

    Attributes
    ----------
    users : (n,) intp
        The user of each list: users are resampled whole, with all their lists.
    shown : (n, places) intp
        The item at each place; `NO_ITEM` where a list ends before.
    clicks : (n, places) float64
        1 where the item was clicked, else 0.
    propensities : (n, places) float64
        The probability with which the place showed this item; anything above 0 where there is none.
    """

    users: NDArray[np.intp]
    shown: Items
    clicks: Floats
    propensities: Floats


class PolicyEstimate(NamedTuple):
    """What a ranker would have got.

    Attributes
    ----------
    ips, snips, dr : Interval
        Clicks per list. `snips` is NaN if the ranker's items were never shown in one of the places.
    difference : Interval
        `dr` minus the clicks per list that were logged.
    effective_lists : float
        How many lists of the ranker's own the log is worth: the effective sample size of the weights (Kong 1992).
    overlap : float
        The mean weight of a place, by how much users look at it: 1 if the log can tell of all that the ranker does.
    refusal : str
        Why the estimates are not to be used; empty if they are.
    """

    ips: Interval
    snips: Interval
    dr: Interval
    difference: Interval
    effective_lists: float
    overlap: float
    refusal: str


def weights_of(log: LoggedLists, target: Items) -> Floats:
    """Return the importance weights, (n, places), of a ranker that puts these items, (n, places), into the places."""
    return np.where((target == log.shown) & (log.shown != NO_ITEM), 1 / log.propensities, 0.0)


def estimate(log: LoggedLists, target: Items, seed: int) -> PolicyEstimate:
    """Estimate the value of a ranker.

    Parameters
    ----------
    log : LoggedLists
    target : (n, places) intp
        The item that the ranker puts at each place, in place of what was shown; `NO_ITEM` for none.
    seed : int
        Of the folds of the click model, and of the resamples.
    """
    weights = weights_of(log, target)
    weights[weights > len(weights) ** 0.5] = 0
    expected = ClickModel(log, seed)
    expected_shown, expected_target = expected.clicks(log.shown), expected.clicks(target)
    terms = {
        "ips": weights * log.clicks,
        "weight": weights,
        "dr": expected_target + weights * (log.clicks - expected_shown),
        "logged": log.clicks,
    }
    samples = {"ips": list[Floats](), "snips": list[Floats](), "dr": list[Floats](), "difference": list[Floats]()}
    _, user = np.unique(log.users, return_inverse=True)
    users = int(user.max()) + 1
    sums = {name: _sums_by_user(values, user, users) for name, values in terms.items()}
    lists = np.bincount(user, minlength=users).astype(np.float64)
    for times in _resampled(users, seed):
        totals = {name: times @ of_users for name, of_users in sums.items()}
        count = times @ lists
        with np.errstate(invalid="ignore", divide="ignore"):
            samples["ips"].append(totals["ips"].sum(1) / count)
            samples["snips"].append((totals["ips"] / totals["weight"]).sum(1))
            samples["dr"].append(totals["dr"].sum(1) / count)
            samples["difference"].append((totals["dr"] - totals["logged"]).sum(1) / count)
    intervals = {name: _interval(np.concatenate(values)) for name, values in samples.items()}
    effective, overlap = _effective_lists(weights), _overlap(weights)
    return PolicyEstimate(**intervals, effective_lists=effective, overlap=overlap, refusal=_refusal(effective, overlap))


def logged_value(log: LoggedLists, seed: int) -> Interval:
    """Return the clicks per list that were logged."""
    _, user = np.unique(log.users, return_inverse=True)
    users = int(user.max()) + 1
    clicks = _sums_by_user(log.clicks, user, users).sum(1)
    lists = np.bincount(user, minlength=users).astype(np.float64)
    return _interval(np.concatenate([(times @ clicks) / (times @ lists) for times in _resampled(users, seed)]))


class ClickModel:
    """The clicks to expect: how much users look at a place, times the appeal of the item.

    The position-based model (Craswell et al. 2008) with the examination `1 / log2(place + 1)`. The appeal of an item
    comes from the lists of other users, so that no list is judged by its own clicks.

    Parameters
    ----------
    log : LoggedLists
    seed : int
        Of the two halves of the users.
    """

    def __init__(self, log: LoggedLists, seed: int) -> None:
        self._looks = examination(log.shown.shape[1])
        distinct, user = np.unique(log.users, return_inverse=True)
        self._half = np.random.default_rng(seed).permutation(len(distinct))[user] % 2
        self._appeals = [self._appeal_of_items(log, self._half != half) for half in range(2)]

    def clicks(self, items: Items) -> Floats:
        """Return the expected clicks, (n, places), on these items in the places of the log's lists."""
        expected = np.zeros(items.shape)
        for half, (appeal, mean) in enumerate(self._appeals):
            rows = self._half == half
            of_rows = items[rows]
            known = np.where(of_rows < len(appeal), of_rows, 0)
            appeals = np.where(of_rows < len(appeal), appeal[known], mean)
            expected[rows] = np.where(of_rows == NO_ITEM, 0.0, np.minimum(appeals * self._looks, 1.0))
        return expected

    def _appeal_of_items(self, log: LoggedLists, rows: NDArray[np.bool_]) -> tuple[Floats, float]:
        shown, clicks = log.shown[rows], log.clicks[rows]
        is_item = shown != NO_ITEM
        looks = np.broadcast_to(self._looks, shown.shape)[is_item]
        mean = float(clicks[is_item].sum() / max(looks.sum(), 1e-9))
        size = int(log.shown.max()) + 1
        looked = np.bincount(shown[is_item], looks, size)
        clicked = np.bincount(shown[is_item], clicks[is_item], size)
        return (clicked + ASSUMED_LOOKS * mean) / (looked + ASSUMED_LOOKS), mean


def examination(places: int) -> Floats:
    """How much users look at the places of a list, the first one as 1: `1 / log2(place + 1)`, as NDCG has it."""
    return np.asarray(1 / np.log2(np.arange(2, places + 2)))


def _sums_by_user(values: Floats, user: NDArray[np.intp], users: int) -> Floats:
    """(n, places) -> (users, places)."""
    sums = np.zeros((users, values.shape[1]))
    np.add.at(sums, user, values)
    return sums


def _resampled(users: int, seed: int) -> Iterator[Floats]:
    """How often each user is in a sample: first the sample itself, then the resamples, `AT_A_TIME` together."""
    yield np.ones((1, users))
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES // AT_A_TIME):
        yield random.multinomial(users, np.full(users, 1 / users), AT_A_TIME).astype(np.float64)


def _interval(samples: Floats) -> Interval:
    value, resampled = float(samples[0]), samples[1:][np.isfinite(samples[1:])]
    if not np.isfinite(value) or not len(resampled):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def _effective_lists(weights: Floats) -> float:
    """`(sum w)^2 / sum w^2` over all places, in lists."""
    squares = float((weights**2).sum())
    return float(weights.sum() ** 2 / squares / weights.shape[1]) if squares else 0.0


def _overlap(weights: Floats) -> float:
    looks = examination(weights.shape[1])
    return float(weights.mean(0) @ looks / looks.sum())


def _refusal(effective_lists: float, overlap: float) -> str:
    if overlap < MIN_OVERLAP:
        return (
            f"the log can tell of {overlap:.0%} of what this ranker would show, expected at least {MIN_OVERLAP:.0%}; "
            "log with exploration (AFTERCLICK_RANKER__EXPLORE), or for longer"
        )
    if effective_lists < MIN_EFFECTIVE_LISTS:
        return (
            f"the log is worth {effective_lists:,.0f} lists of this ranker, expected at least {MIN_EFFECTIVE_LISTS}; "
            "log for longer, or with more exploration"
        )
    return ""
