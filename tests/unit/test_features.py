"""The features of all candidates at once, against each of them worked out alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from encoders.interest import Decay, Event, empty, item_key, update
from encoders.prototypes import prototypes
from ranker.features import NAMES, SCHEMA, features, read
from ranker.recall.candidates import BUILT_IN, RECENT, RecalledCandidate, UserView, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import DISTANCE_DECAY, Counts

DIM, DAY_MS = 12, 86_400_000
DECAY = Decay()


def shopper_of(seed: int, events: int) -> UserView:
    """A random shop in which a random user and others were at work."""
    rng = np.random.default_rng(seed)
    catalogue, counts = Catalogue(DIM), Counts(90 * DAY_MS, 3 * DAY_MS)
    vectors = rng.normal(size=(60, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number in range(60):
        item = CatalogueItem(
            f"i{number}",
            f"title {number}",
            f"text {number}",
            brand=str(rng.choice(["", "Nord", "Sud"])),
            categories=tuple(rng.choice(["Hats", "Tents", "Mugs"], rng.integers(0, 3))),
            price=None if rng.random() < 0.2 else float(rng.uniform(0, 90)),
            time_ms=int(rng.integers(0, 200)) * DAY_MS,
        )
        catalogue.put(item, vectors[number])
    state, other = empty(DIM), empty(DIM)
    for number in range(4 * events):
        time_ms = 100 * DAY_MS + number * int(rng.integers(1, 9_000_000))
        kind: Any = "purchase" if rng.random() < 0.3 else "click"
        # some are about items that the catalogue never had
        event = Event(item_key(f"i{rng.integers(64)}"), time_ms, kind)
        before = state if number % 4 == 0 else other
        counts.observe([event], before.history["item"].tolist())
        after = update(before, event, catalogue.vector(event.item), DECAY)
        state, other = (after, other) if number % 4 == 0 else (state, after)
    return UserView(state, catalogue, counts, DECAY)


def alone(user: UserView, merged: RecalledCandidate) -> dict[str, float]:
    """The plain reference: one candidate, Python numbers, straight from what each feature says it is."""
    state, catalogue, counts = user.state, user.catalogue, user.counts
    item = catalogue.at(merged.row)
    key = item_key(item.item_id)
    vector = catalogue.vector(key)
    assert vector is not None
    events = [(int(entry["item"]), int(entry["type"])) for entry in state.history]
    known = [one for other, _ in events if (one := catalogue.get(other)) is not None]
    near = [float(v @ vector) for other, _ in events if (v := catalogue.vector(other)) is not None]
    found = dict.fromkeys(NAMES, 0.0)
    if known:
        rows = catalogue.rows(state.history["item"].tolist())
        tastes = prototypes(state.history[rows >= 0], catalogue.vectors(rows[rows >= 0]), DECAY)
        found["prototype_cosine"] = max(float(taste @ vector) for taste in tastes)
        found["session_cosine"] = float(state.session @ vector) / float(np.linalg.norm(state.session))
        found["long_cosine"] = float(state.long @ vector) / float(np.linalg.norm(state.long))
        found["newest_cosine"], found["nearest_cosine"] = near[-1], max(near)
        leaf = item.categories[-1:]
        found["same_category"] = sum(bool(leaf) and other.categories[-1:] == leaf for other in known) / len(known)
        found["same_brand"] = sum(bool(item.brand) and other.brand == item.brand for other in known) / len(known)
        found["newest_category"] = float(bool(leaf) and known[-1].categories[-1:] == leaf)
        usual = [math.log(other.price) for other in known if other.price]
        if usual and item.price:
            found["price_difference"] = math.log(item.price) - sum(usual) / len(usual)
            found["price_distance"] = abs(found["price_difference"])
    visits = counts.co_visited(user.recent_items()[:RECENT])
    pairs = [
        (float(similarity), int(index))
        for other, similarity, index in zip(visits.items, visits.similarities, visits.query_indices, strict=True)
        if int(other) == key
    ]
    total = sum(DISTANCE_DECAY**index * similarity for similarity, index in pairs)
    found["co_visited"] = math.log2(total + 2**-10) + 10
    found["co_visited_newest"] = math.log2(sum(s for s, index in pairs if index == 0) + 2**-10) + 10
    found["co_visit_links"] = math.log2(1 + len(pairs))
    slots = counts._slot
    for name, of_item in (("popularity", counts.popularity), ("trend", counts.trend)):
        mean = np.logaddexp2.reduce([of_item(other) for other in slots]) - math.log2(len(slots)) if slots else 0.0
        found[name] = math.log2(2 ** (of_item(key) - mean) + 1 / 16)
    found["rise"] = found["trend"] - found["popularity"]
    found["age"] = math.log2(1 + max(0, state.as_of_ms - item.time_ms) / DAY_MS)
    found["seen"] = math.log2(1 + sum(other == key for other, _ in events))
    bought = [int(other) for other in state.bought["item"]] + [other for other, type_ in events if type_ == 1]
    found["bought"] = float(key in bought)
    for source, name in (
        ("co-visited", "co_visited"),
        ("nearest", "nearest"),
        ("trending", "trending"),
        ("newest",) * 2,
    ):
        if source in merged.ranks:
            found[f"{name}_place"] = 1 / (1 + merged.ranks[source] / 10)
    found["history"] = math.log2(1 + state.version)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("events", [0, 1, 3, 40])
def test_all_at_once_is_each_alone(seed: int, events: int) -> None:
    user = shopper_of(seed, events)
    user.counts._observed_since_trending = 1_000  # means as of now
    candidates = recall(user, BUILT_IN, 30, repeat_purchases=True)
    assert candidates
    together = features(user, candidates)
    expected = [list(alone(user, candidate).values()) for candidate in candidates]
    np.testing.assert_allclose(together.astype(np.float64), expected, rtol=2e-3, atol=2e-3)


def test_a_row_depends_on_no_other_candidate() -> None:
    user = shopper_of(1, 20)
    candidates = recall(user, BUILT_IN, 30, repeat_purchases=True)
    order = np.random.default_rng(0).permutation(len(candidates))[:7]
    some = features(user, [candidates[index] for index in order])
    np.testing.assert_allclose(some, features(user, candidates)[order], atol=2e-3)


def test_the_shop_shows_every_feature() -> None:
    """A feature that is 0 for everybody would not be tested by the others."""
    varied = np.concatenate(
        [
            features(s, recall(s, BUILT_IN, 60, repeat_purchases=True))
            for s in (shopper_of(seed, 20) for seed in range(4))
        ]
    ).std(axis=0)
    assert [name for name, spread in zip(NAMES, varied, strict=True) if spread == 0] == []


def test_what_was_written_is_read_and_nothing_else() -> None:
    written = features(shopper_of(2, 9), recall(shopper_of(2, 9), BUILT_IN, 5, repeat_purchases=True))
    known = read(SCHEMA, written.tobytes(), len(written))
    assert known is not None
    np.testing.assert_array_equal(known, written)
    assert read(SCHEMA + 1, written.tobytes(), len(written)) is None
    assert read(SCHEMA, written.tobytes(), len(written) + 1) is None
