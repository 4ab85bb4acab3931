"""A cascade: the model reads what the features rank best, and nothing that it does not read comes before that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.models.source import ModelUnsupported
from ranker.features import NAMES
from ranker.fusion.fused import FusedScorer
from ranker.fusion.head import CASCADE, FIRST_STAGE, FIRST_STAGE_FILE, FusionHead, cascade, describe
from ranker.load import cascade_depth, load_scorer
from ranker.score import ListFeedback, ScoreRequest
from ranker.train.first_stage import FirstStage, first_stage
from ranker.train.fit import fit, train_validation_split
from ranker.train.head_fit import HeadSettings
from ranker.train.losses import softmax
from ranker.train.query_groups import COUNTERS, ScoredGroups
from ranker.train.student import HEADS
from tests import models
from tests.unit.test_compress import made

DEPTH, WIDTH = 4, 12
TEXTS = [f"Wool hat number {number}" for number in range(WIDTH)]


def linear(weights: dict[str, float], names: Sequence[str]) -> FusionHead:
    """A head that adds up some inputs; the first one is the model's score."""
    inputs = ["score", *names]
    zeros, weight = np.zeros(len(inputs), np.float32), np.zeros(len(inputs), np.float32)
    for name, value in weights.items():
        weight[inputs.index(name)] = value
    hidden = np.zeros((len(inputs), 1), np.float32)
    return FusionHead(zeros, np.ones(len(inputs), np.float32), weight, hidden, hidden[0], hidden[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first stage ranks by popularity, its head by the model's score, and a little by the first stage."""
    at = tmp_path_factory.mktemp("cascade")
    base = models.encoder(at / "base")
    linear({"popularity": 1.0}, NAMES).save(at, FIRST_STAGE_FILE)
    linear({"score": 1.0, FIRST_STAGE: 0.01}, (*NAMES, FIRST_STAGE)).save(at)
    described = {"base": str(base), "fusion": describe((*NAMES, FIRST_STAGE)), CASCADE: cascade(NAMES, DEPTH)}
    (at / "afterclick.json").write_text(json.dumps(described), encoding="utf-8")
    return at


def features(seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(WIDTH, len(NAMES))).astype(np.float16)


def test_the_model_reads_the_best_and_the_others_come_below(folder: Path) -> None:
    scorer, alone = load_scorer(str(folder), "cpu", "float32"), load_scorer(str(folder / "base"), "cpu", "float32")
    values = features(1)
    popularity = values[:, NAMES.index("popularity")].astype(np.float32)
    best = np.argsort(-popularity)[:DEPTH]
    request = ScoreRequest("Viewed Wool hat", TEXTS, features=values)
    scorer.usage.clear()
    [scores] = scorer.score([request])
    assert scorer.usage.candidates == DEPTH
    [read] = alone.score([replace(request, candidates=[TEXTS[index] for index in best])])
    np.testing.assert_allclose(scores[best], read + 0.01 * popularity[best].astype(np.float16), atol=1e-3)
    others = np.delete(np.arange(WIDTH), best)
    assert scores[others].max() < scores[best].min()
    np.testing.assert_array_equal(np.argsort(-scores[others]), np.argsort(-popularity[others]))
    order = np.random.default_rng(2).permutation(WIDTH)
    shuffled = replace(request, candidates=[TEXTS[index] for index in order], features=values[order])
    for of_shuffled in (scorer.score([shuffled])[0], scorer.score([request, shuffled])[1]):
        np.testing.assert_allclose(of_shuffled, scores[order], atol=1e-5)
    few = replace(request, candidates=TEXTS[:3], features=values[:3])
    assert scorer.score([few])[0].shape == (3,)
    scorer.usage.clear()
    [without] = scorer.score([replace(request, features=None)])
    assert scorer.usage.candidates == WIDTH, "a request without features has no first stage"
    np.testing.assert_allclose(without, alone.score([replace(request, features=None)])[0], atol=1e-5)


def test_it_learns_from_what_the_model_read(folder: Path) -> None:
    scorer = load_scorer(str(folder), "cpu", "float32")
    assert isinstance(scorer, FusedScorer)
    scorer.start_learning()
    request = ScoreRequest("Viewed Wool hat", TEXTS, features=features(1), list_id="a list")
    shown = np.argsort(-scorer.score([request])[0]).tolist()
    scorer.learn([ListFeedback("a list", shown, DEPTH)])
    assert scorer.learning is not None
    assert scorer.learning.feedback == 0, "the model has not read the chosen one"
    scorer.learn([ListFeedback("a list", shown, 1)])
    assert scorer.learning.feedback == 1


@pytest.mark.parametrize("damage", ["no file", "depth", "features"])
def test_a_damaged_first_stage_is_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    described = json.loads((folder / "afterclick.json").read_text(encoding="utf-8")) | {"base": "none"}
    for file in HEADS:
        if damage != "no file" or file != FIRST_STAGE_FILE:
            (tmp_path / file).write_bytes((folder / file).read_bytes())
    if damage == "depth":
        described[CASCADE]["depth"] = 0
    elif damage == "features":
        described[CASCADE] = cascade(NAMES[::-1], DEPTH)
    (tmp_path / "afterclick.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match=r"train the model again|got no fusion head"):
        load_scorer(str(tmp_path))


def test_the_head_begins_with_the_first_stages_order(tmp_path: Path) -> None:
    """With few groups, a model that says nothing leaves the features' order, and one that knows improves it."""
    rng = np.random.default_rng(3)
    groups = made(["Viewed Wool hat"] * 300, ["Wool hat", "Umbrella"] * 20, rng, width=WIDTH)
    groups.features[:] = rng.normal(size=groups.features.shape)
    groups.features[:, :, [NAMES.index(name) for name in COUNTERS]] = 0
    liking = groups.features[:, :, -1].astype(np.float32) + rng.normal(scale=0.7, size=groups.labels.shape)
    np.put_along_axis(groups.labels, liking.argmax(1)[:, None], True, axis=1)
    settings = HeadSettings(softmax, 1, epochs=20)
    first = first_stage(groups, DEPTH, settings, tmp_path, lambda _: lambda *_: None)
    assert first is not None
    assert FirstStage.load(tmp_path, DEPTH) is not None
    narrowed = first.narrowed(groups)
    assert narrowed.candidates.shape == (300, DEPTH)
    assert narrowed.feature_names == (*NAMES, FIRST_STAGE)
    chosen_kept = narrowed.labels.any(1).mean()
    assert chosen_kept > 0.75 > 2 * DEPTH / WIDTH
    some = narrowed[np.arange(240, 300)]
    noise = fit(ScoredGroups(some, np.zeros_like(some.retrieval_scores)), settings, lambda *_: None, first)
    assert noise.ndcg >= noise.parts["features alone"]
    knowing = fit(ScoredGroups(some, some.labels.astype(np.float32)), settings, lambda *_: None, first)
    _, newer = train_validation_split(len(some))
    best = some[newer].ndcg(some[newer].labels.astype(np.float32)).mean()
    assert knowing.ndcg > max(0.9 * best, noise.ndcg + (best - noise.ndcg) / 4)
    assert knowing.first is first


def test_a_depth_of_0_is_no_cascade(folder: Path, tmp_path: Path) -> None:
    groups = made(["Viewed Wool hat"] * 4, ["Wool hat"] * 20, np.random.default_rng(1))
    assert first_stage(groups, 0, HeadSettings(softmax, 1), tmp_path, lambda _: lambda *_: None) is None
    assert cascade_depth(str(folder)) == DEPTH
    assert cascade_depth(str(folder / "base")) == 0
