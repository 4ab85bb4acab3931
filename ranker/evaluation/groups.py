"""Judge one system's lists by groups of items, or by groups of users: who is shown, who is served, and who chooses.

The exposure of rank `r` is `1 / log2(r + 1)` (Singh and Joachims, KDD 2018), of the first ten. Of a group of items:

- exposure: its share of a list, mean over the lists,
- chosen: its share of what the users chose then,
- calibration: exposure over chosen. 1: the group is shown as much as it is chosen, which is that paper's
  proportionality of exposure and merit,
- NDCG@10 of the lists whose users chose of the group, counting the group's items alone,
- coverage: the share of the group's items that are in anybody's top ten.

Of a group of users: exposure and chosen are the shares of the popular items, the fifth of the catalogue with the most
events. A calibration above 1 is a popularity bias of the lists (Abdollahpouri et al., RecSys 2020). NDCG@10 is that of
the group's lists, and coverage the share of the catalogue in its top tens.

The intervals are those of `judge`: a bootstrap over users. Knows no system and no field of an item.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ranker.evaluation.extra import evaluate_extra
from ranker.evaluation.judge import (
    USER_GROUPS,
    Estimate,
    Floats,
    GroundTruth,
    Groups,
    estimate_of,
    resample_weights,
    sums_by_user,
)
from ranker.evaluation.measures import K, discounts, ndcg_of_lists
from ranker.evaluation.protocols import RankedList

with evaluate_extra():
    import scipy.sparse as sp

MEASURES = ("exposure", "chosen", "calibration", "ndcg_at_10", "coverage")
MAX_GROUPS = 12
"""More groups of items than these are joined, the smallest; chosen by us: what a table and a plot can show."""
NO_VALUE = "(none)"
POPULAR = 0.2
"""The share of the catalogue that is popular, as in Abdollahpouri et al."""

ByGroup = Mapping[str, Mapping[str, Estimate]]
"""Group -> measure -> estimate."""


def item_groups(values: Sequence[Sequence[str]]) -> Groups:
    """Group the items of a catalogue by the values of a field; those without a value are one group.

    Parameters
    ----------
    values : sequence of sequence of str
        The values of each item.
    """
    named = [tuple(dict.fromkeys(of_item)) or (NO_VALUE,) for of_item in values]
    counted = Counter(value for of_item in named for value in of_item)
    names = [name for name, _ in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))]
    own, others = (names, []) if len(names) <= MAX_GROUPS else (names[: MAX_GROUPS - 1], names[MAX_GROUPS - 1 :])
    rows = {name: row for row, name in enumerate(own)} | dict.fromkeys(others, len(own))
    members = np.zeros((len(own) + bool(others), len(named)), np.bool_)
    for item, of_item in enumerate(named):
        members[[rows[value] for value in of_item], item] = True
    return Groups(False, own + [f"{len(others):,} others"] * bool(others), members)


def user_groups(history_lengths: npt.NDArray[np.intp]) -> Groups:
    """Group cases by the number of events of their users."""
    found = {
        f"{name} events": (history_lengths >= low) & (history_lengths <= high)
        for name, (low, high) in USER_GROUPS.items()
    }
    kept = {name: members for name, members in found.items() if members.any()}
    return Groups(True, list(kept), np.array([*kept.values()]))


def judge_groups(truth: GroundTruth, lists: Sequence[RankedList], seed: int) -> ByGroup:
    """Judge the lists of one system by the groups of `truth`; without groups, by none.

    Parameters
    ----------
    truth : GroundTruth
    lists : sequence of RankedList
        One a case.
    seed : int
        Of the resamples.
    """
    groups = truth.groups
    if groups is None:
        return {}
    tops = [np.array(list_.ranked[:K], np.intp) for list_ in lists]
    _, user = np.unique(truth.users, return_inverse=True)
    users = int(user.max()) + 1
    found: dict[str, dict[str, Estimate]] = {}
    for name, members in zip(groups.names, groups.members, strict=True):
        cases = members if groups.of_users else np.ones(len(lists), np.bool_)
        items = _popular(truth) if groups.of_users else members
        counted = np.ones(len(items), np.bool_) if groups.of_users else members
        columns = {
            "exposure": np.array([_exposure(top, items) for top in tops]),
            "chosen": np.array([np.mean([items[item] for item in targets]) for targets in truth.targets]),
            "ndcg_at_10": _ndcg(truth, lists, counted),
        }
        sums = {
            column: sums_by_user(np.where(cases, values, np.nan), user, users) for column, values in columns.items()
        }
        shown = [top[counted[top]] if kept else top[:0] for top, kept in zip(tops, cases, strict=True)]
        found[name] = _estimates(sums, _shown(shown, user, users, len(items)), int(counted.sum()), seed)
    return found


def _estimates(
    sums: Mapping[str, tuple[Floats, Floats]], shown: sp.csr_matrix, items: int, seed: int
) -> dict[str, Estimate]:
    samples: dict[str, list[Floats]] = defaultdict(list)
    for weights in resample_weights(shown.shape[0], seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {name: (weights @ total) / (weights @ count) for name, (total, count) in sums.items()}
            means["calibration"] = means["exposure"] / means["chosen"]
        for name, values in means.items():
            samples[name].append(values)
        samples["coverage"].append(((weights @ shown) > 0).sum(1) / max(items, 1))
    limits = {"calibration": np.inf}
    return {name: estimate_of(np.concatenate(samples[name]), limits.get(name, 1.0)) for name in MEASURES}


def _exposure(top: npt.NDArray[np.intp], items: npt.NDArray[np.bool_]) -> float:
    """The share of the exposure of a list that these items get; NaN of an empty list."""
    weights = discounts(K)[: len(top)]
    return float(weights[items[top]].sum() / weights.sum()) if len(top) else np.nan


def _ndcg(truth: GroundTruth, lists: Sequence[RankedList], counted: npt.NDArray[np.bool_]) -> Floats:
    targets = [frozenset(item for item in of_case if counted[item]) for of_case in truth.targets]
    values = ndcg_of_lists([list_.ranked for list_ in lists], targets, K)
    return np.where([bool(of_case) for of_case in targets], values, np.nan)


def _shown(tops: Sequence[npt.NDArray[np.intp]], user: npt.NDArray[np.intp], users: int, items: int) -> sp.csr_matrix:
    """Which user was shown which item: (users, items)."""
    sizes = list(map(len, tops))
    pairs = np.repeat(user, sizes), np.concatenate(tops)
    return sp.csr_matrix((np.ones(sum(sizes)), pairs), (users, items))


def _popular(truth: GroundTruth) -> npt.NDArray[np.bool_]:
    items = len(truth.information_bits)
    popular = np.zeros(items, np.bool_)
    popular[np.argsort(truth.information_bits, kind="stable")[: max(1, round(POPULAR * items))]] = True
    return popular
