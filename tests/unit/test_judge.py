"""Measures of whole systems against plain references, and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ranker.evaluation.judge import Questions, RankedList, judge
from ranker.evaluation.measures import auc, ndcg_at, recall_at, reciprocal_rank

ITEMS = 30


def questions(count: int, users: int, seed: int, shown: bool = False) -> Questions:
    random = np.random.default_rng(seed)
    targets = [frozenset(random.choice(ITEMS, random.integers(1, 4), replace=False).tolist()) for _ in range(count)]
    vectors = random.normal(size=(ITEMS, 4)).astype(np.float32)
    return Questions(
        users=random.integers(0, users, count),
        targets=targets,
        rare=[frozenset(item for item in items if item < 5) for items in targets],
        known=random.integers(1, 40, count),
        shown=np.full(count, shown),
        information=random.random(ITEMS),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def answers(count: int, seed: int) -> list[RankedList]:
    random = np.random.default_rng(seed)
    lists = [random.permutation(ITEMS).tolist() for _ in range(count)]
    return [RankedList(list_[:20], list_[:25]) for list_ in lists]


def test_every_measure_equals_its_plain_reference() -> None:
    asked, given = questions(50, 20, 1), answers(50, 2)
    found = judge(asked, given, 3)
    tops = [answer.ranked[:10] for answer in given]
    ndcg = [ndcg_at(top, targets, 10) for top, targets in zip(tops, asked.targets, strict=True)]
    assert found["ndcg_at_10"].value == pytest.approx(np.mean(ndcg))
    mrr = [reciprocal_rank(answer.ranked, t) for answer, t in zip(given, asked.targets, strict=True)]
    assert found["mrr"].value == pytest.approx(np.mean(mrr))
    recall = [len(t & set(answer.candidates)) / len(t) for answer, t in zip(given, asked.targets, strict=True)]
    assert found["recall_at_100"].value == pytest.approx(np.mean(recall))
    assert found["novelty_bits"].value == pytest.approx(np.mean([asked.information[top].mean() for top in tops]))
    diversity = [np.mean([1 - asked.vectors[a] @ asked.vectors[b] for a in top for b in top if a != b]) for top in tops]
    assert found["intra_list_diversity"].value == pytest.approx(np.mean(diversity), rel=1e-5)
    distinct = {item for top in tops for item in top}
    assert found["distinct_items"].value == len(distinct)
    assert found["coverage"].value == len(distinct) / ITEMS
    places = [sum(top.count(item) for top in tops) for item in range(ITEMS)]
    pairs = sum(abs(a - b) for a in places for b in places)
    assert found["exposure_gini"].value == pytest.approx(pairs / (2 * ITEMS * sum(places)))
    some = [value for value, known in zip(ndcg, asked.known, strict=True) if 5 <= known <= 19]
    assert found["ndcg_at_10_users_5-19_events"].value == pytest.approx(np.mean(some))
    cold = [ndcg_at(top, few, 10) for top, few in zip(tops, asked.rare, strict=True) if few]
    assert found["ndcg_at_10_items_under_5_events"].value == pytest.approx(np.mean(cold))
    assert "auc" not in found
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_the_interval_is_as_wide_as_theory_says_and_resamples_users_whole() -> None:
    asked, given = questions(400, 10**9, 1), answers(400, 2)
    found = judge(asked, given, 3)["hr_at_10"]
    expected = 2 * 1.96 * math.sqrt(found.value * (1 - found.value) / 400)
    assert found.high - found.low == pytest.approx(expected, rel=0.1)
    twice = Questions(
        users=np.tile(asked.users, 2),
        targets=[*asked.targets] * 2,
        rare=[*asked.rare] * 2,
        known=np.tile(asked.known, 2),
        shown=np.tile(asked.shown, 2),
        information=asked.information,
        vectors=asked.vectors,
    )
    repeated = judge(twice, given * 2, 3)["hr_at_10"]
    assert repeated.high - repeated.low == pytest.approx(found.high - found.low, rel=0.1), "nothing new was seen"


def test_nothing_measured_is_nan() -> None:
    asked = questions(5, 3, 1)
    none = Questions(
        asked.users,
        asked.targets,
        [frozenset()] * 5,
        asked.known * 0 + 7,
        asked.shown,
        asked.information,
        asked.vectors,
    )
    found = judge(none, answers(5, 2), 3)
    assert math.isnan(found["ndcg_at_10_items_under_5_events"].value)
    assert math.isnan(found["ndcg_at_10_users_1_events"].value)


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
    found = judge(questions(9, 3, 1, shown=True), answers(9, 2), 3)
    assert 0 <= found["auc"].value <= 1


def test_recall_and_reciprocal_rank_count_an_item_once() -> None:
    assert recall_at([1, 1, 2], {1, 3}, 3) == 0.5
    assert reciprocal_rank([5, 1, 1], {1}) == 0.5
    assert reciprocal_rank([5], {1}) == 0.0
