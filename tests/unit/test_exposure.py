"""Which items the lists show: how many, how unequally, for how long, and by model."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from streams import metrics
from streams.rank.exposure import HALF_S, Exposure

CATALOGUE = [f"item-{number}" for number in range(1_000)]


@pytest.fixture
def clock() -> list[float]:
    """Seconds; the test moves them."""
    return [0.0]


@pytest.fixture
def exposure(clock: list[float]) -> Exposure:
    shown = Exposure(lambda: clock[0])
    shown.know(CATALOGUE)
    return shown


def items(model: str) -> float | None:
    return REGISTRY.get_sample_value("afterclick_shown_items", {"model": model})


def top_share(model: str) -> float | None:
    return REGISTRY.get_sample_value("afterclick_shown_top_share", {"model": model})


def test_lists_that_are_all_the_same_show_few_items(exposure: Exposure) -> None:
    for _ in range(100):
        exposure.note("same@1", CATALOGUE[:10])
    assert items("same@1") == 10
    assert top_share("same@1") == 1, "ten items, 1% of the catalogue"


def test_lists_that_differ_share_the_positions(exposure: Exposure) -> None:
    for begin in range(0, 1_000, 20):
        exposure.note("even@1", CATALOGUE[begin : begin + 20])
    assert items("even@1") == pytest.approx(1_000, rel=0.01)
    assert top_share("even@1") == pytest.approx(0.01, abs=0.01)


def test_what_was_shown_an_hour_ago_is_forgotten(exposure: Exposure, clock: list[float]) -> None:
    exposure.note("old@1", CATALOGUE[:20])
    clock[0] = 1.5 * HALF_S
    exposure.note("old@1", CATALOGUE[20:30])
    assert items("old@1") == 30
    clock[0] = 2.5 * HALF_S
    assert items("old@1") == 10
    clock[0] = 9 * HALF_S
    assert items("old@1") == 0
    assert top_share("old@1") == 0


def test_a_model_that_no_longer_serves_shows_nothing(exposure: Exposure) -> None:
    exposure.note("new@1", CATALOGUE[:3])
    exposure.note("gone@1", CATALOGUE[:20])
    exposure.keep({"new@1"})
    metrics.keep_models({"new@1"})
    assert items("gone@1") is None
    assert items("new@1") == 3
    exposure.note("gone@1", [])
    assert items("gone@1") == 0, "an empty list of its last batch"


def test_more_items_than_cells_are_estimated(exposure: Exposure) -> None:
    exposure.note("large@1", [f"other-{number}" for number in range(300_000)])
    assert items("large@1") == pytest.approx(300_000, rel=0.02)
