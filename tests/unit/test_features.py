"""The features of all candidates at once, against each of them worked out alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, empty, update
from encoders.prototypes import prototypes
from ranker.features import NAMES, SCHEMA, Features, read
from ranker.features import features as features_of_columns
from ranker.recall.candidates import BUILT_IN, RecalledCandidate, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import DISTANCE_DECAY, MAX_EVENTS, Counts
from ranker.recall.user_view import JUDGED, RECENT, UserView
from ranker.score import FeatureSet

KNOWN = FeatureSet(NAMES, "")

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


def features(user: UserView, candidates: Sequence[RecalledCandidate]) -> Features:
    columns = user.catalogue.columns(np.array([candidate.row for candidate in candidates]))
    return features_of_columns(user, columns, [candidate.ranks for candidate in candidates])


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
    visits = counts.co_visited(user.recent_items[:RECENT])
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
    counted = counts.popularity(key) - state.as_of_ms / counts.co_visit_half_life_ms
    found["newness"] = 1 / (1 + min(2**counted, MAX_EVENTS))
    found["history"] = math.log2(1 + state.version)
    found |= of_the_user(user)
    return found


def of_the_user(user: UserView) -> dict[str, float]:
    """The columns that are the same for all candidates, pair by pair."""
    catalogue, recent = user.catalogue, user.recent_items[:RECENT]
    visited = [key for key in user.state.history["item"].tolist() if key in catalogue]
    every = [vector for item in catalogue if (vector := catalogue.vector(item_key(item.item_id))) is not None]
    of_any_two = float(np.mean([[a @ b for a in every] for b in every]))

    def cosine(one: int, other: int) -> float:
        a, b = catalogue.vector(one), catalogue.vector(other)
        assert a is not None
        assert b is not None
        return float(a @ b)

    def nearness(cosines: Sequence[float], weights: Sequence[float]) -> float:
        return (np.average(cosines, weights=weights) - of_any_two) / (1 - of_any_two) if cosines else 0.0

    moves = [(one, other) for one, other in pairwise(visited) if one != other]
    visits = user.counts.co_visited(recent)
    totals: dict[int, float] = {}
    shares: dict[int, tuple[float, int]] = {}
    for other, similarity, index in zip(visits.items.tolist(), visits.similarities, visits.query_indices, strict=True):
        share = DISTANCE_DECAY**index * similarity
        totals[other] = totals.get(other, 0.0) + share
        shares[other] = max(shares.get(other, (-1.0, 0)), (share, recent[index]))
    met = user.state.history["item"].tolist()
    others = sorted((key for key in totals if key not in met), key=lambda key: -totals[key])
    judged = [key for key in others[:JUDGED] if key in catalogue and shares[key][1] in catalogue]
    return {
        "related": math.log2(1 + len(others)),
        "text_in_history": nearness([cosine(*move) for move in moves], [1.0] * len(moves)),
        "text_in_co_visits": nearness([cosine(key, shares[key][1]) for key in judged], [totals[key] for key in judged]),
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("events", [0, 1, 3, 40])
def test_all_at_once_is_each_alone(seed: int, events: int) -> None:
    user = shopper_of(seed, events)
    user.counts._observed_since_trending = 1_000  # means as of now
    candidates = recall(user, BUILT_IN, 30, repeats="always")
    assert candidates
    together = features(user, candidates)
    expected = [list(alone(user, candidate).values()) for candidate in candidates]
    np.testing.assert_allclose(together.astype(np.float64), expected, rtol=2e-3, atol=2e-3)


def test_a_row_depends_on_no_other_candidate() -> None:
    user = shopper_of(1, 20)
    candidates = recall(user, BUILT_IN, 30, repeats="always")
    order = np.random.default_rng(0).permutation(len(candidates))[:7]
    some = features(user, [candidates[index] for index in order])
    np.testing.assert_allclose(some, features(user, candidates)[order], atol=2e-3)


def test_the_shop_shows_every_feature() -> None:
    """A feature that is 0 for everybody would not be tested by the others."""
    varied = np.concatenate(
        [features(s, recall(s, BUILT_IN, 60, repeats="always")) for s in (shopper_of(seed, 20) for seed in range(4))]
    ).std(axis=0)
    assert [name for name, spread in zip(NAMES, varied, strict=True) if spread == 0] == []


def test_what_was_written_is_read_and_nothing_else() -> None:
    written = features(shopper_of(2, 9), recall(shopper_of(2, 9), BUILT_IN, 5, repeats="always"))
    known = read(SCHEMA, "", written.tobytes(), len(written), KNOWN)
    assert known is not None
    np.testing.assert_array_equal(known, written)
    assert read(SCHEMA + 1, "", written.tobytes(), len(written), KNOWN) is None
    assert read(SCHEMA, "", written.tobytes(), len(written) + 1, KNOWN) is None
    assert read(SCHEMA, "another", written.tobytes(), len(written), KNOWN) is None
    assert read(SCHEMA, "", written.tobytes(), len(written), FeatureSet((*NAMES, "another"), "")) is None
