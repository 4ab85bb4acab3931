"""The measures against plain references, hand-made values and `ir-measures`; and the prequential judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG

from ranker.evaluation.measures import Prequential, Tally, hit_rate_at, ndcg, ndcg_at, recall_at, reciprocal_rank


def plain_ndcg(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """NDCG@k in plain loops, of a list without repeated items."""
    gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(ranked[:k], 1) if item in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return gain / ideal if ideal else 0.0


@pytest.mark.parametrize(
    ("ranked", "relevant", "k", "expected"),
    [
        ("abc", {"a"}, 3, 1.0),
        ("abc", {"b"}, 3, 1 / math.log2(3)),
        ("abc", {"b"}, 1, 0.0),
        ("abc", {"a", "c"}, 3, (1 + 1 / 2) / (1 + 1 / math.log2(3))),
        ("ab", {"a", "b", "c"}, 2, 1.0),  # no order of two can do better
        ("aab", {"a"}, 3, 1.0),  # a repeated item counts once
        ("abc", {"z"}, 3, 0.0),
        ("abc", set(), 3, 0.0),
        ("", {"a"}, 3, 0.0),
    ],
)
def test_ndcg(ranked: str, relevant: set[str], k: int, expected: float) -> None:
    assert ndcg_at(list(ranked), relevant, k) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_of_one_list_and_of_many_equal_plain_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    lists = [random.permutation(30)[: random.integers(0, 25)].tolist() for _ in range(40)]
    relevant = [set(random.choice(30, random.integers(0, 14), replace=False).tolist()) for _ in lists]
    expected = [plain_ndcg(ranked, items, 10) for ranked, items in zip(lists, relevant, strict=True)]
    assert [ndcg_at(ranked, items, 10) for ranked, items in zip(lists, relevant, strict=True)] == pytest.approx(
        expected
    )
    labels = np.zeros((len(lists), 25), np.bool_)
    for row, ranked, items in zip(labels, lists, relevant, strict=True):
        row[: len(ranked)] = [item in items for item in ranked]
    assert ndcg(labels, np.array([len(items) for items in relevant]), 10) == pytest.approx(expected)
    narrow = ndcg(labels[:, :4], np.array([len(items) for items in relevant]), 10)
    assert narrow == pytest.approx([plain_ndcg(a[:4], b, 10) for a, b in zip(lists, relevant, strict=True)])


def reciprocal_rank_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    return reciprocal_rank(ranked[:k], relevant)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_every_measure_equals_that_of_ir_measures(k: int) -> None:
    """Fresh random lists, some shorter than k or empty, from scores with ties that our order breaks.

    trec_eval, which does the work there, breaks ties in another order, so it is given a score for each rank.
    """
    random = np.random.default_rng()
    ranked, relevant = {}, {}
    for number in range(60):
        scores = random.integers(0, 4, random.integers(0, 25))
        ranked[f"q{number}"] = [f"d{item}" for item in np.argsort(-scores, kind="stable")]
        chosen = random.choice(30, random.integers(1, 8), replace=False)
        relevant[f"q{number}"] = {f"d{item}" for item in chosen}
    qrels = {query: dict.fromkeys(items, 1) for query, items in relevant.items()}
    run = {query: {item: float(-rank) for rank, item in enumerate(items)} for query, items in ranked.items()}
    ours: dict[Any, Callable[[Sequence[Hashable], Collection[Hashable], int], float]] = {
        nDCG @ k: ndcg_at,
        R @ k: recall_at,
        Success @ k: hit_rate_at,
        RR @ k: reciprocal_rank_at,
    }
    judged = {(value.query_id, value.measure): value.value for value in ir_measures.iter_calc(list(ours), qrels, run)}
    for measure, function in ours.items():
        for query, items in ranked.items():
            expected = judged.get((query, measure), 0.0)
            assert function(items, relevant[query], k) == pytest.approx(expected), (query, measure)
    assert len(judged) > 3 * 50


@pytest.mark.parametrize(
    ("ranked", "relevant", "k", "expected"),
    [("abc", {"c"}, 3, 1.0), ("abc", {"c"}, 2, 0.0), ("", {"c"}, 2, 0.0), ("abc", set(), 3, 0.0)],
)
def test_hit_rate(ranked: str, relevant: set[str], k: int, expected: float) -> None:
    assert hit_rate_at(list(ranked), relevant, k) == expected


def test_a_tally_is_a_mean_and_counts_each_users_latest_list() -> None:
    tally = Tally(k=2)
    assert (tally.ndcg, tally.hit_rate, tally.distinct) == (None, None, 0)
    tally.judge("ada", ["a", "b", "c"], "c")
    tally.judge("ada", ["a", "d", "e"], "a")
    tally.judge("ben", ["a", "f"], "f")
    assert tally.hit_rate == pytest.approx(2 / 3)
    assert tally.ndcg == pytest.approx((0 + 1 + 1 / math.log2(3)) / 3)
    assert tally.distinct == 3  # a, d, f: ada's first list is no longer hers, and what lies past k is not shown


def test_only_what_came_before_an_event_can_answer_it() -> None:
    judge = Prequential(["a", "b", "c"], seed=1, k=1)
    judge.event("ada", "a", None)  # no list yet
    judge.event("ada", "a", ["a"])  # the same item again
    assert judge.afterclick.judged == judge.popularity.judged == judge.random.judged == 0
    judge.event("ada", "b", ["b"])  # popularity knows only "a", which ada has just seen
    assert judge.afterclick.hit_rate == 1.0
    assert judge.popularity.hit_rate == 0.0
    judge.event("ben", "c", None)
    judge.event("ben", "a", ["b"])  # now "a" is the most popular
    assert judge.afterclick.hit_rate == judge.popularity.hit_rate == 0.5


def test_the_random_list_depends_on_the_seed_alone() -> None:
    items = [f"item-{number}" for number in range(40)]

    def distinct(seed: int) -> tuple[float | None, int]:
        judge = Prequential(items, seed)
        for number in range(200):
            judge.event(f"user-{number % 3}", items[number % 40], [])
        return judge.random.ndcg, judge.random.distinct

    assert distinct(1) == distinct(1)
    assert distinct(1) != distinct(2)
    ndcg, distinct_items = distinct(1)
    assert ndcg is not None
    assert 0.05 < ndcg < 0.25  # 10 of 40 by chance: mean discount .454 times 1/4
    assert 10 < distinct_items <= 30
