"""A simulated month on seeds that no number of the world was chosen on: what care brings, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import msgspec
import pytest

from streams.commands import policy_evaluation
from streams.commands.evaluate import Evaluation
from streams.commands.recorded_events import event_log
from streams.commands.simulation.month import LoadedModels, Simulation, lives
from streams.commands.simulation.rankers import settings_of
from streams.contracts import Impression, Purchase
from streams.datasets.month.assortment import Assortment
from streams.datasets.month.person import Person
from streams.datasets.month.rates import Rates
from streams.offline.item_vectors import ItemVectors
from streams.offline.life import DayFigures, Life
from streams.settings import Settings

pytestmark = pytest.mark.field

CANDIDATES = 40
"""Of a request, in place of 100: the lists take half the time."""
SEED = 7
Month = Mapping[str, Sequence[DayFigures]]
PEOPLE, DAYS = 140, 3
"""Of the log for the off-policy estimate."""


@pytest.fixture(scope="module")
def rankers() -> Mapping[str, Settings]:
    return {
        name: one.model_copy(update={"candidates": one.candidates.model_copy(update={"limit": CANDIDATES})})
        for name, one in settings_of(["greedy", "careful"]).items()
    }


@pytest.fixture(scope="module")
def models() -> LoadedModels:
    return LoadedModels()


def month(
    rankers: Mapping[str, Settings], models: LoadedModels, users: int, days: int, boredom: bool = True, seed: int = SEED
) -> Month:
    return lives(Simulation(days, users, seed, [*rankers], boredom), rankers, models)


def clicks(days: Sequence[DayFigures]) -> int:
    return sum(day.clicks for day in days)


def test_care_keeps_more_of_the_users_whom_repetition_bores(
    rankers: Mapping[str, Settings], models: LoadedModels
) -> None:
    lived = month(rankers, models, users=20, days=30)
    greedy, careful = lived["greedy"], lived["careful"]
    assert careful[-1].people >= 1.1 * greedy[-1].people
    assert clicks(careful) >= 1.1 * clicks(greedy)
    assert fmean(day.diversity for day in careful[:3]) > fmean(day.diversity for day in greedy[:3])


@pytest.mark.parametrize("boredom", [True, False])
def test_care_costs_hardly_a_click_on_the_first_day(
    rankers: Mapping[str, Settings], models: LoadedModels, boredom: bool
) -> None:
    """In six worlds together: in one of them chance alone makes a fifth."""
    lived = [month(rankers, models, users=80, days=1, boredom=boredom, seed=seed) for seed in range(SEED, SEED + 6)]
    assert sum(clicks(one["careful"]) for one in lived) >= 0.95 * sum(clicks(one["greedy"]) for one in lived)


def test_care_loses_nothing_where_nothing_bores(rankers: Mapping[str, Settings], models: LoadedModels) -> None:
    lived = month(rankers, models, users=12, days=10, boredom=False)
    assert lived["careful"][-1].people >= 0.95 * lived["greedy"][-1].people
    assert clicks(lived["careful"]) >= 0.95 * clicks(lived["greedy"])


def log_of_exploring(settings: Settings, models: LoadedModels, seed: int, folder: Path) -> dict[str, list[Path]]:
    """The files of three days' log of the greedy ranker that explores half of its places."""
    ranker = settings.ranker.model_copy(update={"explore": 0.5, "explore_max_loss": 0.99, "learn": False})
    exploring = settings.model_copy(update={"ranker": ranker})
    goods = Assortment(seed, DAYS)
    people = [Person(seed, number, goods, Rates()) for number in range(PEOPLE)]
    life = Life(exploring, ItemVectors(models.encoder(exploring), goods.items), models.scorer(exploring), goods, people)
    life.run(DAYS, lambda *_: None)
    by_topic: dict[str, Sequence[msgspec.Struct]] = {
        "items": goods.items,
        "impressions": [one for one in life.log if isinstance(one, Impression)],
        "purchases": [one for one in life.log if isinstance(one, Purchase)],
    }
    by_topic["clicks"] = [one for one in life.log if not isinstance(one, (Impression, Purchase))]
    files = {}
    for topic, messages in by_topic.items():
        files[topic] = [folder / f"{topic}.jsonl"]
        files[topic][0].write_bytes(b"\n".join(map(msgspec.json.encode, messages)))
    return files


def test_the_log_of_three_days_tells_which_is_better_and_how_far_it_can_tell(
    rankers: Mapping[str, Settings],
    models: LoadedModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = log_of_exploring(rankers["greedy"], models, SEED, tmp_path)
    log = event_log(files, (None, None, None, False), None, rankers["greedy"])
    monkeypatch.setattr(policy_evaluation, "TextEncoder", lambda *_: models.encoder(rankers["greedy"]))
    monkeypatch.setattr(policy_evaluation, "load_scorer", lambda *_, **__: models.scorer(rankers["greedy"]))
    found = {}
    for name, settings in rankers.items():
        evaluation = Evaluation("", policy=True, systems=("afterclick",), cut="0.01")
        policy_evaluation.run(log, settings, evaluation, to_json=True)
        found[name] = json.loads(capsys.readouterr().out)["systems"]["afterclick"]
    greedy, careful = found["greedy"], found["careful"]
    assert careful["dr"][0] > greedy["dr"][0]
    assert greedy["refusal"] == ""
    assert "expected at least 50%" in careful["refusal"], "most of its lists were never shown: the table says so"
