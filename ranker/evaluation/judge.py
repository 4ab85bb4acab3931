"""Judge one system's lists: every measure with its bootstrap interval, for all users and by their history's length.

Items and users are indices here. Knows no system and no protocol.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.signals.satisfaction import of_list
from ranker.evaluation.extra import evaluate_extra
from ranker.evaluation.measures import COLD_EVENTS, K, auc, hit_rate_at, ndcg_of_lists, recall_at, reciprocal_rank
from ranker.evaluation.protocols import RankedList

with evaluate_extra():
    import scipy.sparse as sp

LIST_SIZE = 20
"""Items of a published list by default; MRR is 0 beyond them."""
RECALL_K = 100
COLD_NDCG = f"ndcg_at_10_items_under_{COLD_EVENTS}_events"
USER_GROUPS = {"1": (0, 1), "2-4": (2, 4), "5-19": (5, 19), "20+": (20, np.inf)}
"""Users by their events before the case: the fewer, the colder. For a list that was shown there may be none."""
RESAMPLES = 1_000
"""Enough for the 2.5% and 97.5% points to move by a few per cent of the interval (Efron and Tibshirani, 1993)."""
AT_A_TIME = 50
"""Resamples in memory at once: for 100,000 users and as many items, 40 MB each way."""

Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A value and its 95% interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroundTruth:
    """What the lists of all systems are judged against: the test cases in arrays, in their order.

    Attributes
    ----------
    users : (n,) intp
        The user of each case: users are resampled whole, with all their cases.
    targets : sequence of frozenset of int
        The relevant items of each case; never empty.
    cold_targets : sequence of frozenset of int
        Of these, the items with fewer than `COLD_EVENTS` events then.
    history_lengths : (n,) intp
        The events of the user before the case.
    shown : (n,) bool
        Whether the case is about the order of a list that was shown.
    information_bits : (items,) float64
        `-log2` of the item's share of events: what novelty is computed from.
    vectors : (items, dim) float32
        Of the items' texts, unit length: what diversity is computed from.
    satisfied : sequence of mapping of int to float
        How much each relevant item of a case satisfied the user, 0 to 1, see `encoders.signals.satisfaction.of_event`.
    groups : Groups, optional
        Of items or of users, which are judged one by one.
    """

    users: npt.NDArray[np.intp]
    targets: Sequence[frozenset[int]]
    cold_targets: Sequence[frozenset[int]]
    history_lengths: npt.NDArray[np.intp]
    shown: npt.NDArray[np.bool_]
    information_bits: Floats
    vectors: npt.NDArray[np.float32]
    satisfied: Sequence[Mapping[int, float]]
    groups: Groups | None = None


@dataclass(frozen=True)
class Groups:
    """Groups that are judged one by one.

    Attributes
    ----------
    of_users : bool
        Whether they are groups of cases, by their users; else of items.
    names : list of str
    members : (groups, cases or items) bool
        An item may be in several groups.
    """

    of_users: bool
    names: list[str]
    members: npt.NDArray[np.bool_]


def judge(truth: GroundTruth, lists: Sequence[RankedList], seed: int) -> dict[str, Estimate]:
    """All measures of one system.

    Satisfaction is the expected reciprocal rank in the top ten, where a look satisfies as long as it lasted
    (`encoders.signals.satisfaction.of_list`). Novelty is the mean self-information of the top ten (Zhou et al., PNAS
    2010), diversity one minus the mean cosine between any two of them (Ziegler et al., WWW 2005), coverage the share of
    the catalogue in anybody's top ten, and Gini how unequally the positions of all top tens are given to the
    catalogue's items: 0 equally, 1 all to one item.

    The intervals are of a bootstrap over users, centred on the value: a resample holds fewer different users, so fewer
    distinct items, and uncentred, the interval of coverage would lie below its value.

    Parameters
    ----------
    truth : GroundTruth
    lists : sequence of RankedList
        One a case.
    seed : int
        Of the resamples.
    """
    per_list = _per_list(truth, lists)
    _, user = np.unique(truth.users, return_inverse=True)
    users, items = int(user.max()) + 1, len(truth.vectors)
    sums = {name: sums_by_user(values, user, users) for name, values in per_list.items()}
    tops = [list_.ranked[:K] for list_ in lists]
    sizes = list(map(len, tops))
    exposures = sp.csr_matrix(
        (np.ones(sum(sizes)), (np.repeat(user, sizes), np.concatenate(tops).astype(np.intp))), (users, items)
    )
    samples: dict[str, list[Floats]] = defaultdict(list)
    for weights in resample_weights(users, seed):
        for name, (total, count) in sums.items():
            with np.errstate(invalid="ignore"):
                samples[name].append((weights @ total) / (weights @ count))
        exposure = np.sort(weights @ exposures, axis=1)
        samples["distinct_items"].append((exposure > 0).sum(1).astype(np.float64))
        samples["exposure_gini"].append(_gini(exposure))
    distinct = np.concatenate(samples.pop("distinct_items"))
    estimates = {name: estimate_of(np.concatenate(values)) for name, values in samples.items()}
    return estimates | {"distinct_items": estimate_of(distinct, items), "coverage": estimate_of(distinct / items, 1)}


def sums_by_user(values: Floats, user: npt.NDArray[np.intp], users: int) -> tuple[Floats, Floats]:
    """Return the sum and the number of each user's finite values."""
    finite = np.isfinite(values)
    total = np.bincount(user[finite], values[finite], users).astype(np.float64)
    return total, np.bincount(user[finite], minlength=users).astype(np.float64)


def resample_weights(users: int, seed: int) -> Iterator[Floats]:
    """Yield how often each user is in a sample: first the sample itself, then the resamples, `AT_A_TIME` together."""
    yield np.ones((1, users))
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES // AT_A_TIME):
        yield random.multinomial(users, np.full(users, 1 / users), AT_A_TIME).astype(np.float64)


def cases_by_group(truth: GroundTruth) -> dict[str, int]:
    """The number of cases behind each measure of a group."""
    sizes = {name: int(in_group.sum()) for name, in_group in _groups(truth)}
    return sizes | {COLD_NDCG: sum(bool(cold) for cold in truth.cold_targets)}


def _groups(truth: GroundTruth) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """The measure of each group of users, and which cases are in it."""
    for group, (low, high) in USER_GROUPS.items():
        yield f"ndcg_at_10_users_{group}_events", (truth.history_lengths >= low) & (truth.history_lengths <= high)


def _per_list(truth: GroundTruth, lists: Sequence[RankedList]) -> dict[str, Floats]:
    """One value per case and measure; NaN where the measure does not apply."""
    judged = list(zip(lists, truth.targets, strict=True))
    ranked = [list_.ranked for list_ in lists]
    ndcg = ndcg_of_lists(ranked, truth.targets, K)
    values = {
        "ndcg_at_10": ndcg,
        "hr_at_10": np.array([hit_rate_at(list_.ranked, targets, K) for list_, targets in judged]),
        "mrr": np.array([reciprocal_rank(list_.ranked[:LIST_SIZE], targets) for list_, targets in judged]),
        "satisfaction": np.array(
            [
                of_list([by_item.get(item, 0.0) for item in list_.ranked[:K]])
                for list_, by_item in zip(lists, truth.satisfied, strict=True)
            ]
        ),
        "recall_at_100": np.array([recall_at(list_.candidates, targets, RECALL_K) for list_, targets in judged]),
    }
    if truth.shown.any():
        values["auc"] = np.array([auc(list_.ranked, targets) for list_, targets in judged])
    tops = [np.array(list_.ranked[:K], np.intp) for list_ in lists]
    values["novelty_bits"] = np.array([truth.information_bits[top].mean() if len(top) else np.nan for top in tops])
    values["intra_list_diversity"] = np.array([_diversity(truth.vectors[top]) for top in tops])
    values |= {name: np.where(in_group, ndcg, np.nan) for name, in_group in _groups(truth)}
    has_cold_targets = np.array([bool(cold) for cold in truth.cold_targets])
    values[COLD_NDCG] = np.where(has_cold_targets, ndcg_of_lists(ranked, truth.cold_targets, K), np.nan)
    return values


def _diversity(vectors: npt.NDArray[np.float32]) -> float:
    """One minus the mean cosine over the pairs. The square of the sum holds each pair twice, and each vector's own."""
    count = len(vectors)
    if count < 2:
        return float("nan")
    total = vectors.sum(0)
    return float(1 - (total @ total - count) / (count * (count - 1)))


def _gini(exposure: Floats) -> Floats:
    """(n, items) ascending -> (n,): `sum_i (2 i - items - 1) x_i / (items sum_i x_i)`, i from 1 (Gini 1912)."""
    items = exposure.shape[1]
    total = exposure.sum(1)
    gini: Floats = exposure @ (2 * np.arange(1, items + 1) - items - 1) / (items * np.maximum(total, 1e-9))
    return gini


def estimate_of(samples: Floats, limit: float = np.inf) -> Estimate:
    """Return an estimate: the first sample is the value, the others give its interval, cut at 0 and at the limit."""
    value, resampled = float(samples[0]), samples[1:][np.isfinite(samples[1:])]
    if not np.isfinite(value) or not len(resampled):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(resampled, (2.5, 97.5)) - resampled.mean() + value
    return Estimate(value, max(float(low), 0.0), min(float(high), limit))
