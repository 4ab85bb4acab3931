"""One suite over every source of candidates: available items, each once, for every user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from encoders.interest import Decay, Event, Interest, Vector, empty, item_key, update
from ranker.recall.candidates import BUILT_IN, Source, UserView, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts

DIM, ITEMS, UNAVAILABLE = 8, 120, 17
START = 1_700_000_000_000
DAY = 86_400_000
DECAY = Decay()
USERS: dict[str, Sequence[int]] = {
    "without events": (),
    "with one event": (3,),
    "with a history": (3, 30, 31, 3, 90, UNAVAILABLE, 32),
    "with unknown items only": (ITEMS + 1, ITEMS + 2),
}

every_user = pytest.mark.parametrize("history", USERS.values(), ids=USERS)


@pytest.fixture(params=BUILT_IN, ids=[source.name for source in BUILT_IN])
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
    for _ in range(20):
        numbers = rng.integers(0, ITEMS, 12).tolist()
        counts.observe([Event(key(number), START, "click") for number in numbers], [])
    return catalogue, counts


def unit(vector: Any) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def item(number: int) -> CatalogueItem:
    return CatalogueItem(
        f"{number:03}", f"title {number}", f"text {number}", available=number != UNAVAILABLE, time_ms=START + number
    )


def key(number: int) -> int:
    return item_key(f"{number:03}")


def view(shop: tuple[Catalogue, Counts], history: Sequence[int]) -> UserView:
    catalogue, counts = shop
    state: Interest = empty(DIM)
    for step, number in enumerate(history):
        state = update(state, Event(key(number), START + step * 1_000, "click"), catalogue.vector(key(number)), DECAY)
    return UserView(state, catalogue, counts, DECAY)


def test_a_source_has_a_name_of_its_own(source: Source) -> None:
    assert source.name
    assert [other.name for other in BUILT_IN].count(source.name) == 1


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
    candidates = recall(user, [source], 20, repeat_purchases=True)
    ranks = [candidate.ranks[source.name] for candidate in candidates]
    assert ranks == sorted(ranks)
    assert {candidate.row for candidate in candidates} <= set(source.find(user, 30).rows.tolist())
