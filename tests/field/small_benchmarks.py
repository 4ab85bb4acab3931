"""Benchmarks of `afterclick bench` in their smallest form."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from streams.bench import (
    candidates,
    command,
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
        "LISTS": 8,
        "WORLDS": {world: partial(steps_of, people=4) for world, steps_of in profiles.WORLDS.items()},
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


def make_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all benchmarks and their models small."""
    model = str(models.encoder(folder / "encoder"))
    monkeypatch.setattr(random_models, "MINILM", model)
    monkeypatch.setenv("AFTERCLICK_ENCODER__MODEL", model)
    monkeypatch.setenv("AFTERCLICK_RANKER__MODEL", model)
    for module, constants in SMALL.items():
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)


def check_figures(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a benchmark; it reports figures."""
    items = GRAPH_ITEMS if name == "candidates" else growth.SMALLEST
    command.run(name, True, command.Sizes(items, growth.SMALLEST, LOG_EVENTS, folder))
    measured = json.loads(capsys.readouterr().out)["benchmarks"][name]
    assert measured
    assert all(row["figure"] > 0 or row["unit"] == "modules" for row in measured)
