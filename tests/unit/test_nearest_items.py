"""Approximate search against exact search, while items come, change and go."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from encoders.interest import Vector
from ranker.recall.catalogue import Catalogue, CatalogueItem

DIM = 64
EXACT = 300
COUNT = 100


class Clustered:
    """Draws vectors around 100 centres, as texts' vectors are."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._centres = self._unit(self.rng.normal(size=(100, DIM)))

    def draw(self, count: int) -> Vector:
        noise = self._unit(self.rng.normal(size=(count, DIM)))
        return self._unit(self._centres[self.rng.integers(0, 100, count)] + 0.7 * noise)

    @staticmethod
    def _unit(vectors: npt.NDArray[np.floating]) -> Vector:
        unit: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit


class Mirrored:
    """A catalogue, and what must be in it."""

    def __init__(self, seed: int, items: int) -> None:
        self.clustered = Clustered(seed)
        self.rng = self.clustered.rng
        self.catalogue = Catalogue(DIM, exact=EXACT)
        self.shown: dict[str, Vector] = {}
        for number, vector in enumerate(self.clustered.draw(items)):
            self.put(number, vector)

    def put(self, number: int, vector: Vector, available: bool = True) -> None:
        self.catalogue.put(CatalogueItem(str(number), "title", "text", available=available), vector)
        self.shown.pop(str(number), None)
        if available:
            self.shown[str(number)] = vector

    def delete(self, number: int) -> None:
        self.catalogue.delete(str(number))
        self.shown.pop(str(number), None)

    def recall(self, searches: int, count: int = COUNT) -> float:
        """Share of the exact answer that was found; what must hold for every answer is asserted."""
        ids, vectors = list(self.shown), np.array(list(self.shown.values()))
        shares = []
        for _ in range(searches):
            queries = self.clustered.draw(int(self.rng.integers(1, 7)))
            rows, similarities = self.catalogue.text.nearest(queries, count)
            found = [self.catalogue.at(row).item_id for row in rows.tolist()]
            assert len(set(found)) == len(found) == min(count, len(ids))
            assert similarities.tolist() == sorted(similarities.tolist(), reverse=True)
            own = [float((queries @ self.shown[item_id]).max()) for item_id in found]  # KeyError: it is not to be shown
            assert similarities.tolist() == pytest.approx(own, abs=1e-5)
            exact = np.argsort(-(queries @ vectors.T).max(axis=0), kind="stable")[:count]
            shares.append(len({ids[position] for position in exact} & set(found)) / len(exact))
        return float(np.mean(shares))


def test_recall_through_inserts_replacements_deletes_and_availability() -> None:
    world = Mirrored(0, 5_000)
    assert world.recall(30) >= 0.95
    for _ in range(4):
        for number in world.rng.integers(0, 6_000, 500).tolist():
            if world.rng.random() < 0.3:
                world.delete(number)
            else:
                world.put(number, world.clustered.draw(1)[0], available=bool(world.rng.random() < 0.8))
        assert world.recall(10) >= 0.95


def test_a_sold_out_neighbourhood_still_gives_the_count() -> None:
    world = Mirrored(1, 2_000)
    query = world.clustered.draw(1)
    before = world.catalogue.text.nearest(query, 1_000)[0]
    for row in before.tolist():
        number = int(world.catalogue.at(row).item_id)
        world.put(number, world.shown[str(number)], available=False)
    after, _ = world.catalogue.text.nearest(query, COUNT)
    assert len(after) == COUNT
    assert not set(after.tolist()) & set(before.tolist())
    for row in before.tolist():
        item_id = world.catalogue.at(row).item_id
        world.put(int(item_id), world.catalogue.vectors(np.array([row]))[0].copy())
    assert world.recall(10) >= 0.95


def test_every_item_of_a_new_graph_is_found() -> None:
    for seed in range(5):
        catalogue = Mirrored(seed, items=2 * EXACT).catalogue
        catalogue.text.index.graph.expansion_search = 2 * EXACT  # type: ignore[misc]  # mypy misses the setter
        found = catalogue.text.index.graph.search(np.zeros(DIM, np.int8), 2 * EXACT)
        assert len(found) == len(catalogue.text.index.graph)


def test_the_nearest_item_is_found_where_two_are_about_as_near() -> None:
    assert Mirrored(2, 5_000).recall(300, count=1) >= 0.995


def test_a_new_item_is_found_at_once() -> None:
    world = Mirrored(2, 2_000)
    for number in range(2_000, 2_100):
        vector = world.clustered.draw(1)
        world.put(number, vector[0])
        rows, similarities = world.catalogue.text.nearest(vector, 1)
        assert world.catalogue.at(int(rows[0])).item_id == str(number)
        assert similarities[0] == pytest.approx(1, abs=1e-5)


def test_an_emptied_catalogue_finds_nothing_and_fills_again() -> None:
    world = Mirrored(3, 1_000)
    for number in range(1_000):
        world.delete(number)
    assert len(world.catalogue.text.nearest(world.clustered.draw(2), COUNT)[0]) == 0
    for number, vector in enumerate(world.clustered.draw(1_000)):
        world.put(number, vector)
    assert world.recall(10) >= 0.95
