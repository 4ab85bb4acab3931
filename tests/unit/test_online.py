"""The head that learns: its slopes against torch's, what it learns from whom, and when it is rolled back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ranker.features import NAMES
from ranker.fusion.fused import FusedScorer
from ranker.fusion.head import FusionHead, describe
from ranker.fusion.online import MIN_CHOICES, TRAINED_ARRAYS, OnlineHead, gradient
from ranker.load import load_scorer
from ranker.score import ListFeedback, ScoreRequest
from tests import models
from tests.unit.test_fusion import head, rows

SHOWN = 10
CONTEXT = "Viewed Wool hat today"
TEXTS = ["Blue shoes size 42", "Umbrella", "Red tent for two", "Coffee maker", "Wool hat"]


@pytest.mark.parametrize("seed", range(3))
def test_its_slopes_are_torchs(seed: int) -> None:
    one = head(seed)
    x = one.inputs(np.random.default_rng(seed).normal(size=SHOWN).astype(np.float32), rows(seed, SHOWN))
    weights = {name: torch.tensor(getattr(one, name), requires_grad=True) for name in TRAINED_ARRAYS}
    hidden = torch.tanh(torch.tensor(x) @ weights["hidden"] + weights["bias"])
    scores = torch.tensor(x) @ weights["linear"] + hidden @ weights["out"]
    loss: Any = torch.nn.functional.cross_entropy(scores, torch.tensor(3))
    loss.backward()
    error = torch.softmax(scores, 0).detach().numpy()
    error[3] -= 1
    for name, slope in gradient(one, x, error).items():
        expected: Any = weights[name].grad
        assert slope == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-4)


def neutral() -> FusionHead:
    """A head that has learnt little: a hundredth of some head's weights."""
    one = head(5)
    return replace(one, linear=one.linear * np.float32(0.01), out=one.out * np.float32(0.01))


def feedback(online: OnlineHead, taste: FusionHead, count: int, random: np.random.Generator) -> None:
    """Users look at the lists that it makes, from the top, and choose by their own taste."""
    for _ in range(count):
        scores, features = random.normal(size=SHOWN).astype(np.float32), _rows(random)
        order = np.argsort(-online(scores, features), kind="stable")
        scores, features = scores[order], features[order]
        wish = taste(scores, features) - np.log(np.log2(np.arange(2, SHOWN + 2)))
        probability = np.exp(wish - wish.max())
        online.learn(scores, features, int(random.choice(SHOWN, p=probability / probability.sum())))


def _rows(random: np.random.Generator) -> NDArray[np.float16]:
    return random.normal(scale=3, size=(SHOWN, len(NAMES))).astype(np.float16)


def opposite(one: FusionHead) -> FusionHead:
    return replace(one, linear=-one.linear, out=-one.out)


def test_it_learns_what_people_want() -> None:
    online, random = OnlineHead(neutral()), np.random.default_rng(1)
    feedback(online, head(9), 1_500, random)
    learning = online.learning
    assert learning.feedback == 1_500
    assert learning.rolled_back == 0
    assert learning.live_loss < 0.8 * learning.frozen_loss


def test_what_it_learnt_is_taken_back_where_it_harms() -> None:
    """Each user wants the opposite of the users before: what the head learnt is always wrong for the next one."""
    online, random = OnlineHead(neutral()), np.random.default_rng(2)
    tastes = head(9), opposite(head(9))
    for number in range(MIN_CHOICES // 2):
        feedback(online, tastes[number % 2], 20, random)
    assert online.learning.rolled_back >= 1
    assert online.learning.live_loss < 1.1 * online.learning.frozen_loss


def test_who_chooses_the_first_place_whatever_it_is_teaches_nothing() -> None:
    online, random = OnlineHead(neutral()), np.random.default_rng(3)
    scores, features = random.normal(size=SHOWN).astype(np.float32), _rows(random)
    trained = online.frozen(scores, features)
    looks = 1 / np.log2(np.arange(2, SHOWN + 2))
    for _ in range(600):
        some, of_some = random.normal(size=SHOWN).astype(np.float32), _rows(random)
        order = np.argsort(-online(some, of_some), kind="stable")
        online.learn(some[order], of_some[order], int(random.choice(SHOWN, p=looks / looks.sum())))
    assert np.std(online(scores, features)) < 1.5 * np.std(trained)


def folder(at: Path, base: Path) -> Path:
    at.mkdir()
    neutral().save(at)
    (at / "afterclick.json").write_text(json.dumps({"base": str(base), "fusion": describe(NAMES)}), encoding="utf-8")
    return at


def learnt(scorer: FusedScorer) -> int | None:
    return scorer.learning.feedback if scorer.learning else None


def served(tmp_path: Path) -> FusedScorer:
    scorer: Any = load_scorer(str(folder(tmp_path / "fused", models.encoder(tmp_path / "base"))), "cpu", "float32")
    assert isinstance(scorer, FusedScorer)
    return scorer


def test_a_scorer_learns_from_the_answers_to_its_lists(tmp_path: Path) -> None:
    scorer, features = served(tmp_path), rows(1, len(TEXTS))
    request = ScoreRequest(CONTEXT, TEXTS, "ann", features, "list-1")
    assert learnt(scorer) is None
    [before] = scorer.score([request])
    scorer.learn([ListFeedback("list-1", [0, 1, 2], 2)])
    assert (scorer.score([request])[0] == before).all(), "it was not told to learn"
    scorer.start_learning()
    scorer.score([request])
    for _ in range(50):
        scorer.learn([ListFeedback("list-1", [0, 1, 2], 2), ListFeedback("unknown", [0, 1], 1)])
    assert learnt(scorer) == 50
    [after] = scorer.score([request])
    assert after[2] - after[0] > before[2] - before[0]


@pytest.mark.parametrize("users", [["ann"], None])
def test_what_it_keeps_of_a_user_is_forgotten(tmp_path: Path, users: list[str] | None) -> None:
    scorer, features = served(tmp_path), rows(1, len(TEXTS))
    scorer.start_learning()
    scorer.score([ScoreRequest(CONTEXT, TEXTS, name, features, f"list-of-{name}") for name in ("ann", "bob")])
    scorer.forget(users)
    scorer.learn([ListFeedback("list-of-ann", [0, 1], 1), ListFeedback("list-of-bob", [0, 1], 1)])
    assert learnt(scorer) == (1 if users else 0)
