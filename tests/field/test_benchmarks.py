"""Every benchmark of `afterclick bench` in its smallest form, on a real Kafka and a real Redis."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from streams.bench import (
    candidates,
    command,
    costs,
    growth,
    http,
    knowledge,
    learnt,
    log_growth,
    packed,
    pipeline,
    profiles,
    random_models,
    rerank,
    returning,
    rules,
    scorer,
    start,
    state,
    worker_client,
)
from streams.bench.random_models import ListSize
from streams.bench.servers import Servers
from streams.settings import Settings
from streams.sizing.costs import DEFAULTS
from tests import models

LOG_EVENTS = 2_000
LEAST_ITEMS = 600
"""The smallest catalogue that the generated shop can have."""
GRAPH_ITEMS = 9_000
"""Enough items for a catalogue with a graph."""
SMALL: dict[ModuleType, dict[str, object]] = {
    candidates: {"ROUNDS": 1, "SEARCHES": 10, "EXACT_SEARCHES": 1},
    growth: {"EVENTS": 5, "SEARCHES": 8, "EXACT_SEARCHES": 1},
    log_growth: {"LISTS": 20},
    knowledge: {
        "ITEMS": 1_000,
        "ENTITIES": 2_000,
        "TRIPLES": 10_000,
        "ROUNDS": 1,
        "REQUESTS": 5,
        "ADDED": 100,
        "_SMALL": 1_000,
    },
    learnt: {"ITEMS": 1_000, "ROUNDS": 1, "REQUESTS": 5},
    rerank: {"ITEMS": LEAST_ITEMS, "USERS": 10, "EVENTS": 5, "CANDIDATES": 20, "ROUNDS": 1, "CALLS": 5},
    rules: {"ITEMS": 1_000, "REQUESTS": 5, "ROUNDS": 1},
    http: {"ROUNDS": 1, "USERS": 10, "RATE_PER_S": 50.0, "SECONDS": 0.5, "WARM_UP_S": 0.1},
    packed: {
        "ROUNDS": 1,
        "FULL_PROMPT_ROUNDS": 1,
        "ENCODER_LISTS": 1,
        "SIZE": ListSize(context=60, candidates=12, length=8),
        "CLICK": ListSize(context=60, candidates=12, length=8),
        "ENCODER_MATMUL": 32,
        "DECODER_MATMUL": 32,
    },
    pipeline: {
        "ROUNDS": 1,
        "ITEMS": LEAST_ITEMS,
        "RATE_S": 3.0,
        "ECHO_S": 1.0,
        "HISTORY": 2,
        "BI_ENCODER": pipeline.ModelLoad(5, 4.0, True),
        "PACKED": pipeline.ModelLoad(100, 1.0, False),
        "WARM_UP_S": 0.1,
    },
    returning: {"ROUNDS": 1, "ITEMS": LEAST_ITEMS, "USERS": 40, "HISTORY": 3, "CLICKS_EACH": 1, "ECHO_S": 1.0},
    profiles: {
        "SEEDS": (1,),
        "LISTS": 3,
        "WORLDS": {world: partial(steps_of, people=2) for world, steps_of in profiles.WORLDS.items()},
    },
    random_models: {"QWEN3_0_6B": models.GROUPED, "SMOLLM_135M": models.GROUPED},
    scorer: {
        "ROUNDS": 1,
        "ITEMS": LEAST_ITEMS,
        "CANDIDATES": 20,
        "HISTORY": 5,
        "MATMUL_SIZE": 32,
        "PATTERNS": (scorer.CallPattern(1, 1, warm=False), scorer.CallPattern(2, 1, warm=True)),
    },
    start: {"ROUNDS": 1, "WORKERS": 1},
    state: {"ROUNDS": 1, "USERS": 5, "EVENTS_EACH": 2},
    worker_client: {"ITEMS": LEAST_ITEMS},
}
"""Constants of the modules that make their benchmarks quick.

The pipeline has more users than clicks: on a busy machine a user's newer list may replace one that is not out yet.
"""


@pytest.fixture
def small(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all benchmarks and their models small, and let them use the servers of the tests."""
    model = str(models.encoder(tmp_path / "encoder"))
    monkeypatch.setattr(random_models, "MINILM", model)
    monkeypatch.setenv("AFTERCLICK_ENCODER__MODEL", model)
    monkeypatch.setenv("AFTERCLICK_RANKER__MODEL", model)
    for module, constants in SMALL.items():
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS", settings.kafka.bootstrap_servers)
    monkeypatch.setenv("AFTERCLICK_REDIS__URL", settings.redis.url.get_secret_value())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", command.BENCHES)
def test_a_benchmark_runs_and_reports_its_figures(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = GRAPH_ITEMS if name == "candidates" else growth.SMALLEST
    command.run(name, True, command.Sizes(items, growth.SMALLEST, LOG_EVENTS, tmp_path))
    measured = json.loads(capsys.readouterr().out)["benchmarks"][name]
    assert measured
    assert all(row["figure"] > 0 or row["unit"] == "modules" for row in measured)


def test_the_costs_of_a_plan_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USERS": 1_000, "CATALOGUE": 1_000, "CALLS": 1}.items():
        monkeypatch.setattr(costs, name, value)
    done: list[int] = []
    measured = costs.measure(Settings(), lambda _: lambda count, _total: done.append(count))
    assert done == [1, 2, 3]
    assert measured.machine != DEFAULTS.machine
    assert 0 < measured.event_core_ms < 50
    assert 0 < measured.score_core_ms(100) < 200
    assert 500 < measured.item_bytes < 100_000
    assert 3_000 < measured.record_bytes <= 4_096


@pytest.mark.usefixtures("small")
def test_the_faust_agent_that_the_state_tier_is_compared_with_keeps_every_event(settings: Settings) -> None:
    """The peer of `afterclick bench state`: its states in the changelog have all the clicks."""
    servers = Servers(settings, "the tests' Kafka", embedded=False, persistent=True)
    with worker_client.worker_client(servers, "none") as client, state.per_event_agent(client.settings):
        assert state.events_per_s(client) > 0
