"""Distillation from end to end: a student's loss falls, and it takes over its teacher's order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranker.load import load_scorer
from ranker.train import model_fit, student
from ranker.train.checkpoint import Checkpoint
from ranker.train.distillation import distillation_targets
from ranker.train.fit import train_validation_split
from ranker.train.losses import distillation
from ranker.train.query_groups import ScoredGroups
from streams.commands import compression_report
from streams.commands.compression import Compression
from streams.settings import Settings
from tests import models
from tests.unit.test_compress import compressed, made
from tests.unit.test_train import GROUPS, settings_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(models.encoder(tmp_path / "encoder"))


def test_a_decoder_teaches_a_packed_encoder(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model_fit.LEARNING_RATE, "distillation", 3e-3)  # a tiny model's
    monkeypatch.setattr(model_fit, "VALIDATIONS", 2)
    monkeypatch.setattr(compression_report, "TIMED_ROUNDS", 2)
    teacher, begin = models.decoder(tmp_path / "teacher"), models.encoder(tmp_path / "begin")
    out = tmp_path / "out"
    how = Compression(model=str(teacher), out=out, way="distil", student=str(begin), epochs=2, max_query_groups=100)
    report = compressed(capsys, settings, how)
    assert report["kind"] == "PackedEncoder"
    assert report["before"]["lists_per_s"] > 0
    curve = json.loads((out / "afterclick.json").read_text(encoding="utf-8"))["trained"]["model_curve"]
    assert curve[-1][0] < 0.95 * curve[0][0]  # the divergence from a teacher with random weights


def test_a_student_learns_its_teachers_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher prefers items of the kind that was viewed last, then hats."""
    monkeypatch.setattr(model_fit, "VALIDATIONS", 1)
    rng = np.random.default_rng(2)
    kinds = [GROUPS[number % len(GROUPS)] for number in range(60)]
    groups = made([f"Viewed {GROUPS[kind]}" for kind in rng.integers(len(GROUPS), size=240)], kinds, rng)
    scores = np.array(
        [[3.0 * (kinds[item] in context) + (kinds[item] == "Wool hat") for item in row]
         for context, row in zip(groups.contexts, groups.candidates, strict=True)], np.float32
    )  # fmt: skip
    student.start(str(models.encoder(tmp_path / "begin")), "packed", tmp_path / "student", 1)
    scorer: Any = load_scorer(str(tmp_path / "student"), "cpu", "float32")
    targets = distillation_targets(ScoredGroups(groups, scores))
    older, newer = (targets[indices] for indices in train_validation_split(len(targets)))
    monkeypatch.setitem(model_fit.LEARNING_RATE, "distillation", 3e-3)  # a tiny model's
    how = model_fit.TuningSettings(distillation, epochs=6, deadline=float("inf"), seed=1)
    data = model_fit.TuningData(older.groups, newer.groups, older.scores)
    curve = model_fit.fine_tune(scorer, data, how, Checkpoint(tmp_path / "checkpoint"), lambda *_: None)
    assert max(point.ndcg for point in curve) > 0.7, curve  # .5 at random
