"""The baselines on a small shop with a known answer: plain references, the passing of time, and what is left out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ranker.evaluation.baselines.compare import CaseRanking, IndexedSplit, Plan, rank_all, tune
from ranker.evaluation.baselines.counting import Popularity
from ranker.evaluation.baselines.method import DAY_MS, Budget, Corpus, Events, Query, Scores
from ranker.evaluation.baselines.methods import METHODS, with_parts
from ranker.evaluation.baselines.sasrec import LENGTH, _sequences
from ranker.evaluation.ids import IdIndex
from ranker.evaluation.interactions import Interaction
from ranker.evaluation.log_order import ordered
from ranker.evaluation.protocols import next_basket
from tests.baseline_corpus import ITEMS, USERS, corpus, events, fitted


def no_stage(_: str) -> Callable[[int, int], None]:
    return lambda *_: None


def test_item_knn_is_the_cosine_of_baskets_with_order_decay() -> None:
    log = events()
    scores = fitted("item-knn", log, half_life_days=None).scores([Query(0, log[log.user == 0], 5_000_000)])[0]
    baskets: defaultdict[int, set[int]] = defaultdict(set)
    for basket, item in zip(log.basket.tolist(), log.item.tolist(), strict=True):
        baskets[basket].add(item)
    holding = [{basket for basket, items in baskets.items() if item in items} for item in range(ITEMS)]
    newest_first = list(dict.fromkeys(log.item[log.user == 0][::-1].tolist()))
    for item in range(ITEMS):
        expected = sum(
            0.97**age * len(holding[item] & holding[other]) / math.sqrt(len(holding[item]) * len(holding[other]))
            for age, other in enumerate(newest_first)
            if other != item and holding[item]
        )
        assert scores[item] == pytest.approx(expected, rel=1e-5)


def test_recent_popularity_halves_each_half_life() -> None:
    log = Events(*np.array([[0, 1, 2], [3, 4, 4], [0, int(7 * DAY_MS), int(14 * DAY_MS)], [0, 1, 2]]))
    scores = fitted("popularity-recent", log, half_life_days=7).scores([Query(0, log, 0)])[0]
    assert scores[[3, 4, 5]].tolist() == [0.25, 1.5, 0.0]


def test_recency_orders_by_first_or_last_event() -> None:
    log = Events(*np.array([[0, 0, 0], [1, 2, 1], [10, 20, 30], [0, 0, 0]]))
    first = fitted("recency", log, by="first").scores([Query(0, log, 0)])[0]
    last = fitted("recency", log, by="last").scores([Query(0, log, 0)])[0]
    assert first[2] > first[1] > first[0]
    assert last[1] > last[2] > last[0]


def test_sequences_hold_each_event_as_a_target_once_but_the_first() -> None:
    random = np.random.default_rng(5)
    user = np.sort(random.integers(0, 4, 900))
    log = Events(user, np.arange(900), np.arange(900), user)
    rows = _sequences(log, random)
    targets = rows[:, 1:][rows[:, :-1] > 0]
    firsts = [np.flatnonzero(user == one)[0] + 1 for one in range(4)]
    assert rows.shape[1] == LENGTH + 1
    assert sorted(targets.tolist()) == sorted(set(range(1, 901)) - set(firsts))
    for row in rows:
        assert (np.diff(row[row > 0]) == 1).all()
        assert len(set(user[row[row > 0] - 1])) == 1


def interactions() -> list[Interaction]:
    log = events()
    columns = zip(log.user.tolist(), log.item.tolist(), log.time_ms.tolist(), log.basket.tolist(), strict=True)
    return [Interaction(f"u{u}", f"i{i}", time_ms, "click", f"b{basket}") for u, i, time_ms, basket in columns]


IDS = IdIndex({f"u{user}": user for user in range(USERS)}, {f"i{item}": item for item in range(ITEMS)})


@pytest.mark.parametrize("leaky", [False, True])
def test_no_event_is_learnt_before_its_time_unless_the_split_is_leaky(
    leaky: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = next_basket(ordered(interactions(), 1))
    indexed = IndexedSplit(split, IDS)
    learnt: list[int] = []
    is_earlier: list[bool] = []

    class Spy(Popularity):
        def fit(self, log: Events) -> None:
            learnt.append(len(log))
            self._latest_ms = log.time_ms.max(initial=0)
            super().fit(log)

        def scores(self, queries: Sequence[Query]) -> Scores:
            is_earlier.extend(bool(self._latest_ms < query.as_of_ms) for query in queries)
            return super().scores(queries)

    monkeypatch.setitem(METHODS, "popularity", Spy)
    plan = Plan(2, 1.0, 1, leaky, np.ones(ITEMS, bool))
    tuned = tune(["popularity"], IndexedSplit(next_basket(split.training), IDS), corpus(), plan, no_stage)
    is_earlier.clear()
    learnt.clear()
    results = rank_all(tuned, indexed, corpus(), plan, no_stage)
    assert len(results["popularity"].lists) == len(split.cases) == len(is_earlier) > 10
    assert all(is_earlier) != leaky
    assert (learnt[0] == len(split.learnable)) == leaky


def test_a_list_leaves_out_the_history_and_items_that_are_unavailable_or_did_not_appear_yet() -> None:
    split = next_basket(ordered(interactions(), 1))
    indexed = IndexedSplit(split, IDS)
    available = np.ones(ITEMS, bool)
    available[3] = False
    later = corpus().appeared_ms.copy()
    later[9] = 10**15
    plan = Plan(2, 1.0, 1, False, available)
    method = METHODS["random"]({}, Corpus(USERS, corpus().vectors, later), Budget(1, 1.0, 1))
    for case, list_ in zip(split.cases, CaseRanking(indexed, split.cases, plan).lists(method), strict=True):
        history = {IDS.items[event.item] for event in split.history(case)}
        assert sorted(list_.ranked) == sorted(set(range(ITEMS)) - history - {3, 9})


def test_a_mixture_brings_its_parts() -> None:
    assert with_parts(["hybrid"]) == ["popularity-recent", "item-knn", "content", "hybrid"]
