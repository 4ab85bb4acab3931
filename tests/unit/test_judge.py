"""Measures of whole systems against plain references, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from ranker.evaluation.judge import GroundTruth, judge
from ranker.evaluation.measures import auc, recall_at, reciprocal_rank
from ranker.evaluation.protocols import RankedList
from tests.unit.test_measures import plain_ndcg

ITEMS = 30


def ground_truth(count: int, users: int, seed: int, shown: bool = False) -> GroundTruth:
    random = np.random.default_rng(seed)
    targets = [frozenset(random.choice(ITEMS, random.integers(1, 4), replace=False).tolist()) for _ in range(count)]
    vectors = random.normal(size=(ITEMS, 4)).astype(np.float32)
    return GroundTruth(
        users=random.integers(0, users, count),
        targets=targets,
        cold_targets=[frozenset(item for item in items if item < 5) for items in targets],
        history_lengths=random.integers(1, 40, count),
        shown=np.full(count, shown),
        information_bits=random.random(ITEMS),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        satisfied=[{item: 1 / (1 + item % 3) for item in items} for items in targets],
    )


def ranked_lists(count: int, seed: int) -> list[RankedList]:
    random = np.random.default_rng(seed)
    lists = [random.permutation(ITEMS).tolist() for _ in range(count)]
    return [RankedList(list_[:20], list_[:25]) for list_ in lists]


def plain_err(top: list[int], shares: Mapping[int, float]) -> float:
    """Expected reciprocal rank: over the rank at which the user stops."""
    stops = [
        math.prod(1 - shares.get(item, 0) for item in top[:rank]) * shares.get(top[rank], 0) for rank in range(len(top))
    ]
    return sum(stop / (rank + 1) for rank, stop in enumerate(stops))


def test_every_measure_equals_its_plain_reference() -> None:
    truth, given = ground_truth(50, 20, 1), ranked_lists(50, 2)
    estimates = judge(truth, given, 3)
    tops = [list_.ranked[:10] for list_ in given]
    ndcg = [plain_ndcg(top, targets, 10) for top, targets in zip(tops, truth.targets, strict=True)]
    assert estimates["ndcg_at_10"].value == pytest.approx(np.mean(ndcg))
    mrr = [reciprocal_rank(list_.ranked, t) for list_, t in zip(given, truth.targets, strict=True)]
    assert estimates["mrr"].value == pytest.approx(np.mean(mrr))
    satisfied = [plain_err(top, shares) for top, shares in zip(tops, truth.satisfied, strict=True)]
    assert estimates["satisfaction"].value == pytest.approx(np.mean(satisfied))
    recall = [len(t & set(list_.candidates)) / len(t) for list_, t in zip(given, truth.targets, strict=True)]
    assert estimates["recall_at_100"].value == pytest.approx(np.mean(recall))
    novelty = [truth.information_bits[top].mean() for top in tops]
    assert estimates["novelty_bits"].value == pytest.approx(np.mean(novelty))
    diversity = [np.mean([1 - truth.vectors[a] @ truth.vectors[b] for a in top for b in top if a != b]) for top in tops]
    assert estimates["intra_list_diversity"].value == pytest.approx(np.mean(diversity), rel=1e-5)
    distinct = {item for top in tops for item in top}
    assert estimates["distinct_items"].value == len(distinct)
    assert estimates["coverage"].value == len(distinct) / ITEMS
    exposures = [sum(top.count(item) for top in tops) for item in range(ITEMS)]
    differences = sum(abs(a - b) for a in exposures for b in exposures)
    assert estimates["exposure_gini"].value == pytest.approx(differences / (2 * ITEMS * sum(exposures)))
    in_group = [value for value, length in zip(ndcg, truth.history_lengths, strict=True) if 5 <= length <= 19]
    assert estimates["ndcg_at_10_users_5-19_events"].value == pytest.approx(np.mean(in_group))
    cold = [plain_ndcg(top, targets, 10) for top, targets in zip(tops, truth.cold_targets, strict=True) if targets]
    assert estimates["ndcg_at_10_items_under_5_events"].value == pytest.approx(np.mean(cold))
    assert "auc" not in estimates
    for estimate in estimates.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_the_interval_is_as_wide_as_theory_says_and_resamples_users_whole() -> None:
    truth, given = ground_truth(400, 10**9, 1), ranked_lists(400, 2)
    once = judge(truth, given, 3)["hr_at_10"]
    expected = 2 * 1.96 * math.sqrt(once.value * (1 - once.value) / 400)
    assert once.high - once.low == pytest.approx(expected, rel=0.1)
    twice = GroundTruth(
        users=np.tile(truth.users, 2),
        targets=[*truth.targets] * 2,
        cold_targets=[*truth.cold_targets] * 2,
        history_lengths=np.tile(truth.history_lengths, 2),
        shown=np.tile(truth.shown, 2),
        information_bits=truth.information_bits,
        vectors=truth.vectors,
        satisfied=[*truth.satisfied] * 2,
    )
    repeated = judge(twice, given * 2, 3)["hr_at_10"]
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.1), (
        "the same users again add no information"
    )


def test_nothing_measured_is_nan() -> None:
    truth = ground_truth(5, 3, 1)
    none = GroundTruth(
        truth.users,
        truth.targets,
        [frozenset()] * 5,
        truth.history_lengths * 0 + 7,
        truth.shown,
        truth.information_bits,
        truth.vectors,
        truth.satisfied,
    )
    estimates = judge(none, ranked_lists(5, 2), 3)
    assert math.isnan(estimates["ndcg_at_10_items_under_5_events"].value)
    assert math.isnan(estimates["ndcg_at_10_users_1_events"].value)


def test_auc_counts_pairs() -> None:
    random = np.random.default_rng(4)
    for _ in range(100):
        ranked = random.permutation(12).tolist()
        wanted = set(random.choice(12, random.integers(1, 12), replace=False).tolist())
        good = [ranked.index(a) < ranked.index(b) for a in wanted for b in range(12) if b not in wanted]
        if good:
            assert auc(ranked, wanted) == pytest.approx(np.mean(good))
        else:
            assert math.isnan(auc(ranked, wanted))
    estimates = judge(ground_truth(9, 3, 1, shown=True), ranked_lists(9, 2), 3)
    assert 0 <= estimates["auc"].value <= 1


def test_recall_and_reciprocal_rank_count_an_item_once() -> None:
    assert recall_at([1, 1, 2], {1, 3}, 3) == 0.5
    assert reciprocal_rank([5, 1, 1], {1}) == 0.5
    assert reciprocal_rank([5], {1}) == 0.0
