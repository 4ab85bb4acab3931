"""A rerank scores the candidates of a list as the list does: the same history, features, texts and model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.interest import Vector
from encoders.models.device import Placement
from encoders.models.usage import Usage
from encoders.text.vector_store import rounded
from ranker.features import NAMES
from ranker.recall.candidates import BUILT_IN
from ranker.recall.catalogue import Catalogue
from ranker.score import FeatureSet, ScoreRequest
from streams.bodies import RerankCandidate, RerankEvent, RerankQuestion
from streams.contracts import Click, Item, Purchase
from streams.rank.tier import RankTier
from streams.serve.rerank import BadRerank, Reranker
from streams.serve.score_batches import MAX_WAITING, ScorerOverloaded
from streams.settings import CandidatesSettings, RankerSettings, Settings
from streams.state.decays import counts_of
from streams.state.tier import StateTier
from streams.state.users import Users

DIM, START = 8, 1_700_000_000_000
SETTINGS = Settings(
    candidates=CandidatesSettings(features="always", limit=12),
    ranker=RankerSettings(list_size=100, max_per_category=100, follow_s=0),
)


class Encoder:
    def encode(self, texts: Sequence[str]) -> Vector:
        rows = [np.frombuffer(hashlib.sha256(text.encode()).digest()[:DIM], np.uint8) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, DIM) - 127
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    encode_events = encode


class Scorer:
    """A score is a hash of all that a scorer may read of a candidate."""

    name, feature_set, reads_events = "hashing", FeatureSet(NAMES, ""), False
    placement = Placement("cpu", "float32", "a test")

    def __init__(self) -> None:
        self.usage = Usage()
        self.batches: list[int] = []

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None: ...

    def forget(self, users: Collection[str] | None) -> None: ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Vector]:
        self.batches.append(len(requests))
        return [
            np.array([_hashed(request, index) for index in range(len(request.candidates))], np.float32)
            for request in requests
        ]


def _hashed(request: ScoreRequest, index: int) -> float:
    of_item = b"" if request.features is None else request.features[index].tobytes()
    read = f"{request.context}|{request.candidates[index]}|{request.user}".encode() + of_item
    return int.from_bytes(hashlib.sha256(read).digest()[:3], "little") / 2**24


async def _done() -> None: ...


class World:
    def __init__(self) -> None:
        self.scorer = Scorer()
        self.tier = StateTier(SETTINGS, Users({}, DIM), Catalogue(DIM), counts_of(SETTINGS), BUILT_IN)
        self.ranking = RankTier(SETTINGS, self.scorer)
        self.replica = SimpleNamespace(tier=self.tier, catalogue=self.tier.catalogue, caught_up=True, wait=_done)
        for number in range(30):
            item = Item(
                item_id=f"i{number}", title=f"thing {number}", categories=["abc"[number % 3]], price=float(number + 1)
            )
            vector = rounded(Encoder().encode([item.title]))[0]
            self.tier.put_item(item, vector, START + number)

    def ask(self, *questions: RerankQuestion) -> list[Any]:
        async def asked() -> list[Any]:
            serving: Any = SimpleNamespace(scorers=[self.scorer], encoder=Encoder(), close=lambda: None)
            serving.follow = lambda tier: asyncio.sleep(0)
            rerank = Reranker(SETTINGS, serving, cast(Any, self.replica))
            await rerank.start()
            await cast(Any, rerank)._preparing
            self.scorer.batches.clear()
            try:
                return await asyncio.gather(*map(rerank.answer, questions), return_exceptions=True)
            finally:
                await rerank.stop()

        return asyncio.run(asked())


events = st.lists(
    st.tuples(st.integers(0, 33), st.integers(0, 10**8), st.booleans(), st.sampled_from("ab")), min_size=1, max_size=40
)


@settings(max_examples=25)
@given(events)
def test_a_rerank_of_a_lists_candidates_has_the_lists_scores(happened: list[tuple[int, int, bool, str]]) -> None:
    world = World()
    for number, (item, time_ms, is_purchase, user) in enumerate(happened):
        kind = Purchase if is_purchase else Click
        click = kind(event_id=f"e{number}", user_id=user, item_id=f"i{item}", timestamp=START + time_ms)
        world.tier.accept(user, [click])
    user = happened[0][3]
    request = world.tier.request(user, None, None)
    expected = {item.item_id: item.score for item in world.ranking.rank([request], START)[0].items}
    candidates = [RerankCandidate(candidate.item_id) for candidate in request.candidates]
    [answer] = world.ask(RerankQuestion(candidates, user_id=user))
    scores = {item.item_id: item.score for item in answer.items}
    assert {item_id: scores[item_id] for item_id in expected} == expected
    assert [item.rank for item in answer.items] == list(range(1, len(candidates) + 1))
    assert (answer.model, answer.errors) == ("hashing", [])


def test_a_history_in_the_body_is_as_good_as_a_known_user() -> None:
    world = World()
    clicks = [Click(event_id=f"e{n}", user_id="u", item_id=f"i{n}", timestamp=START + n) for n in range(3)]
    world.tier.accept("u", clicks)
    known = world.tier.requests.complete(world.tier.request("u", None, None), world.tier.users.get("u").interest, {})
    history = [RerankEvent(click.item_id, "click", click.timestamp) for click in clicks]
    candidates = [RerankCandidate(f"i{n}") for n in range(8, 20)]
    by_history, cold = world.ask(RerankQuestion(candidates, history=history), RerankQuestion(candidates, history=[]))
    assert by_history.degraded is None
    assert [event.item_id for event in known.history] == ["i0", "i1", "i2"]
    assert len({item.score for item in by_history.items}) == len(candidates)
    assert cold.degraded == "cold-user"


def test_a_new_item_is_scored_by_its_text_and_an_unknown_one_is_named() -> None:
    world = World()
    world.tier.accept("u", [Click(event_id="e", user_id="u", item_id="i1", timestamp=START)])
    candidates = [RerankCandidate("i2"), RerankCandidate("new", "A thing\nof today"), RerankCandidate("gone")]
    [answer] = world.ask(RerankQuestion(candidates, user_id="u"))
    assert {item.item_id for item in answer.items} == {"i2", "new"}
    assert all(item.score is not None for item in answer.items)
    assert [(error.item_id, error.code) for error in answer.errors] == [("gone", "unknown_item")]
    [nothing] = world.ask(RerankQuestion([RerankCandidate("gone")], user_id="u"))
    assert (nothing.items, len(nothing.errors)) == ([], 1)


def test_a_rerank_keeps_the_rules_and_those_of_the_question() -> None:
    world = World()
    candidates = [RerankCandidate(f"i{n}") for n in range(6)]
    plain, ruled, wrong = world.ask(
        RerankQuestion(candidates, history=[RerankEvent("i9")]),
        RerankQuestion(
            candidates, history=[RerankEvent("i9")], exclude=["i1"], pin=["i5"], filter={"categories": ["a", "b", "c"]}
        ),
        RerankQuestion(candidates, history=[], filter={"price": 3}),
    )
    order = [item.item_id for item in plain.items if item.item_id not in ("i1", "i5")]
    assert [item.item_id for item in ruled.items] == ["i5", *order]
    assert [(error.item_id, error.code) for error in ruled.errors] == [("i1", "excluded")]
    assert isinstance(wrong, BadRerank)


def test_questions_that_wait_together_are_one_batch_and_too_many_are_refused() -> None:
    world = World()
    question = RerankQuestion([RerankCandidate("i2")], history=[RerankEvent("i1")])
    answers = world.ask(*[question] * (MAX_WAITING + 5))
    refused = [answer for answer in answers if isinstance(answer, ScorerOverloaded)]
    assert len(refused) == 5
    assert max(world.scorer.batches) == SETTINGS.ranker.batch_lists


@pytest.mark.parametrize("more", [{}, {"user_id": "u", "history": []}])
def test_a_question_is_about_a_user_or_a_history(more: dict[str, Any]) -> None:
    [answer] = World().ask(RerankQuestion([RerankCandidate("i2")], **more))
    assert isinstance(answer, BadRerank)
