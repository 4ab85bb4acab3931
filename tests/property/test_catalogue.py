"""The catalogue against a plain dictionary and numpy, through any order of inserts, changes, deletes and restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from encoders.events.entries import item_key
from encoders.interest import Vector
from ranker.recall import graph_file, nearest_items, newest_items
from ranker.recall.catalogue import Catalogue, CatalogueItem

DIM, EXACT, NUMBERS = 8, 40, 120
number = st.integers(0, NUMBERS - 1)
seed = st.integers(0, 2**32 - 1)


def vector_of(drawn: int) -> Vector:
    vector = np.random.default_rng(drawn).normal(size=DIM).astype(np.float32)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


class CatalogueAndReference(RuleBasedStateMachine):
    """Small sizes, so that the graph holds most, and the waiting set some."""

    def __init__(self) -> None:
        super().__init__()
        self.patched = [patch.object(nearest_items, "_WAITING", 8), patch.object(newest_items, "MAX_NEWEST", 10)]
        for patched in self.patched:
            patched.start()
        self.catalogue = Catalogue(DIM, EXACT)
        self.items: dict[str, tuple[Vector, CatalogueItem]] = {}

    def teardown(self) -> None:
        for patched in self.patched:
            patched.stop()

    @initialize(seed=seed)
    def fill(self, seed: int) -> None:
        for position in range(EXACT * 2):
            self.put(position, seed + position, True, "first", position % 3)

    @rule(number=number, drawn=seed, available=st.booleans(), title=st.text(max_size=3), time_ms=st.integers(0, 3))
    def put(self, number: int, drawn: int, available: bool, title: str, time_ms: int) -> None:
        self.put_item(CatalogueItem(str(number), title, "text", available=available, time_ms=time_ms), vector_of(drawn))

    @rule(number=number, available=st.booleans())
    def change_all_but_the_vector(self, number: int, available: bool) -> None:
        if str(number) in self.items:
            vector, item = self.items[str(number)]
            self.put_item(replace(item, title=item.title + "!", available=available), vector)

    def put_item(self, item: CatalogueItem, vector: Vector) -> None:
        self.catalogue.put(item, vector)
        self.items[item.item_id] = vector, item

    @rule(number=number)
    def delete(self, number: int) -> None:
        self.catalogue.delete(str(number))
        self.items.pop(str(number), None)

    @rule(sold_out=st.booleans())
    def restart(self, sold_out: bool) -> None:
        """The graph comes from disk, the items from their topic in another order; perhaps one changed meanwhile."""
        with TemporaryDirectory() as folder:
            graph_file.write(self.catalogue.text.index.graph, Path(folder) / "graph", "model")
            graph = graph_file.read(Path(folder) / "graph", DIM, "model")
        if sold_out and self.items:
            self.items.pop(next(iter(self.items)))
        self.catalogue = Catalogue(DIM, EXACT, graph)
        for _, (vector, item) in sorted(self.items.items()):
            self.catalogue.put(item, vector)
        for _ in self.catalogue.text.index.forget_unknown():
            pass

    @invariant()
    def the_mean_cosine_is_that_of_all_pairs(self) -> None:
        vectors = np.array([vector for vector, _ in self.items.values()], np.float64).reshape(-1, DIM)
        expected = (vectors @ vectors.T).mean() if len(vectors) else 0.0
        np.testing.assert_allclose(self.catalogue.mean_cosine, expected, atol=1e-6)

    @rule(drawn=seed, queries=st.integers(1, 6), count=st.integers(1, NUMBERS))
    def search(self, drawn: int, queries: int, count: int) -> None:
        asked = np.stack([vector_of(drawn + position) for position in range(queries)])
        rows, similarities = self.catalogue.text.nearest(asked, count)
        found = [self.catalogue.at(row).item_id for row in rows.tolist()]
        shown = {id_: float((asked @ vector).max()) for id_, (vector, item) in self.items.items() if item.available}
        best = sorted(shown.values(), reverse=True)[:count]
        assert len(found) == len(set(found))
        assert set(found) <= shown.keys()
        np.testing.assert_allclose(similarities, [shown[item_id] for item_id in found], atol=1e-5)
        assert similarities.tolist() == sorted(similarities.tolist(), reverse=True)
        missed = [similarity for similarity in best if not np.isclose(similarities, similarity, atol=1e-5).any()]
        assert len(missed) <= len(best) / 10, "so few that the graph reaches nearly all"

    @invariant()
    def holds_what_was_put(self) -> None:
        assert len(self.catalogue) == len(self.items)
        assert {item.item_id: item.title for item in self.catalogue} == {
            item_id: item.title for item_id, (_, item) in self.items.items()
        }
        for item_id, (vector, expected) in self.items.items():
            kept = self.catalogue.vector(item_key(item_id))
            assert kept is not None
            assert np.array_equal(kept, vector)
            assert len(self.catalogue.recommendable([item_key(item_id)])[0]) == expected.available

    @invariant()
    def lists_the_newest_in_one_order_whatever_the_order_of_puts(self) -> None:
        available = [item for _, item in self.items.values() if item.available]
        expected = sorted(available, key=lambda item: (-item.time_ms, item_key(item.item_id)))[:10]
        assert [self.catalogue.at(row).item_id for row in self.catalogue.newest(99)] == [i.item_id for i in expected]


TestCatalogue = CatalogueAndReference.TestCase
TestCatalogue.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
