"""A slow model within a time limit, on a clock that only the model's work advances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from encoders.models.usage import Usage
from ranker import processes
from ranker.score import ScoreRequest
from ranker.train import model_fit, pace, schedule, scoring
from ranker.train.checkpoint import Checkpoint
from ranker.train.losses import softmax
from ranker.train.model_fit import TuningData, TuningSettings, fine_tune
from ranker.train.pace import seconds_per_group, tuning_end
from ranker.train.query_groups import QueryGroups
from tests.unit.test_compress import made

GROUPS = 600


class SlowScorer:
    """Likes one word by a weight that it learns. Each pass takes seconds."""

    name, feature_set, reads_events = "slow", None, False

    def __init__(self, clock: Clock, score_s: float, step_s: float) -> None:
        self.usage = Usage()
        self.placement: Any = SimpleNamespace(device="cpu", dtype="float32")
        self.model: Any = torch.nn.Linear(1, 1)
        self._clock, self._score_s, self._step_s = clock, score_s, step_s
        self.scored = self.learnt = 0

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None: ...
    def forget(self, users: Any) -> None: ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        self._clock.now += self._score_s * len(requests)
        self.scored += len(requests)
        with torch.no_grad():
            return [self._scores(request).numpy() for request in requests]

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        self._clock.now += self._step_s
        self.learnt += 1
        return self._scores(request)

    def _scores(self, request: ScoreRequest) -> torch.Tensor:
        is_hat = torch.tensor([[float("hat" in text)] for text in request.candidates])
        scores: torch.Tensor = self.model(is_hat)[:, 0]
        return scores


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        for module in (model_fit, pace, scoring, processes):
            monkeypatch.setattr(module, "time", clock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(model_fit, "PATIENCE", 1_000)
    return Clock(monkeypatch)


def groups() -> QueryGroups:
    """Hats are chosen."""
    rng = np.random.default_rng(1)
    found = made(["Viewed Wool hat"] * GROUPS, ["Wool hat", "Umbrella"] * 20, rng)
    hats = np.array(["hat" in text for text in found.texts])[found.candidates]
    np.put_along_axis(found.labels, (hats + rng.random(hats.shape)).argmax(1)[:, None], True, axis=1)
    return found


@pytest.mark.parametrize(("score_s", "step_s"), [(0.1, 0.5), (2.0, 8.0), (5.0, 40.0)])
def test_tuning_takes_the_time_that_there_is(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score_s: float, step_s: float
) -> None:
    """It holds the limit, validates what it learnt, and its learning rate has come down by the end."""
    monkeypatch.setitem(model_fit.LEARNING_RATE, "full", 0.1)
    scorer, limit_s, all_groups = SlowScorer(clock, score_s, step_s), 2_000.0, groups()
    scorer.model.weight.data.fill_(-0.1)  # it begins with the wrong order
    data = TuningData(all_groups[np.arange(500)], all_groups[np.arange(500, GROUPS)])
    deadline, checkpoint = clock.now + limit_s, Checkpoint(tmp_path)
    rates: list[float] = []

    def rate_factor(step: int, steps: int) -> float:
        rates.append(schedule.rate_factor(step, steps))
        return rates[-1]

    monkeypatch.setattr(model_fit, "rate_factor", rate_factor)
    curve = fine_tune(scorer, data, TuningSettings(softmax, 3, deadline, seed=1), checkpoint, lambda *_: None)
    assert clock.now <= deadline
    assert scorer.learnt == 3 * 500 if step_s < 1 else scorer.learnt >= 0.5 * limit_s / step_s
    assert step_s < 1 or len(curve) <= model_fit.VALIDATIONS
    assert curve[-1].ndcg > 0.4, "the best that can be"
    assert rates[-1] < 0.5 * max(rates)
    state = checkpoint.tuning()
    assert state is not None
    assert state["groups_done"] == scorer.learnt
    assert state["steps_done"] == -(-scorer.learnt // 8) if step_s < 1 else state["steps_done"] > scorer.learnt / 4


def test_what_was_tuned_goes_on_with_more_time(clock: Clock, tmp_path: Path) -> None:
    all_groups, checkpoint = groups(), Checkpoint(tmp_path)
    data = TuningData(all_groups[np.arange(500)], all_groups[np.arange(500, GROUPS)])
    done = []
    for _ in range(2):
        scorer = SlowScorer(clock, 2.0, 8.0)
        settings = TuningSettings(softmax, 1, clock.now + 1_500, seed=1)
        curve = fine_tune(scorer, data, settings, checkpoint, lambda *_: None)
        state = checkpoint.tuning()
        assert state is not None
        done.append((state["steps_done"], len(curve)))
    assert done[1][0] > done[0][0] > 0
    assert done[1][1] > done[0][1] > 0


def test_scoring_holds_the_deadline_of_a_slow_model(clock: Clock) -> None:
    scorer, all_groups = SlowScorer(clock, 10.0, 0.0), groups()
    started = clock.now
    scored = scoring.score(scorer, all_groups, started + 100, lambda *_: None)
    assert clock.now <= started + 100 + 2 * 10
    assert 8 <= len(scored) == scorer.scored
    assert seconds_per_group(scorer, all_groups) == 10.0


def test_the_fewest_lists_are_scored_whatever_it_takes() -> None:
    """A list takes 6 seconds: of 15 minutes, 100 lists need 12, and no more than four fifths are kept for them."""
    assert tuning_end(0, 900, 1_500, 6.0) == pytest.approx(900 - 1.2 * 600)
    assert tuning_end(0, 900, 1_500, 60.0) == pytest.approx(0.2 * 900)
    assert tuning_end(0, 900, 1_500, 0.01) == pytest.approx(900 - 18)
