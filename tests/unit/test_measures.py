"""NDCG and hit rate against values worked out by hand, and a prequential judge that never peeks."""

from __future__ import annotations

import math

import pytest

from ranker.evaluation.measures import Prequential, Tally, hit_rate_at, ndcg_at


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
    judge.event("ada", "a", ["a"])  # the same again
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
