"""Learnt neighbours: the table as it is served, what bounds a fit, and the search for its settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, empty, update
from encoders.models.source import ModelUnsupported
from ranker.neighbours import dense, limits, local
from ranker.neighbours import search as searching
from ranker.neighbours.fit import fit, fitted_items
from ranker.neighbours.limits import Limits, fit_bytes
from ranker.neighbours.search import TRIALS, NeighbourCase, search
from ranker.neighbours.settings import NeighbourEvents, NeighbourSettings
from ranker.neighbours.table import NeighbourTable, read
from ranker.progress import silent
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.recall.user_view import UserView

KEYS = np.array([10, 20, 30, 40], np.uint64)
TABLE = NeighbourTable(
    KEYS,
    np.array([0, 2, 3, 3, 5]),
    np.array([1, 2, 2, 0, 2], np.int32),
    np.array([0.5, 0.25, 0.75, 0.125, 2.0], np.float32),
    decay=2.0,
)
BYTES = 8 * 2.0**30


def walks(users: int, items: int, seed: int) -> NeighbourEvents:
    """Users who go from item to item in the order of numbers, from where they enter, with some that are random."""
    random = np.random.default_rng(seed)
    user, step = np.divmod(np.arange(users * 8), 8)
    item = (random.integers(0, items, users)[user] + step) % items
    item = np.where(random.random(len(item)) < 0.1, random.integers(0, items, len(item)), item)
    return NeighbourEvents(user, item, step * 1_000 + user)


def test_a_score_is_the_decayed_sum_of_the_weights() -> None:
    scored = TABLE.scores([20, 99, 10])
    second = np.exp(-2 / 2)  # the unknown item keeps its rank
    assert scored.scores == pytest.approx([0, 0.5 * second, 0.75 + 0.25 * second, 0])
    assert scored.strongest(np.array([2, 1])).tolist() == [0, 2]
    assert not TABLE.scores([]).scores.any()
    assert not TABLE.scores([30, 99]).scores.any()


def test_a_table_is_read_as_it_was_saved(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "table")
    same = read(tmp_path / "table")
    assert (same.keys == TABLE.keys).all()
    assert (same.starts == TABLE.starts).all()
    assert (same.neighbours == TABLE.neighbours).all()
    assert (same.weights == TABLE.weights).all()
    assert same.decay == TABLE.decay


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keys", np.array([10, 30, 20, 40], np.uint64)),
        ("starts", np.array([0, 2, 3, 5])),
        ("starts", np.array([0, 3, 2, 3, 5])),
        ("starts", np.array([0, 2, 3, 3, 4])),
        ("neighbours", np.array([1, 2, 2, 0, 4], np.int32)),
        ("neighbours", np.array([1, 2, 2, 0, -1], np.int32)),
        ("weights", np.array([1, 2, np.nan, 4, 5], np.float32)),
        ("weights", np.ones(4, np.float32)),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    replace(TABLE, **{name: value}).save(tmp_path / "table")
    with pytest.raises(ModelUnsupported, match="do not fit together"):
        read(tmp_path / "table")


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"no table")
    with pytest.raises(ModelUnsupported, match="got no table of neighbours"):
        read(tmp_path / "table")
    save_file({"keys": KEYS}, tmp_path / "table")
    with pytest.raises(ModelUnsupported, match="got no table of neighbours"):
        read(tmp_path / "table")


def test_a_candidate_reads_what_the_table_says_and_0_where_it_says_nothing() -> None:
    catalogue = Catalogue(2)
    numbers = {f"i{number}": item_key(f"i{number}") for number in range(4)}
    for item_id in numbers:
        catalogue.put(CatalogueItem(item_id, item_id, item_id), np.array([1, 0], np.float32))
    events = NeighbourEvents(np.repeat(np.arange(9), 2), np.tile([0, 1], 9), np.arange(18))
    keys = np.array(list(numbers.values()), np.uint64)
    source = LearntNeighbours(fit(events, keys, NeighbourSettings(ridge=0.01, served=1.0)))
    state = update(empty(2), Event(numbers["i0"], 1, "click"), catalogue.vector(numbers["i0"]), Decay())
    state = update(state, Event(numbers["i3"], 2, "click"), catalogue.vector(numbers["i3"]), Decay())
    user = UserView(state, catalogue, Counts(1e9, 1e9), Decay())
    rows, because = source.find(user, 5)
    assert [catalogue.at(row).item_id for row in rows] == ["i1"]
    assert because is not None
    assert because.tolist() == [numbers["i0"]]
    values = source.features(user, catalogue.columns(catalogue.rows(numbers.values())))
    assert values[:, 0] == pytest.approx([0, np.log2(1 + np.exp(-1) * 2**12), 0, 0], abs=0.01)


@pytest.mark.parametrize("predictors", [None, 100])
def test_a_fit_in_parts_is_the_same_and_the_largest_weights_are_kept(
    predictors: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, keys = walks(200, 30, 1), np.arange(30, dtype=np.uint64)
    whole = fit(events, keys, NeighbourSettings(predictors=predictors))
    monkeypatch.setattr(dense, "BLOCK", 7)
    monkeypatch.setattr(local, "BLOCK_ENTRIES", 200)
    monkeypatch.setattr(local, "SOLVED", 7)
    for module in (dense, local):
        monkeypatch.setattr(module, "MAX_NEIGHBOURS", 5)
    parts = fit(events, keys, NeighbourSettings(predictors=predictors))
    assert (np.diff(parts.starts) == 5).all()
    for row in range(30):
        largest = np.sort(whole.weights[whole.starts[row] : whole.starts[row + 1]])[::-1][:5]
        kept = parts.weights[parts.starts[row] : parts.starts[row + 1]]
        assert np.sort(kept)[::-1] == pytest.approx(largest, rel=1e-4)


def test_a_matrix_without_its_small_entries_still_gives_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it may be indefinite: more ridge then, and no failure."""
    monkeypatch.setattr(local, "GRAM_ENTRIES", 3)
    table = fit(walks(200, 30, 1), np.arange(30, dtype=np.uint64), NeighbourSettings(ridge=1e-4))
    assert np.isfinite(table.weights).all()
    assert len(table.weights) > 30


def test_the_predictors_of_an_item_are_those_with_the_largest_weights_alone() -> None:
    """Of two regressions on one item each, the better one remains."""
    both = NeighbourEvents(np.repeat(np.arange(12), 2), np.array([0, 2] * 8 + [1, 2] * 4), np.arange(24))
    keys, settings = np.arange(3, dtype=np.uint64), NeighbourSettings(ridge=1.0, half_life_days=None, predictors=1)
    table = fit(both, keys, settings)
    assert np.diff(table.starts).tolist() == [1, 0, 0]
    assert table.neighbours.tolist() == [2]
    assert table.weights[0] == pytest.approx(8 / 9)


def test_the_items_with_most_events_take_part() -> None:
    events = NeighbourEvents(np.zeros(9, np.int64), np.array([4, 4, 4, 1, 1, 3, 3, 3, 0]), np.arange(9))
    assert fitted_items(events, 6, 10).tolist() == [1, 3, 4]
    assert fitted_items(events, 6, 2).tolist() == [3, 4]


@pytest.mark.parametrize("predictors", [None, 100])
def test_the_memory_and_the_time_of_a_fit_are_known_before(predictors: int | None) -> None:
    unbounded = Limits(BYTES, 1e9, 1e10)
    assert fit_bytes(17_000, 440_000, predictors) < BYTES
    assert unbounded.items(440_000, predictors) >= limits.MAX_DENSE_ITEMS
    assert (unbounded.items(440_000, predictors) > limits.MAX_DENSE_ITEMS) == (predictors is not None)
    for size in (1e9, 4e9):
        most = replace(unbounded, bytes=size).items(10_000, predictors)
        assert fit_bytes(most, 10_000, predictors) <= size < fit_bytes(most + 2, 10_000, predictors)
    assert replace(unbounded, bytes=1e6).items(10_000_000, predictors) == 0
    minute, hour = (replace(unbounded, seconds=seconds).items(0, predictors) for seconds in (60.0, 3_600.0))
    assert 1_000 < minute < hour / 3
    assert replace(unbounded, seconds=-1.0).items(0, predictors) == 0


def test_a_hundred_thousand_items_have_weights_within_the_memory_of_a_fit() -> None:
    assert fit_bytes(100_000, 4_000_000, NeighbourSettings.predictors) < 4e9


def test_a_log_without_a_pair_gives_an_empty_table() -> None:
    events = NeighbourEvents(np.arange(3), np.arange(3), np.arange(3))
    table = fit(events, np.arange(3, dtype=np.uint64), NeighbourSettings())
    assert len(table) == 0
    assert len(table.scores([1, 2]).scores) == 0


def test_the_search_finds_what_ranks_newer_events_best_and_stops_in_time() -> None:
    events, keys = walks(300, 60, 2), np.arange(60, dtype=np.uint64)
    cases = [NeighbourCase([number, (number - 1) % 60], frozenset([(number + 1) % 60])) for number in range(60)]
    found = search(events, keys, cases, Limits(BYTES, 1e6, 1e10), silent)
    assert len(found.tried) == TRIALS
    assert found.ndcg == max(figure for _, figure in found.tried) > 0.9
    assert found.settings.kind == "slit"
    assert found.ndcg == pytest.approx(searching.ndcg(fit(events, keys, found.settings), cases))
    ticks = count()
    hurried = search(events, keys, cases, Limits(BYTES, 2.0, 1e10), silent, clock=lambda: float(next(ticks)))
    assert 1 <= len(hurried.tried) < TRIALS
