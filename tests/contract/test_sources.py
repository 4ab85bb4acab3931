"""One suite over every source of candidates: available items, each once, for every user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from encoders.events.entries import Event, SearchQuery, item_key, query_key
from encoders.interest import Decay, Interest, Vector, empty, update
from ranker.knowledge.space import KnowledgeSpace
from ranker.neighbours.fit import fit
from ranker.neighbours.settings import NeighbourEvents, NeighbourSettings
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.candidates import BUILT_IN, Source, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.embedding_space import embedding_space
from ranker.recall.learnt_knowledge import LearntKnowledge
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.recall.user_signs import UserSigns
from ranker.recall.user_view import UserView
from ranker.spaces.adapter import Adapter

DIM, ITEMS, UNAVAILABLE = 8, 120, 17
START = 1_700_000_000_000
DAY = 86_400_000
DECAY = Decay()
USERS: dict[str, Sequence[int]] = {
    "without events": (),
    "with one event": (3,),
    "with an event about an item without a vector": (4,),
    "with a history": (3, 30, 31, 3, 90, UNAVAILABLE, 32),
    "with unknown items only": (ITEMS + 1, ITEMS + 2),
}

every_user = pytest.mark.parametrize("history", USERS.values(), ids=USERS)


def unit(vector: Any) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def item(number: int) -> CatalogueItem:
    """An item; every fourth brings no vector."""
    brought = () if number % 4 == 0 else (("image", np.roll(np.arange(3, dtype="<f2"), number).tobytes()),)
    available = number != UNAVAILABLE
    return CatalogueItem(
        f"{number:03}", f"title {number}", f"text {number}", available=available, time_ms=START + number,
        embeddings=brought,
    )  # fmt: skip


def key(number: int) -> int:
    return item_key(f"{number:03}")


def learnt_neighbours() -> LearntNeighbours:
    """Learnt from the users of `shop`, and from events about an item that was deleted."""
    numbers = np.random.default_rng(1).integers(0, ITEMS + 1, 400)
    user = np.repeat(np.arange(20), 20)
    keys = np.array([key(number) for number in range(ITEMS + 1)], np.uint64)
    return LearntNeighbours(fit(NeighbourEvents(user, numbers, np.arange(400)), keys, NeighbourSettings(ridge=1.0)))


def adapter(dim: int) -> Adapter:
    rng = np.random.default_rng(2)
    mean, items, queries = (rng.normal(size=shape).astype(np.float32) for shape in ((dim,), (dim, 3), (2, dim, 3)))
    return Adapter(mean, items, queries, np.array([0.1, 5], np.float32), 3.0, 10.0)


def learnt_knowledge() -> LearntKnowledge:
    vectors, keys = np.eye(3, dtype=np.float16), np.sort(np.array([key(number) for number in range(3)], np.uint64))
    return LearntKnowledge(KnowledgeSpace(["by"], np.ones(1, np.float32), np.zeros((1, 3), np.float32), keys, vectors))


SPACE = embedding_space("image")(adapter(3))
LEARNT: Sequence[Source] = (learnt_neighbours(), AdaptedText(adapter(DIM)), UserSigns(), learnt_knowledge(), SPACE)
SOURCES: Sequence[Source] = (*BUILT_IN, *LEARNT)


@pytest.fixture(params=SOURCES, ids=[source.name for source in SOURCES])
def source(request: pytest.FixtureRequest) -> Source:
    found: Source = request.param
    return found


@pytest.fixture(scope="module")
def shop() -> tuple[Catalogue, Counts]:
    """A catalogue with an unavailable and a deleted item, and the counts of twenty users."""
    rng = np.random.default_rng(1)
    catalogue, counts = Catalogue(DIM), Counts(90 * DAY, 3 * DAY)
    for number in range(ITEMS + 1):
        catalogue.put(item(number), unit(rng.normal(size=DIM).astype(np.float32)))
    catalogue.delete(item(ITEMS).item_id)
    for number in range(ITEMS):
        catalogue.knowledge.put(item(number).item_id, "by", f"maker {number % 7}")
    for _ in range(20):
        numbers = rng.integers(0, ITEMS, 12).tolist()
        counts.observe([Event(key(number), START, "click") for number in numbers], [])
    return catalogue, counts


def view(shop: tuple[Catalogue, Counts], history: Sequence[int]) -> UserView:
    catalogue, counts = shop
    state: Interest = empty(DIM)
    for step, number in enumerate(history):
        event = Event(key(number), START + step * 1_000, "cart" if step == 1 else "click")
        state = update(state, event, catalogue.vector(key(number)), DECAY)
    if len(history) > 1:
        search = Event(query_key("q"), START + 60_000, "search", query=SearchQuery("q", (key(7),)))
        state = update(state, search, catalogue.vector(key(8)), DECAY)
    return UserView(state, catalogue, counts, DECAY)


def test_a_source_has_a_name_of_its_own(source: Source) -> None:
    assert source.name
    assert [other.name for other in SOURCES].count(source.name) == 1


@every_user
@pytest.mark.parametrize("limit", [1, 10, 10 * ITEMS])
def test_it_proposes_available_items_each_once(
    source: Source, shop: tuple[Catalogue, Counts], history: Sequence[int], limit: int
) -> None:
    user = view(shop, history)
    rows, because = source.find(user, limit)
    assert rows.shape == (len(rows),)
    assert np.issubdtype(rows.dtype, np.integer)
    assert len(rows) <= limit
    assert len(set(rows.tolist())) == len(rows)
    assert user.catalogue.available[rows].all()
    if because is not None:
        assert because.shape == rows.shape
        assert set(because.tolist()) <= set(map(key, history))


@every_user
def test_a_lower_limit_gives_the_beginning_of_the_same_order(
    source: Source, shop: tuple[Catalogue, Counts], history: Sequence[int]
) -> None:
    user = view(shop, history)
    assert source.find(user, 5).rows.tolist() == source.find(user, 50).rows[:5].tolist()


@every_user
def test_it_proposes_the_same_again_and_changes_no_state(
    source: Source, shop: tuple[Catalogue, Counts], history: Sequence[int]
) -> None:
    user = view(shop, history)
    before = user.state.history.tolist(), user.state.session.tolist(), user.state.long.tolist()
    first = source.find(user, 20).rows.tolist()
    assert source.find(user, 20).rows.tolist() == source.find(view(shop, history), 20).rows.tolist() == first
    assert (user.state.history.tolist(), user.state.session.tolist(), user.state.long.tolist()) == before


def test_a_user_with_a_history_gets_proposals(source: Source, shop: tuple[Catalogue, Counts]) -> None:
    assert len(source.find(view(shop, USERS["with a history"]), 20).rows)


def test_an_empty_shop_gives_no_proposals(source: Source) -> None:
    user = UserView(empty(DIM), Catalogue(DIM), Counts(90 * DAY, 3 * DAY), DECAY)
    assert source.find(user, 20).rows.tolist() == []


@every_user
def test_recall_from_this_source_alone_keeps_its_order(
    source: Source, shop: tuple[Catalogue, Counts], history: Sequence[int]
) -> None:
    user = view(shop, history)
    candidates = recall(user, [source], 20, repeats="always")
    ranks = [candidate.ranks[source.name] for candidate in candidates]
    assert ranks == sorted(ranks)
    assert {candidate.row for candidate in candidates} <= set(source.find(user, 30).rows.tolist())
