"""What a wish says becomes what its list shows: from the words through both tiers, against a plain reference."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from datetime import timezone
from statistics import median

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.interest import Vector
from ranker.wishes.effects import FACTORS
from ranker.wishes.grammar import Clause, Effect, Wish
from ranker.wishes.patterns import parse
from streams.contracts import Item, Recommendations
from streams.offline.pipeline import Pipeline
from streams.receive.message import Message
from streams.settings import CandidatesSettings, RankerSettings, Settings
from tests.client import now_ms

WORDS = ["fur", "coat", "shoe", "wool", "vegan", "berry", "dress"]
PLURALS = dict(zip(WORDS, ["furs", "coats", "shoes", "wools", "vegans", "berries", "dresses"], strict=True))
SETTINGS = Settings(
    candidates=CandidatesSettings(limit=100, sources=("nearest", "searched", "newest")),
    ranker=RankerSettings(model="none", list_size=100, max_per_category=100),
)
FORMS: dict[Effect, list[str]] = {
    "exclude": ["no {}", "nothing with {}", "I don't want any {}", "without {}"],
    "only": ["only {}", "{} only", "nothing but {}"],
    "more": ["more {}", "I really love {}"],
    "less": ["less {}", "not so much {}"],
    "max-price": ["under {}", "at most {}", "nothing over {}"],
    "min-price": ["over {}", "at least {}", "nothing under {}"],
    "cheaper": ["cheaper", "something less expensive"],
    "dearer": ["more expensive"],
}
phrases = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=2, unique=True), min_size=1, max_size=2)


@st.composite
def clauses(draw: st.DrawFn) -> tuple[str, Clause]:
    """A part of a wish, and what it means."""
    effect = draw(st.sampled_from([*FORMS]))
    form = draw(st.sampled_from(FORMS[effect]))
    if effect in ("cheaper", "dearer"):
        return form, Clause(effect)
    if effect.endswith("price"):
        price = draw(st.integers(1, 40))
        return form.format(f"{price} EUR"), Clause(effect, (), float(price), "EUR")
    spelt = [[word if draw(st.booleans()) else PLURALS[word] for word in words] for words in draw(phrases)]
    return form.format(" or ".join(map(" ".join, spelt))), Clause(effect, tuple(map(tuple, spelt)))


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    found = []
    for number in range(draw(st.integers(1, 25))):
        title = " ".join(draw(st.lists(st.sampled_from([*WORDS, *PLURALS.values()]), max_size=3)))
        price = draw(st.one_of(st.none(), st.integers(1, 40)))
        currency = draw(st.sampled_from(["EUR", "USD", None])) if price else None
        found.append(Item(item_id=f"i{number}", title=f"{title} #{number}", price=price, currency=currency))
    return found


class Hashed:
    """An encoder whose vectors say nothing."""

    dim = 8

    def encode(self, texts: Sequence[str]) -> Vector:
        seeds = [zlib.crc32(text.encode()) for text in texts]
        vectors = np.array([np.random.default_rng(seed).normal(size=self.dim) for seed in seeds], np.float32)
        unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    encode_events = encode


def has(item: Item, clause: Clause) -> bool:
    """The plain reference of a match: the singular of each word is among those of the title."""
    singular = {plural: word for word, plural in PLURALS.items()}
    title = {singular.get(word, word) for word in item.title.split()}
    return any({singular.get(word, word) for word in words} <= title for words in clause.any_of)


def allowed(item: Item, clause: Clause) -> bool:
    """The plain reference of a hard clause."""
    if clause.effect == "exclude":
        return not has(item, clause)
    if clause.effect == "only":
        return has(item, clause)
    if clause.price is None:
        return True
    if item.price is None or item.currency == "USD":
        return False
    return item.price <= clause.price if clause.effect == "max-price" else item.price >= clause.price


def factor(item: Item, wish: Wish, middle: float) -> float:
    """The plain reference of all soft clauses."""
    product = 1.0
    for clause in wish.clauses:
        is_met = {
            "more": has(item, clause),
            "less": has(item, clause),
            "cheaper": item.price is not None and item.price < middle,
            "dearer": item.price is not None and item.price > middle,
        }.get(clause.effect, False)
        product *= FACTORS[clause.effect] if is_met else 1.0
    return product


@given(items(), st.lists(clauses(), min_size=1, max_size=4), st.sampled_from([", ", " and ", "; ", " but "]))
@settings(max_examples=80, deadline=None)
def test_a_list_obeys_what_the_words_say(shop: list[Item], said: list[tuple[str, Clause]], between: str) -> None:
    now = now_ms()
    text = between.join(part for part, _ in said)
    wish = parse(text, now, timezone.utc)
    assert isinstance(wish, Wish), f"{text!r}: {wish}"
    assert set(wish.clauses) == {clause for _, clause in said}, text
    pipeline = Pipeline(SETTINGS, Hashed(), None)
    pipeline.put_items(shop, now)
    list_ = feed(pipeline, now, text=text)
    by_id = {item.item_id: item for item in shop}
    request = pipeline.state.request("ann", None, None)
    fitting = [item for item in shop if all(allowed(item, clause) for clause in wish.clauses)]
    order = sorted(request.candidates, key=lambda one: (-one.retrieval_score, one.item_id))
    scored = [one.item_id for one in order if by_id[one.item_id] in fitting]
    assert sorted(scored) == sorted(item.item_id for item in fitting), "all that fit are candidates"
    prices = [item.price for item in fitting if item.price is not None]
    middle = median(prices) if prices else 0.0
    ranks = {item_id: rank / factor(by_id[item_id], wish, middle) for rank, item_id in enumerate(scored, 1)}
    assert [item.item_id for item in list_.items] == sorted(scored, key=ranks.__getitem__)
    assert (list_.degraded == "no-candidates") == (not fitting)
    assert isinstance(list_.wishes, list)
    [obeyed] = list_.wishes
    assert [clause.words for clause in obeyed.clauses] == [clause.words for clause in wish.clauses]
    assert bool(obeyed.answer) == (not fitting)


def feed(pipeline: Pipeline, now: int, **fields: object) -> Recommendations:
    event = {"event_id": "e1", "user_id": "ann", "timestamp": now, **fields}
    list_ = pipeline.feed(Message("preferences", 0, 0, b"ann", json.dumps(event).encode()), now)
    assert list_ is not None
    return list_


@given(st.text(max_size=600), st.lists(st.sampled_from(["no ", "only ", "fur", " and ", "under 5", "\0", "'", "€"])))
@settings(max_examples=150, deadline=None)
def test_any_text_is_understood_whole_or_not_at_all(text: str, more: list[str]) -> None:
    for one in (text, text + "".join(more), "".join(more)):
        found = parse(one, 1_790_000_000_000, timezone.utc)
        if isinstance(found, Wish):
            assert found.clauses
            assert not any(clause.problem for clause in found.clauses)
        else:
            assert "expected" in found or "Say it like" in found
            assert len(found) < 400
