"""`afterclick simulate`: which rankers it takes, how it prints, and a short life through the tiers."""

from __future__ import annotations

import io
from math import nan
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from streams.commands.simulation import plot
from streams.commands.simulation.month import Simulation, run
from streams.commands.simulation.rankers import settings_of
from streams.commands.simulation.report import as_json, bars, tables
from streams.contracts import Impression
from streams.datasets.messages import InputError
from streams.datasets.month.assortment import Assortment
from streams.datasets.month.person import Person
from streams.datasets.month.rates import Rates
from streams.offline.life import IN_VIEW, DayFigures, Life
from streams.settings import Settings, SettingsError
from streams.terminal.report import show

FACTS = {"days": 30, "users": 1_000, "seed": 7, "boredom": True}
FIGURES = {
    name: [DayFigures(1_000 - day * left, 620, 900, 1_234 - day, 56, 0.7, 0.65) for day in range(30)]
    for name, left in (("greedy", 20), ("careful", 10))
}
EMPTY = DayFigures(0, 0, 0, 0, 0, nan, nan)


class TopicVectors:
    """An encoder of the words of titles, without a model."""

    dim = 64

    def encode(self, texts: list[str]) -> np.ndarray:
        vectors = np.array([[hash_of(text, place) for place in range(self.dim)] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_events = encode


def hash_of(text: str, place: int) -> float:
    return 0.01 + sum(sum(word.encode()) % TopicVectors.dim == place for word in text.split())


def lived(settings: Settings) -> tuple[list[DayFigures], Life]:
    goods = Assortment(5, 3)
    life = Life(settings, TopicVectors(), None, goods, [Person(5, number, goods, Rates()) for number in range(5)])
    return life.run(3, lambda *_: None), life


def test_a_life_is_the_same_again_and_settings_change_it() -> None:
    none = settings_of(["none"])["none"]
    figures, life = lived(none)
    assert figures == lived(none)[0]
    shown = [one for one in life.log if isinstance(one, Impression)]
    assert len(shown) == sum(day.lists for day in figures)
    assert {len(one.items) for one in shown} == {IN_VIEW}
    assert sum(day.clicks for day in figures) == sum(getattr(one, "list_id", None) is not None for one in life.log) - (
        len(shown) + sum(day.purchases for day in figures)
    )
    careful = settings_of(["careful"])["careful"]
    spread, _ = lived(careful.model_copy(update={"ranker": careful.ranker.model_copy(update={"model": "none"})}))
    assert spread[0].diversity > figures[0].diversity


def test_rankers_are_settings(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("[ranker]\nlist_size = 7\n", encoding="utf-8")
    (tmp_path / "my-model").mkdir()
    found = settings_of(["greedy", "careful", str(tmp_path / "shop.toml"), str(tmp_path / "my-model")])
    assert list(found) == ["greedy", "careful", "shop", "my-model"]
    assert found["greedy"].ranker.explore == 0 < found["careful"].ranker.explore
    assert Path(str(found["careful"].rules)).is_file()
    assert found["shop"].ranker.list_size == 7
    assert found["my-model"].ranker.model == str(tmp_path / "my-model")


@pytest.mark.parametrize(
    ("rankers", "error"),
    [
        (["carefull"], "--ranker: got 'carefull', expected greedy, careful"),
        (["greedy", "greedy"], "got two of the name 'greedy'"),
        (["away.toml"], "got away.toml, expected a TOML file"),
    ],
)
def test_what_is_no_ranker_is_named(rankers: list[str], error: str) -> None:
    with pytest.raises((InputError, SettingsError), match=error):
        settings_of(rankers)


def test_a_plot_of_another_kind_is_refused_before_the_work() -> None:
    with pytest.raises(InputError, match=r"--plot: got month.pdf, expected a file that ends in .png or .svg"):
        run(Simulation(1, 1, 1, ["none"], plot=Path("month.pdf")), to_json=True)


def test_everything_is_whole_in_80_columns() -> None:
    out = io.StringIO()
    show(*tables(FACTS, FIGURES), console=Console(file=out, width=80, highlight=False))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("30 days of 1,000 generated users, seed 7", "420", "36,585", "1,205 / 1,205", "420 / 710", "0.65"):
        assert part in text


def test_days_without_anybody_are_no_figures() -> None:
    days = {"greedy": [FIGURES["greedy"][0], EMPTY]}
    assert as_json(FACTS, days)["rankers"]["greedy"]["by_day"][1]["score"] is None
    assert as_json(FACTS, days)["rankers"]["greedy"]["score"] == 0.65
    assert bars([1.0, nan, 2.0], 2.0) == "▄ █"
    assert len(bars([1.0] * 365, 1.0)) == 40


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.draw(1_000, FIGURES, tmp_path / "in" / "month.png")
    assert (tmp_path / "in" / "month.png").read_bytes().startswith(b"\x89PNG")
