"""Which item of the history a reason cites: of the category first, then by text, then what others visited."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, empty, update
from encoders.prototypes import SAME_INTEREST
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.evidence import cite
from ranker.recall.user_view import UserView

DIM = 4


class Shop:
    """Items with vectors and categories, and one user who visited some of them, in order."""

    def __init__(self, items: dict[str, tuple[str, list[float]]], visited: list[str]) -> None:
        self.catalogue = Catalogue(DIM)
        self.vectors = {
            name: np.array(vector, np.float32) / np.linalg.norm(vector) for name, (_, vector) in items.items()
        }
        for name, (category, _) in items.items():
            item = CatalogueItem(name, name, name, categories=(category,) if category else ())
            self.catalogue.put(item, self.vectors[name])
        state = empty(DIM)
        for number, name in enumerate(visited):
            state = update(state, Event(item_key(name), number, "click"), self.vectors.get(name), Decay())
        self.user = UserView(state, self.catalogue, Counts(1, 1), Decay())

    def cited(self, names: list[str], together: list[str | None] | None = None) -> list[tuple[str | None, bool]]:
        rows = self.catalogue.rows(map(item_key, names))
        hints = np.array([item_key(name) if name else 0 for name in together or [None] * len(names)], np.uint64)
        keys, similar, *_ = cite(self.user, self.catalogue.columns(rows), hints)
        found = [self.catalogue.get(key) for key in keys.tolist()]
        return list(zip([item.item_id if item else None for item in found], similar.tolist(), strict=True))


def test_the_category_comes_before_the_text_and_both_before_what_others_visited() -> None:
    items = {
        "old tent": ("tents", [1.0, 0, 0, 0]),
        "new tent": ("tents", [1.0, 0.2, 0, 0]),
        "stove": ("stoves", [0.0, 1, 0.1, 0]),
        "shoes": ("shoes", [0.0, 0, 0, 1]),
        "a tent": ("tents", [1.0, 0, 0.1, 0.1]),
        "a pan": ("pans", [0.0, 1, 0.2, 0]),
        "a throw": ("throws", [0.0, 0, 1, 0.1]),
    }
    shop = Shop(items, ["old tent", "stove", "new tent", "shoes"])
    candidates = ["a tent", "a pan", "a throw", "a throw", "shoes"]
    expected = [("old tent", True), ("stove", True), ("shoes", False), (None, False), (None, False)]
    assert shop.cited(candidates, [None, None, "shoes", None, None]) == expected
    assert Shop(items, []).cited(["a tent"]) == [(None, False)]
    assert Shop(items, ["not in the catalogue"]).cited(["a tent"]) == [(None, False)]


VECTORS = st.lists(st.integers(-2, 2), min_size=DIM, max_size=DIM).filter(any)
ITEMS = st.lists(st.tuples(st.sampled_from(["", "x", "y"]), VECTORS), min_size=3, max_size=8)


@given(ITEMS, st.lists(st.integers(0, 7), max_size=8))
def test_a_plain_search_finds_the_same(drawn: list[tuple[str, list[int]]], visits: list[int]) -> None:
    items = {f"i{number}": (category, [float(x) for x in vector]) for number, (category, vector) in enumerate(drawn)}
    visited = [f"i{number % len(items)}" for number in visits]
    shop = Shop(items, visited)
    for name, (cited, similar) in zip(items, shop.cited(list(items)), strict=True):
        others = [other for other in dict.fromkeys(reversed(visited)) if other != name]
        cosine = {other: float(shop.vectors[name] @ shop.vectors[other]) for other in others}
        assume(all(abs(value - SAME_INTEREST) > 1e-5 for value in cosine.values()))
        alike = [other for other in others if items[other][0] and items[other][0] == items[name][0]]
        alike = alike or [other for other in others if cosine[other] > SAME_INTEREST]
        assert similar == (cited is not None) == bool(alike)
        if cited is not None:
            assert cited in alike
            assert cosine[cited] >= max(map(cosine.__getitem__, alike)) - 1e-5
