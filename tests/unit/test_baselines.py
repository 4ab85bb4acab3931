"""Every traditional method on a small shop with a known answer, and the counting ones against a plain reference."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ranker.evaluation.baselines.compare import Asked, Asking, Numbers, Plan, ask, tune
from ranker.evaluation.baselines.counting import Popularity
from ranker.evaluation.baselines.method import DAY_MS, Budget, Events, Method, Query, Scores, Shop
from ranker.evaluation.baselines.methods import METHODS, with_parts
from ranker.evaluation.baselines.sasrec import LENGTH, _sequences
from ranker.evaluation.protocols import Interaction, next_basket, ordered

ITEMS, USERS = 12, 60
PERSONAL = [name for name in METHODS if name not in ("random", "popularity", "popularity-recent", "recency")]


def shop() -> Shop:
    """Items 0 to 5 are of one kind, 6 to 11 of another, in behaviour as in their texts."""
    texts = np.random.default_rng(1).normal(0, 0.1, (ITEMS, 8)).astype(np.float32)
    texts[:6, 0] += 1
    texts[6:, 1] += 1
    return Shop(USERS, texts / np.linalg.norm(texts, axis=1, keepdims=True), np.zeros(ITEMS, np.int64))


def events() -> Events:
    """Even users choose among the first kind, odd ones among the second; in baskets of two."""
    random = np.random.default_rng(2)
    user = np.repeat(np.arange(USERS), 8)
    item = np.concatenate([random.integers(0, 6, 8) + 6 * (one % 2) for one in range(USERS)])
    time_ms = np.tile(np.arange(8) // 2, USERS) * 1_000_000 + user
    order = time_ms.argsort(kind="stable")
    basket = user * 4 + np.tile(np.arange(8) // 2, USERS)
    return Events(user[order], item[order], time_ms[order], basket[order])


def fitted(name: str, log: Events, **setting: Any) -> Method:
    kind = METHODS[name]
    parts = [fitted(part, log) for part in kind.parts]
    default = {key: values[0] for key, values in kind.grid.items()}
    method = kind(default | setting, shop(), Budget(3, 20.0, len(log)), parts)
    method.fit(log)
    return method


@pytest.mark.parametrize("name", METHODS)
def test_scores_have_their_shape_and_are_numbers(name: str) -> None:
    log = events()
    method = fitted(name, log)
    queries = [Query(user, log[log.user == user], 5_000_000) for user in range(5)]
    scores = method.scores(queries)
    assert scores.shape == (5, ITEMS)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, method.scores(queries)), "the same question has the same answer"
    method.fit(log)  # as time goes by


@pytest.mark.parametrize("name", PERSONAL)
def test_a_personal_method_finds_the_users_kind(name: str) -> None:
    log = events()
    setting = {"iterations": 200, "learning_rate": 0.1} if name == "bpr" else {}
    method = fitted(name, log, **setting)
    scores = method.scores([Query(user, log[log.user == user], 5_000_000) for user in range(10)])
    for user, row in enumerate(scores):
        own = np.arange(6) + 6 * (user % 2)
        others = np.setdiff1d(np.arange(ITEMS), own)
        assert row[own].mean() > row[others].mean(), user


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
            0.97**place * len(holding[item] & holding[other]) / math.sqrt(len(holding[item]) * len(holding[other]))
            for place, other in enumerate(newest_first)
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


NUMBERS = Numbers({f"u{user}": user for user in range(USERS)}, {f"i{item}": item for item in range(ITEMS)})


@pytest.mark.parametrize("peek", [False, True])
def test_nothing_is_learned_before_its_time_unless_peeked(peek: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    split = next_basket(ordered(interactions(), 1))
    asked = Asked(split, NUMBERS)
    learned: list[int] = []
    checked: list[int] = []

    class Spy(Popularity):
        def fit(self, log: Events) -> None:
            learned.append(len(log))
            self._latest_ms = log.time_ms.max(initial=0)
            super().fit(log)

        def scores(self, queries: Sequence[Query]) -> Scores:
            checked.extend(self._latest_ms < query.as_of_ms for query in queries)
            return super().scores(queries)

    monkeypatch.setitem(METHODS, "popularity", Spy)
    plan = Plan(2, 1.0, 1, peek, np.ones(ITEMS, bool))
    tuned = tune(["popularity"], Asked(next_basket(split.training), NUMBERS), shop(), plan, lambda *_: None)
    checked.clear()
    learned.clear()
    found = ask(["popularity"], tuned, asked, shop(), plan, lambda *_: None)
    assert len(found["popularity"][0]) == len(split.cases) == len(checked) > 10
    assert all(checked) != peek
    assert (learned[0] == len(split.learnable)) == peek


def test_a_list_leaves_out_what_is_known_unavailable_or_still_to_come() -> None:
    split = next_basket(ordered(interactions(), 1))
    asked = Asked(split, NUMBERS)
    available = np.ones(ITEMS, bool)
    available[3] = False
    later = shop().appeared_ms.copy()
    later[9] = 10**15
    plan = Plan(2, 1.0, 1, False, available)
    method = METHODS["random"]({}, Shop(USERS, shop().vectors, later), Budget(1, 1.0, 1))
    for case, answer in zip(split.cases, Asking(asked, split.cases, plan).answers(method), strict=True):
        known = {NUMBERS.items[event.item] for event in split.known(case)}
        assert sorted(answer.ranked) == sorted(set(range(ITEMS)) - known - {3, 9})


def test_a_mixture_brings_its_parts() -> None:
    assert with_parts(["hybrid"]) == ["popularity-recent", "item-knn", "content", "hybrid"]
