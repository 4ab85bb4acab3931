"""The benchmarks `candidates` and `growth` in small sizes, the plot, and the distribution of synthetic vectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ranker.progress import Progress
from streams.bench import candidates, growth, log_growth, plot
from streams.bench.measurement import Measurement
from streams.bench.synthetic_vectors import interests_in, text_like

ITEMS = 9_000


def no_progress(name: str) -> Progress:
    """A progress bar that nobody sees."""
    return lambda done, total: None


def test_vectors_are_distributed_as_those_of_texts() -> None:
    """As `synthetic_vectors` states: a little closer together than a real shop's, which makes the search harder."""
    vectors = text_like(30_000, 384, 1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosines = np.sort(vectors[:300] @ vectors.T, axis=1)
    median, hundredth, tenth = (float(np.median(cosines[:, rank])) for rank in (len(vectors) // 2, -101, -11))
    assert [median, hundredth, tenth] == pytest.approx([0.215, 0.534, 0.673], abs=0.04)


def test_interests_are_unit_vectors_near_items() -> None:
    vectors = text_like(2_000, 384, 1)
    queries = interests_in(vectors, 1)()
    assert queries.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    assert (queries[:4] @ vectors.T).max(axis=1).min() > 0.8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def small() -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(candidates, "ROUNDS", 2)
    patch.setattr(candidates, "SEARCHES", 20)
    return patch


def test_candidates_are_measured_and_their_graph_is_kept(folder: Path, small: pytest.MonkeyPatch) -> None:
    built = {row.name: row for row in candidates.measure(ITEMS, folder, no_progress)}
    recalls = [row for name, row in built.items() if "recall@100" in name]
    assert len(recalls) == 2
    assert all(row.reached and row.figure <= 1 for row in recalls)
    assert built[f"candidates for one user by text, {ITEMS:,} items, p99"].target is not None
    assert built["items into a catalogue whose graph was kept"].ratio is not None
    again = {row.name: row for row in candidates.measure(ITEMS, folder, no_progress)}
    assert "the graph, written to disk" in built
    assert "the graph, written to disk" not in again
    assert again["items into a catalogue whose graph was kept"].figure > 0
    small.undo()


def test_memory_of_a_user_is_within_its_bound_with_the_largest_state() -> None:
    costs = growth.in_own_process(partial(growth.measure_users, 3_000))  # memory that others freed would be reused
    assert 3_900 < costs.record_bytes <= 4_096
    assert 0.5 * costs.record_bytes < costs.memory_bytes < 1.3 * 4_096
    assert len(costs.event_s) == growth.EVENTS


def test_items_are_measured() -> None:
    costs = growth.measure_items(1_000)
    assert min(costs.search_s + costs.recall_s + costs.exact_s) > 0
    assert costs.memory_bytes > 0


def test_a_log_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_growth, "LISTS", 5)
    costs = log_growth.measure_log(tmp_path, 2_000)
    assert min(costs.read_s, costs.built_s) > 0
    lines = [line for path in tmp_path.glob("[cp]*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(lines) == 2_000


def measurements() -> list[Measurement]:
    users = growth.UserCosts([0.001, 0.002], 4_200.0, 4_000.0)
    items = growth.ItemCosts([0.001], [0.002], [0.05], 0.0002, 3_000.0)
    made = []
    for count in (1_000, 10_000, 100_000):
        made += growth.user_measurements(count, users) + growth.item_measurements(count, items)
        made += log_growth.log_measurements(count, log_growth.LogCosts(1.0, 2.0, 5e8))
    return made


def test_every_line_of_the_plot_has_its_points() -> None:
    for panel in plot.PANELS:
        for line in panel.lines:
            counts, figures = plot.points(measurements(), line)
            assert counts == [1_000, 10_000, 100_000], line.label
            assert min(figures) > 0


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot_is_drawn(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / f"growth.{ending}"
    assert plot.draw(measurements(), path)
    assert path.stat().st_size > 10_000


def test_without_matplotlib_there_is_no_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not plot.draw(measurements(), tmp_path / "growth.png")
    assert list(tmp_path.iterdir()) == []
