"""Judge one system's lists: every measure with its bootstrap interval, for all users and by how much is known.

Items and users are numbers here. Knows no system and no protocol; called by `afterclick evaluate`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ranker.evaluation.measures import auc, hit_rate_at, ndcg_at, recall_at, reciprocal_rank

K = 10
LIST = 20
"""Places of a published list by default; MRR is 0 beyond them."""
RECALL_K = 100
RARE = 5
"""An item with fewer events is cold."""
RARE_NDCG = f"ndcg_at_10_items_under_{RARE}_events"
GROUPS = {"1": (0, 1), "2-4": (2, 4), "5-19": (5, 19), "20+": (20, np.inf)}
"""Users by their events before the question: the fewer, the colder. A list that was shown may have met none."""
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
class Questions:
    """What all systems were asked.

    Attributes
    ----------
    users : (n,) intp, whose list: users are resampled whole, with all their questions.
    targets : of each question; never empty.
    rare : of each question, the targets with fewer than `RARE` events then.
    known : (n,) the events of the user then.
    shown : of each question, whether it is about the order of a list that was shown.
    information : (items,) bits, `-log2` of the item's share of events: what novelty is made of.
    vectors : (items, dim) of the items' texts, unit length: what diversity is made of.
    """

    users: npt.NDArray[np.intp]
    targets: Sequence[frozenset[int]]
    rare: Sequence[frozenset[int]]
    known: npt.NDArray[np.intp]
    shown: npt.NDArray[np.bool_]
    information: Floats
    vectors: npt.NDArray[np.float32]


class RankedList(NamedTuple):
    """One list, and the candidates that it was chosen from; of a list that was shown, all its items in order."""

    ranked: list[int]
    candidates: list[int]


def judge(questions: Questions, answers: Sequence[RankedList], seed: int) -> dict[str, Estimate]:
    """All measures of one system.

    Novelty is the mean self-information of the top ten (Zhou et al., PNAS 2010), diversity one minus the mean cosine
    between any two of them (Ziegler et al., WWW 2005), coverage the share of the catalogue in anybody's top ten, and
    Gini how unequally the places of all top tens are given to the catalogue's items: 0 equally, 1 all to one.

    The intervals are of a bootstrap over users, centred on the value: a resample holds fewer different users, so fewer
    distinct items, and uncentred, the interval of coverage would lie below its value.
    """
    per_list = _per_list(questions, answers)
    _, user = np.unique(questions.users, return_inverse=True)
    users, items = int(user.max()) + 1, len(questions.vectors)
    sums = {name: _of_users(values, user, users) for name, values in per_list.items()}
    tops = [answer.ranked[:K] for answer in answers]
    places = sp.csr_matrix(
        (np.ones(sum(map(len, tops))), (np.repeat(user, list(map(len, tops))), np.concatenate(tops).astype(np.intp))),
        (users, items),
    )
    found: dict[str, list[Floats]] = defaultdict(list)
    for weights in _weights(users, seed):
        for name, (total, count) in sums.items():
            with np.errstate(invalid="ignore"):
                found[name].append((weights @ total) / (weights @ count))
        exposure = np.sort(weights @ places, axis=1)
        found["distinct_items"].append((exposure > 0).sum(1).astype(np.float64))
        found["exposure_gini"].append(_gini(exposure))
    estimates = {name: _estimate(np.concatenate(values)) for name, values in found.items() if name != "distinct_items"}
    distinct = np.concatenate(found["distinct_items"])
    most = {"distinct_items": _estimate(distinct, items), "coverage": _estimate(distinct / items, 1)}
    return estimates | most


def _of_users(values: Floats, user: npt.NDArray[np.intp], users: int) -> tuple[Floats, Floats]:
    """Each user's sum of what was measured, and how often it was."""
    given = np.isfinite(values)
    total = np.bincount(user[given], values[given], users).astype(np.float64)
    return total, np.bincount(user[given], minlength=users).astype(np.float64)


def _weights(users: int, seed: int) -> Iterator[Floats]:
    """How often each user is in the sample: first the sample itself, then the resamples, some at a time."""
    yield np.ones((1, users))
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES // AT_A_TIME):
        yield random.multinomial(users, np.full(users, 1 / users), AT_A_TIME).astype(np.float64)


def questions_by_group(questions: Questions) -> dict[str, int]:
    """How many questions are behind each measure of a group."""
    sizes = {name: int(inside.sum()) for name, inside in _groups(questions)}
    return sizes | {RARE_NDCG: sum(bool(few) for few in questions.rare)}


def _groups(questions: Questions) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Each group of users, and which questions are theirs."""
    for group, (least, most) in GROUPS.items():
        yield f"ndcg_at_10_users_{group}_events", (questions.known >= least) & (questions.known <= most)


def _per_list(questions: Questions, answers: Sequence[RankedList]) -> dict[str, Floats]:
    """One value per question and measure; NaN where the measure does not apply."""
    each = list(zip(answers, questions.targets, questions.rare, strict=True))
    ndcg = np.array([ndcg_at(a.ranked, targets, K) for a, targets, _ in each])
    rare = [ndcg_at(a.ranked, few, K) if few else np.nan for a, _, few in each]
    values = {
        "ndcg_at_10": ndcg,
        "hr_at_10": np.array([hit_rate_at(a.ranked, targets, K) for a, targets, _ in each]),
        "mrr": np.array([reciprocal_rank(a.ranked[:LIST], targets) for a, targets, _ in each]),
        "recall_at_100": np.array([recall_at(a.candidates, targets, RECALL_K) for a, targets, _ in each]),
    }
    if questions.shown.any():
        values["auc"] = np.array([auc(a.ranked, targets) for a, targets, _ in each])
    tops = [np.array(a.ranked[:K], np.intp) for a in answers]
    values["novelty_bits"] = np.array([questions.information[top].mean() if len(top) else np.nan for top in tops])
    values["intra_list_diversity"] = np.array([_diversity(questions.vectors[top]) for top in tops])
    values |= {name: np.where(inside, ndcg, np.nan) for name, inside in _groups(questions)}
    values[RARE_NDCG] = np.array(rare)
    return values


def _diversity(vectors: npt.NDArray[np.float32]) -> float:
    """Over the pairs of a list: the square of the sum holds each twice, and each with itself."""
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


def _estimate(values: Floats, most: float = np.inf) -> Estimate:
    """The first is the value, the others those of the resamples; an interval ends at 0 and at the most there can be."""
    value, resampled = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(value) or not len(resampled):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(resampled, (2.5, 97.5)) - resampled.mean() + value
    return Estimate(value, max(float(low), 0.0), min(float(high), most))
