"""The synthetic shop: the same for a seed, valid, believable, and hidden tastes decide which items are clicked."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from streams.contracts import Click, Item, Purchase
from streams.datasets.shop import START_MS, SyntheticShop
from streams.datasets.shop_shopper import DAY_MS

ITEMS, SHOPPERS, EVENTS = 1200, 60, 2500


@pytest.fixture(scope="module")
def shop() -> SyntheticShop:
    return SyntheticShop(7, ITEMS, SHOPPERS)


@pytest.fixture(scope="module")
def events(shop: SyntheticShop) -> list[Click | Purchase]:
    return list(shop.events(EVENTS))


def at(event: Click) -> int:
    assert isinstance(event.timestamp, int)
    return event.timestamp


def test_seed_determines_everything(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    again = SyntheticShop(7, ITEMS, SHOPPERS)
    user = again.user_ids[3]
    late = START_MS + 5 * DAY_MS
    assert again.oracle(user, late, 20) == shop.oracle(user, late, 20)  # before any event was asked for
    assert again.items == shop.items
    assert list(again.events(EVENTS)) == events
    assert list(again.events(100)) == events[:100]
    other = SyntheticShop(8, ITEMS, SHOPPERS)
    assert [item.title for item in other.items] != [item.title for item in shop.items]
    assert [event.item_id for event in other.events(100)] != [event.item_id for event in events[:100]]


def test_every_message_keeps_its_contract(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    for message in [*shop.items, *events]:
        assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message
    assert {type(event) for event in events} == {Click, Purchase}
    known = {item.item_id for item in shop.items}
    assert len(known) == ITEMS
    assert {event.item_id for event in events} <= known
    assert {event.user_id for event in events} <= set(shop.user_ids)


def test_events_are_unique_and_in_the_order_of_time(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    assert len({event.event_id for event in events}) == EVENTS
    assert at(events[0]) >= START_MS
    assert all(at(one) < at(next_one) for one, next_one in pairwise(events))
    later = SyntheticShop(7, ITEMS, SHOPPERS, start_ms=START_MS + DAY_MS)
    assert at(next(later.events(1))) == at(events[0]) + DAY_MS


def test_items_look_like_a_shop(shop: SyntheticShop) -> None:
    assert len({item.title for item in shop.items}) == ITEMS
    assert len({item.categories[0] for item in shop.items}) == 12
    assert len({tuple(item.categories) for item in shop.items}) == 60
    assert all(item.brand and item.description and item.currency == "EUR" for item in shop.items)
    assert all(item.price is not None and 1 < item.price < 1000 for item in shop.items)
    assert 0 < sum(not item.available for item in shop.items) < ITEMS / 20


def test_dear_brands_cost_more(shop: SyntheticShop) -> None:
    prices: dict[str, list[float]] = {"Wandera": [], "Alta Corvo": []}
    for item in shop.items:
        if item.brand in prices and item.categories[1] == "Tents":
            assert item.price is not None
            prices[item.brand].append(item.price)
    assert max(prices["Wandera"]) < min(prices["Alta Corvo"])


def test_unavailable_items_are_not_clicked(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    gone = {item.item_id for item in shop.items if not item.available}
    assert not gone & {event.item_id for event in events}


def test_purchases_end_visits_with_an_item_just_clicked(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    clicked: dict[str | None, set[str]] = {}
    bought: set[str | None] = set()
    for event in events:
        assert event.session_id not in bought
        if isinstance(event, Purchase):
            assert event.item_id in clicked[event.session_id]
            bought.add(event.session_id)
        else:
            clicked.setdefault(event.session_id, set()).add(event.item_id)
    assert 0.2 < len(bought) / len(clicked) < 0.5


def test_oracle_knows_far_more_than_popularity(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    popular = {item_id for item_id, _ in Counter(event.item_id for event in events).most_common(10)}
    last: dict[str, Click] = {}
    oracle_hits = popular_hits = clicks = 0
    for event in events:
        before = last.get(event.user_id)
        last[event.user_id] = event
        if before is None or isinstance(event, Purchase):
            continue
        clicks += 1
        oracle_hits += event.item_id in shop.oracle(event.user_id, at(before), 10)
        popular_hits += event.item_id in popular
    assert oracle_hits / clicks > 0.35
    assert oracle_hits > 5 * popular_hits


def test_probabilities_are_those_of_the_draws(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    """The expected number of hits of each shopper's oracle list is the number found."""
    index = {item.item_id: n for n, item in enumerate(shop.shelves.items)}
    expected = variance = 0.0
    found = 0
    last: dict[str, Click] = {}
    for event in events:
        before = last.get(event.user_id)
        last[event.user_id] = event
        if before is None or isinstance(event, Purchase) or before.session_id != event.session_id:
            continue
        chances = shop.probabilities(event.user_id, at(before))
        assert chances.sum() == pytest.approx(1)
        top = np.argsort(-chances)[:10]
        chance = float(chances[top].sum())
        expected, variance = expected + chance, variance + chance * (1 - chance)
        found += index[event.item_id] in top
    assert abs(found - expected) < 4 * variance**0.5


def test_words_of_the_taste_are_in_what_is_clicked(shop: SyntheticShop, events: list[Click | Purchase]) -> None:
    by_id = {item.item_id: item for item in shop.items}

    def share_liked(items: list[tuple[str, Item]]) -> float:
        liked = 0
        for user_id, item in items:
            words = {word for favourite in shop.taste(user_id, START_MS).favourites for word in favourite.words}
            liked += any(word in item.title for word in words)
        return liked / len(items)

    first_day = [event for event in events if at(event) < START_MS + DAY_MS]
    clicked = [(event.user_id, by_id[event.item_id]) for event in first_day]
    others = [(event.user_id, shop.items[n % ITEMS]) for n, event in enumerate(first_day)]
    assert share_liked(clicked) > 1.5 * share_liked(others)


def test_tastes_suit_the_shopper_and_drift(shop: SyntheticShop) -> None:
    kept = 0
    for user_id in shop.user_ids:
        now, later = (shop.taste(user_id, START_MS + days * DAY_MS) for days in (0, 60))
        for favourite in now.favourites:
            assert {"", *now.audience} & set(shop.shelves.leaves[favourite.leaf].parts[0])
        assert shop.taste(user_id, START_MS) == now  # looking ahead changes nothing
        kept += len(set(now.favourites) & set(later.favourites))
    assert kept < 0.1 * 3 * SHOPPERS


@pytest.mark.parametrize("items", [599, 100_000])
def test_impossible_sizes_are_refused(items: int) -> None:
    with pytest.raises(ValueError, match=f"items: got {items}, expected 600 to 21600"):
        SyntheticShop(1, items)
