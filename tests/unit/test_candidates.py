"""Step 3: recall from several sources, and what must never be recalled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, Interest, Vector, empty, update
from ranker.recall.candidates import BUILT_IN, Proposals, Source, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.priorities import Repeats
from ranker.recall.user_view import UserView

DIM = 16
START = 1_700_000_000_000
DECAY = Decay()


def vectors(count: int, seed: int = 0) -> Vector:
    drawn = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    unit: Vector = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


class World:
    """A catalogue of `count` items in groups of ten alike, and everybody's counts."""

    def __init__(self, count: int = 200) -> None:
        self.catalogue = Catalogue(DIM)
        self.counts = Counts(90 * 86_400_000, 3 * 86_400_000)
        centres, noise = vectors(count // 10), vectors(count, 1)
        for number in range(count):
            mixed = centres[number // 10] + 0.2 * noise[number]
            self.catalogue.put(item(number), mixed / np.linalg.norm(mixed))

    def visit(self, numbers: Sequence[int], purchases: Sequence[int] = ()) -> Interest:
        state = empty(DIM)
        for index, number in enumerate(numbers):
            event = Event(key(number), START + index * 1000, "purchase" if number in purchases else "click")
            earlier = state.history["item"].tolist()
            state = update(state, event, self.catalogue.vector(event.item), DECAY)
            self.counts.observe([event], earlier)
        return state

    def recall(
        self, state: Interest, sources: Sequence[Source] = BUILT_IN, limit: int = 50, repeats: Repeats = "unbought"
    ) -> list[int]:
        user = UserView(state, self.catalogue, self.counts, DECAY)
        merged = recall(user, sources, limit, repeats)
        assert len({found.row for found in merged}) == len(merged) <= limit
        assert [found.retrieval_score for found in merged] == sorted(
            (found.retrieval_score for found in merged), reverse=True
        )
        return [int(self.catalogue.at(found.row).item_id) for found in merged]


def item(number: int, available: bool = True) -> CatalogueItem:
    return CatalogueItem(
        f"{number:03}", f"title {number}", f"text {number}", available=available, time_ms=START + number
    )


def key(number: int) -> int:
    return item_key(f"{number:03}")


def test_nearest_finds_every_taste_and_not_their_mean() -> None:
    world = World()
    state = world.visit([3, 4, 103, 104])
    nearest = [source for source in BUILT_IN if source.name == "nearest"]
    found = world.recall(state, nearest, limit=16)
    assert {number for number in found if number < 10} >= {0, 1, 2, 5, 6, 7, 8, 9} - {3, 4}
    assert len([number for number in found if 100 <= number < 110]) >= 5


def test_co_visited_finds_what_others_took_together() -> None:
    world = World()
    for _ in range(5):
        world.visit([10, 77, 150])
    state = world.visit([10])
    co_visited = [source for source in BUILT_IN if source.name == "co-visited"]
    assert world.recall(state, co_visited) == [77, 150]
    user = UserView(state, world.catalogue, world.counts, DECAY)
    because = co_visited[0].find(user, 10).because
    assert because is not None
    assert set(because.tolist()) == {key(10)}


def test_a_new_user_gets_what_trends_and_what_is_new() -> None:
    world = World()
    for _ in range(3):
        world.visit([5])
    found = world.recall(empty(DIM), limit=20)
    assert found[0] == 5
    assert set(found) >= {199, 198, 197}


def test_what_must_not_be_recalled_is_not() -> None:
    world = World()
    state = world.visit([1, 2, 3, 4], purchases=[2])
    world.catalogue.put(item(5, available=False), vectors(1)[0])
    world.catalogue.delete("006")
    found = world.recall(state, limit=200)
    assert not {2, 4, 5, 6} & set(found), "bought, looked at last, unavailable, deleted"
    assert {1, 3} <= set(found)
    assert 2 in world.recall(state, limit=200, repeats="always")


def test_purchases_are_remembered_beyond_the_history() -> None:
    world = World()
    state = world.visit([2, *range(100, 160)], purchases=[2])
    assert key(2) not in state.history["item"]
    assert 2 not in world.recall(state, limit=200)


def test_a_source_of_ones_own_joins_by_its_name() -> None:
    class Favourite:
        name = "favourite"

        def find(self, user: UserView, limit: int) -> Proposals:
            return Proposals(user.catalogue.rows([key(123)]))

    world = World()
    state = world.visit([3])
    merged = recall(UserView(state, world.catalogue, world.counts, DECAY), [*BUILT_IN, Favourite()], 100, "unbought")
    favourite = next(found for found in merged if world.catalogue.at(found.row).item_id == "123")
    assert "favourite" in favourite.ranks


def test_an_empty_catalogue_gives_an_empty_list() -> None:
    user = UserView(empty(DIM), Catalogue(DIM), Counts(1.0, 1.0), DECAY)
    assert recall(user, BUILT_IN, 10, "unbought") == []


def test_the_newest_are_right_through_inserts_and_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranker.recall.newest_items.MAX_NEWEST", 20)
    rng = np.random.default_rng(5)
    catalogue, shown = Catalogue(DIM), dict[str, int]()
    for step in range(1_500):
        item_id, time_ms = f"{int(rng.integers(0, 30 + step % 300)):03}", int(rng.integers(0, 200))
        available = bool(rng.random() < 0.8)
        shown.pop(item_id, None)
        if rng.random() < 0.4:
            catalogue.delete(item_id)
        else:
            catalogue.put(CatalogueItem(item_id, "", "", available=available, time_ms=time_ms), vectors(1)[0])
            shown |= {item_id: time_ms} if available else {}
        found = catalogue.newest(100).tolist()
        assert [catalogue.at(row).time_ms for row in found] == sorted(shown.values(), reverse=True)[:20]
        assert {catalogue.at(row).item_id for row in found} <= shown.keys()


def test_catalogue_search_is_exact_through_inserts_and_deletes() -> None:
    rng = np.random.default_rng(4)
    catalogue, mirror = Catalogue(DIM), dict[str, tuple[Vector, bool]]()
    for step in range(1_500):
        number = int(rng.integers(0, 400))
        if rng.random() < 0.3:
            catalogue.delete(f"{number:03}")
            mirror.pop(f"{number:03}", None)
        else:
            vector, available = vectors(1, step)[0], bool(rng.random() < 0.9)
            catalogue.put(item(number, available), vector)
            mirror[f"{number:03}"] = (vector, available)
    assert len(catalogue) == len(mirror)
    assert {entry.item_id for entry in catalogue} == set(mirror)
    queries = vectors(5, 99)
    rows, scores = catalogue.text.nearest(queries, 20)
    shown = {item_id: float((queries @ vector).max()) for item_id, (vector, available) in mirror.items() if available}
    best = sorted(shown, key=lambda item_id: -shown[item_id])[:20]
    assert [catalogue.at(row).item_id for row in rows.tolist()] == best
    assert scores.tolist() == pytest.approx([shown[item_id] for item_id in best], abs=1e-6)


@pytest.mark.parametrize("magnitude", [1.0, 1e-14, 1e-16, 1e-20, 1e-25, 1e-37, 0.0, 1e-44])
def test_a_mean_that_has_nearly_faded_keeps_its_direction(magnitude: float) -> None:
    session = np.arange(1, DIM + 1, dtype=np.float32)
    faded = replace(empty(DIM), session=(session.astype(np.float64) * magnitude).astype(np.float32), version=1)
    found = UserView(faded, Catalogue(DIM), Counts(1.0, 1.0), DECAY).interests
    if magnitude < 1e-38:
        assert found.session is None
    else:
        assert found.session == pytest.approx(session / np.linalg.norm(session), rel=1e-4)
    assert found.long is None
