"""Exploration in the rank tier: what it adds to lists, which lists it leaves alone, and what the head is certain of."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from ranker.exploration.posterior import ITEM_SD, Posterior
from ranker.features import NAMES, NEWNESS, SCHEMA
from ranker.fusion.fused import FusedScorer
from ranker.fusion.head import describe
from ranker.fusion.online import OnlineHead
from ranker.load import load_scorer
from ranker.score import FeatureSet, ListFeedback, ScoreRequest
from streams.client.arguments import shown as impression_of
from streams.contracts import Candidate, Features, HistoryEvent, RankRequest, Recommendations
from streams.models import process as model_process
from streams.models.child_models import ChildScorer
from streams.rank.list_without import without
from streams.rank.tier import RankTier
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message
from streams.settings import RankerSettings, Settings
from tests.unit.test_cascade import linear

SIZE, CANDIDATES = 10, 40
NEW = range(30, CANDIDATES)
"""The candidates without an event; the head likes each candidate a little less than the one before."""


def scorer(explores: bool = True) -> FusedScorer:
    fused = FusedScorer("head", None, linear({"co_visited": 1.0}, NAMES), FeatureSet(NAMES, ""))
    fused.start(learning=True, exploring=explores)
    return fused


def tier(explore: float, **more: Any) -> RankTier:
    ranker = RankerSettings(explore=explore, explore_max_loss=0.9, list_size=SIZE, max_per_category=SIZE, **more)
    return RankTier(Settings(ranker=ranker), scorer(explore > 0))


def request(user: str = "ann", version: int = 7, **more: Any) -> RankRequest:
    values = np.zeros((CANDIDATES, len(NAMES)), np.float16)
    values[:, NAMES.index("co_visited")] = -0.03 * np.arange(CANDIDATES)
    values[list(NEW), NAMES.index(NEWNESS)] = 1
    fields: dict[str, Any] = {
        "request_id": f"{user}-{version}",
        "user_id": user,
        "as_of": 1_700_000_000_000,
        "history": [HistoryEvent(item_id="x", type="click", timestamp=1_700_000_000_000, title="X")],
        "candidates": [Candidate(item_id=f"i{n:02}", text=f"thing {n}") for n in range(CANDIDATES)],
        "features": Features(schema=SCHEMA, values=values.tobytes()),
        "state_version": version,
    }
    return RankRequest(**(fields | more))


def ranked(of: RankTier, *requests: RankRequest) -> list[Recommendations]:
    return of.rank(requests, 1_700_000_000_000)


def outcomes() -> dict[str, float]:
    name = "afterclick_explored_lists_total"
    return {one: REGISTRY.get_sample_value(name, {"outcome": one}) or 0 for one in ("moved", "unmoved", "not-explored")}


def test_a_list_has_the_propensity_of_each_place_and_a_repeat_is_the_same_list() -> None:
    [list_], [again] = ranked(tier(0.1), request()), ranked(tier(0.1), request(request_id="again"))
    assert msgspec.json.encode(list_.items) == msgspec.json.encode(again.items)
    propensities = [item.propensity for item in list_.items]
    assert list_.items[0].item_id == "i00"
    assert propensities[0] == 1
    assert all(isinstance(one, float) and 0 < one < 1 for one in propensities[1:])
    together = ranked(tier(0.1), request("bob"), request(), request("eve"))[1]
    assert msgspec.json.encode(together.items) == msgspec.json.encode(list_.items), "nor does the batch count"
    lists = ranked(tier(0.1), *(request(version=version) for version in range(100)))
    assert len({tuple(item.item_id for item in one.items) for one in lists}) > 9


def test_off_it_costs_no_byte_and_asks_the_model_for_nothing() -> None:
    of = tier(0)
    [list_] = ranked(of, request())
    assert b"propensity" not in msgspec.json.encode(list_)
    assert [item.item_id for item in list_.items] == [f"i{n:02}" for n in range(SIZE)]
    asked = ScoreRequest("", ["a"])
    assert of._exploration.seeded(asked, request()) is asked


def test_new_items_get_their_chance_and_the_first_place_stays() -> None:
    number, share = 500, 0.1
    before = outcomes()
    lists = ranked(tier(share), *(request(f"u{n}") for n in range(number)))
    shown = Counter(item.item_id for list_ in lists for item in list_.items)
    assert shown["i00"] == number
    assert {list_.items[0].item_id for list_ in lists} == {"i00"}
    new = sum(shown[f"i{n}"] for n in NEW)
    old = sum(shown[f"i{n}"] for n in range(SIZE, NEW.start))
    places = number * (SIZE - 1) * share
    assert 0.1 * places < new, "without exploration they are in no list"
    assert new / len(NEW) > old / (NEW.start - SIZE) / 2, "although the head ranks all others above them"
    moved = {name: count - before[name] for name, count in outcomes().items()}
    assert moved["moved"] + moved["unmoved"] == number
    assert moved["moved"] == pytest.approx(places, rel=0.1), "one place at most of nine, each with a chance of a tenth"
    assert moved["not-explored"] == 0


def test_a_list_that_no_head_ranked_is_left_alone_and_counted() -> None:
    before = outcomes()
    lists = ranked(tier(0.5), request(features=None), request("bob", history=[]))
    assert b"propensity" not in msgspec.json.encode(lists)
    assert outcomes()["not-explored"] - before["not-explored"] == 2


def test_what_was_shown_lately_is_disliked_or_of_a_full_category_does_not_come_in() -> None:
    full = {*range(SIZE), 22}
    candidates = [
        Candidate(
            item_id=f"i{n:02}",
            text="",
            shown=n == 20,
            pull=-0.5 if n == 21 else 0,
            categories=["full"] if n in full else [],
        )
        for n in range(CANDIDATES)
    ]
    lists = ranked(tier(0.5), *(request(f"u{n}", candidates=candidates) for n in range(100)))
    shown = Counter(item.item_id for list_ in lists for item in list_.items)
    assert shown["i20"] == shown["i21"] == shown["i22"] == 0
    assert sum(shown[f"i{n}"] for n in range(23, CANDIDATES)) > 0


def test_the_head_is_certain_of_what_it_has_seen_chosen() -> None:
    posterior, phi = Posterior(2, 0), np.eye(2, dtype=np.float32)
    nothing = np.zeros(2, np.float32)
    before = posterior.draws(nothing, phi, nothing, 1).std(axis=0)
    for _ in range(1_000):
        posterior.observe(np.array([[1, 0], [-1, 0]], np.float32), np.full(2, 0.5, np.float32))
    after = posterior.draws(nothing, phi, nothing, 1).std(axis=0)
    assert after[0] < 0.5 * before[0]
    assert after[1] == pytest.approx(before[1])
    new = posterior.draws(nothing, 0 * phi, np.array([1, 0.25], np.float32), 1).std(axis=0)
    assert new == pytest.approx([ITEM_SD, ITEM_SD / 2], rel=0.3), "the variance of its own appeal falls with its events"


def test_a_wide_head_is_as_certain_as_a_narrow_one() -> None:
    def deviation(hidden: int) -> float:
        phi = np.concatenate([np.zeros((1, 3)), np.ones((1, hidden))], axis=1).astype(np.float32)
        nothing, posterior = np.zeros(1, np.float32), Posterior(3, hidden)
        return float(np.std([posterior.draws(nothing, phi, nothing, seed) for seed in range(50)]))

    assert deviation(128) == pytest.approx(deviation(64), rel=0.1)
    assert deviation(16) == pytest.approx(deviation(64) / 2, rel=0.1)


def test_the_precision_is_the_slope_of_the_slope_of_the_loss_that_the_head_learns_by() -> None:
    fused = scorer()
    values = np.random.default_rng(1).normal(size=(5, len(NAMES))).astype(np.float16)
    asked = ScoreRequest("", list("abcde"), features=values, list_id="l", seed=1)
    [scores] = fused.score([asked])
    [draws] = fused.take_draws(["l"])
    assert draws is not None
    assert draws.shape == (32, 5)
    assert fused.take_draws(["l"]) == [None], "they are taken once"
    head, posterior = fused._head, fused._posterior
    assert isinstance(head, OnlineHead)
    assert posterior is not None
    x = head.inputs(np.zeros(5, np.float32), values)
    start = posterior._precision.copy()
    fused.learn([ListFeedback("l", list(range(5)), 2)])
    phi = head.frozen.last_layer(x).astype(np.float64)
    weights = np.concatenate([head.frozen.linear, head.frozen.out]).astype(np.float64)

    def slope(at: Any) -> Any:
        logits = phi @ at - np.log(np.log2(np.arange(2, 7)))
        shares = np.exp(logits - logits.max())
        return phi.T @ (shares / shares.sum())

    step = 1e-5
    second = np.stack(
        [(slope(weights + step * one) - slope(weights - step * one)) / (2 * step) for one in np.eye(len(weights))]
    )
    np.testing.assert_allclose(posterior._precision - start, second, atol=1e-3)
    assert scores.shape == (5,)


def test_an_impression_brings_the_propensities_back() -> None:
    fields = {"event_id": "e", "user_id": "u", "list_id": "l", "items": ["a", "b"], "timestamp": 1_700_000_000_000}

    def received(**more: Any) -> Any:
        message = Message("impressions", 0, 0, b"u", msgspec.json.encode(fields | more))
        return receive(message, 1_700_000_000_000)

    assert received(propensities=[1, 0.05]).propensities == [1, 0.05]
    assert received().propensities is msgspec.UNSET
    assert received(propensities=None).propensities is msgspec.UNSET
    with pytest.raises(BadMessage, match="got 1 for 2 items"):
        received(propensities=[1])
    with pytest.raises(BadMessage, match="propensities"):
        received(propensities=[1, 0])
    assert impression_of(["a"], [0.5]) == {"items": ["a"], "propensities": [0.5]}
    assert impression_of(["a"], [msgspec.UNSET]) == {"items": ["a"], "propensities": msgspec.UNSET}


def test_a_list_without_an_item_has_other_places_so_no_propensities() -> None:
    [list_] = ranked(tier(0.1), request())
    edited = without(msgspec.json.encode(list_), {list_.items[3].item_id}, 1)
    assert edited is not None
    assert b"propensity" not in edited.payload


def test_the_draws_come_from_the_process_that_holds_the_model(tmp_path: Path) -> None:
    linear({"co_visited": 1.0}, NAMES).save(tmp_path)
    (tmp_path / "afterclick.json").write_text(json.dumps({"base": "none", "fusion": describe(NAMES)}), encoding="utf-8")
    settings = RankerSettings(model=str(tmp_path), explore=0.3, explore_max_loss=0.9, list_size=SIZE)
    choice = model_process.ModelChoice(None, settings)

    class InProcess:
        def call(self, function: Any, *arguments: Any) -> Any:
            return pickle.loads(pickle.dumps(function(choice, *arguments)))

    _, facts = model_process.facts(choice)
    assert facts is not None
    child: Any = ChildScorer(InProcess(), facts)  # type: ignore[arg-type]
    [list_] = ranked(RankTier(Settings(ranker=settings), child), request())
    direct = RankTier(Settings(ranker=settings), load_scorer(str(tmp_path), "cpu", "float32"))
    assert all(isinstance(item.propensity, float) for item in list_.items)
    assert b"propensity" not in msgspec.json.encode(ranked(direct, request())), "it was not told to explore"
    assert child.take_draws([list_.list_id]) == [None], "nothing is kept"
