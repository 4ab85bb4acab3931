"""The fusion head against plain numbers, what of a folder is refused, and the scorer around a base."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from encoders.models.source import ModelUnsupported
from ranker.features import NAMES, NEWNESS, OF_THE_USER
from ranker.fusion.head import FILE, MAX_DEVIATION, FusionHead, describe
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.train.head_fit import HeadSettings, fit_head
from ranker.train.losses import softmax
from ranker.train.query_groups import ScoredGroups
from tests import models
from tests.unit.test_compress import made

INPUTS = 1 + len(NAMES)
CONTEXT = "Viewed Wool hat today"
TEXTS = ["Blue shoes size 42", "Umbrella", "Red tent for two", "Coffee maker", "Wool hat"]


def head(seed: int, hidden: int = 5) -> FusionHead:
    rng = np.random.default_rng(seed)
    drawn = [rng.normal(size=size).astype(np.float32) for size in (INPUTS, INPUTS, INPUTS, (INPUTS, hidden), hidden)]
    return FusionHead(drawn[0], np.abs(drawn[1]) + np.float32(0.2), drawn[2], drawn[3], drawn[4], drawn[4][::-1].copy())


def rows(seed: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
    return np.random.default_rng(seed).normal(scale=3, size=(count, len(NAMES))).astype(np.float16)


def folder(at: Path, base: str, seed: int = 1) -> Path:
    at.mkdir(exist_ok=True)
    head(seed).save(at)
    (at / "afterclick.json").write_text(json.dumps({"base": base, "fusion": describe(NAMES)}), encoding="utf-8")
    return at


@pytest.mark.parametrize("seed", range(5))
def test_the_head_equals_plain_numbers(seed: int) -> None:
    one, scores, features = head(seed), np.random.default_rng(seed).normal(size=4).astype(np.float32), rows(seed, 4)
    for index, fused in enumerate(one(scores, features)):
        inputs = [float(scores[index]), *map(float, features[index])]
        x = [
            max(-MAX_DEVIATION, min(MAX_DEVIATION, (value - float(mean)) / float(scale)))
            for value, mean, scale in zip(inputs, one.mean, one.scale, strict=True)
        ]
        plain = sum(value * float(weight) for value, weight in zip(x, one.linear, strict=True))
        for unit in range(len(one.out)):
            inner = sum(value * float(weight) for value, weight in zip(x, one.hidden[:, unit], strict=True))
            plain += math.tanh(inner + float(one.bias[unit])) * float(one.out[unit])
        assert fused == pytest.approx(plain, rel=1e-4, abs=1e-4)


def test_a_folder_with_a_head_is_served(tmp_path: Path) -> None:
    base = models.encoder(tmp_path / "base")
    plain = load_scorer(str(base), "cpu", "float32")
    fused = load_scorer(str(folder(tmp_path / "fused", str(base))), "cpu", "float32")
    assert fused.feature_set == (NAMES, "")
    assert plain.feature_set is None
    features = rows(3, len(TEXTS))
    [read], [alone] = (
        fused.score([ScoreRequest(CONTEXT, TEXTS, features=features)]),
        plain.score([ScoreRequest(CONTEXT, TEXTS)]),
    )
    np.testing.assert_allclose(read, head(1)(alone, features), rtol=1e-5, atol=1e-5)
    [without] = fused.score([ScoreRequest(CONTEXT, TEXTS)])
    np.testing.assert_allclose(without, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("base", ["encoder", "none"])
def test_a_score_depends_on_user_and_candidate_alone(tmp_path: Path, base: str) -> None:
    named = base if base == "none" else str(models.encoder(tmp_path / "base"))
    scorer = load_scorer(str(folder(tmp_path / "fused", named)), "cpu", "float32")
    features = rows(4, len(TEXTS))
    [whole] = scorer.score([ScoreRequest(CONTEXT, TEXTS, features=features)])
    order = [3, 0, 4]
    some = ScoreRequest(CONTEXT, [TEXTS[index] for index in order], features=features[order])
    _, found, empty = scorer.score(
        [ScoreRequest("", TEXTS, features=rows(5, 5)), some, ScoreRequest("", [], features=rows(0, 0))]
    )
    np.testing.assert_allclose(found, whole[order], rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32
    assert empty.shape == (0,)
    assert np.ptp(whole) > 0.1


def test_a_head_of_other_features_is_refused(tmp_path: Path) -> None:
    made = folder(tmp_path / "fused", "none")
    described = describe(NAMES) | {"features": list(NAMES[::-1])}
    (made / "afterclick.json").write_text(json.dumps({"base": "none", "fusion": described}), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match="train the model again"):
        load_scorer(str(made))


@pytest.mark.parametrize("damage", ["missing", "cut", "narrow"])
def test_a_damaged_head_is_refused(tmp_path: Path, damage: str) -> None:
    made = folder(tmp_path / "fused", "none")
    if damage == "missing":
        (made / FILE).unlink()
    elif damage == "cut":
        (made / FILE).write_bytes((made / FILE).read_bytes()[:100])
    else:
        whole = head(1)
        FusionHead(whole.mean, whole.scale, whole.linear[1:], whole.hidden, whole.bias, whole.out).save(made)
    with pytest.raises(ModelUnsupported, match="fusion"):
        load_scorer(str(made))


def test_what_never_varied_in_training_counts_for_nothing() -> None:
    """A shop without categories teaches nothing about them, and is no reason for noise where there are some."""
    rng = np.random.default_rng(4)
    groups = made(["Viewed Wool hat"] * 40, ["Wool hat", "Umbrella"] * 20, rng)
    groups.features[:] = rng.normal(size=groups.features.shape)
    groups.features[:, :, 14] = 0
    groups.labels[:, 3] = True
    scores = rng.normal(size=groups.candidates.shape).astype(np.float32)
    fitted, _ = fit_head(ScoredGroups(groups, scores), None, HeadSettings(softmax, 1, epochs=3), lambda *_: None)
    other = groups.features[0].copy()
    other[:, 14] = 7
    np.testing.assert_array_equal(fitted(scores[0], other), fitted(scores[0], groups.features[0]))


def test_dropout_leaves_out_all_but_what_says_how_much_the_others_are_worth() -> None:
    rng = np.random.default_rng(4)
    groups = made(["Viewed Wool hat"] * 40, ["Wool hat", "Umbrella"] * 20, rng)
    groups.features[:] = rng.normal(size=groups.features.shape)
    groups.labels[:, 3] = True
    settings = HeadSettings(softmax, 1, epochs=2, dropout=1.0, members=3, hidden=5)
    fitted, _ = fit_head(ScoredGroups.unscored(groups), None, settings, lambda *_: None)
    assert {NAMES[index - 1] for index in np.flatnonzero(fitted.linear)} == set(OF_THE_USER)
    assert fitted.hidden.shape == (1 + len(NAMES), 15)


def test_a_head_is_the_mean_of_heads_that_learn_by_themselves() -> None:
    rng = np.random.default_rng(4)
    groups = made(["Viewed Wool hat"] * 40, ["Wool hat", "Umbrella"] * 20, rng)
    groups.features[:] = rng.normal(size=groups.features.shape)
    groups.labels[:, 3] = True
    scored = ScoredGroups.unscored(groups)
    settings = HeadSettings(softmax, 1, epochs=3, members=2, hidden=4)
    starts = torch.randn(1 + len(NAMES), 8, generator=torch.Generator().manual_seed(1))
    alone = []
    for start in (starts[:, :4], starts[:, 4:]):
        with patch.object(torch, "randn", return_value=start):
            alone.append(fit_head(scored, None, replace(settings, members=1), lambda *_: None)[0])
    both, _ = fit_head(scored, None, settings, lambda *_: None)
    x = groups.features[0]
    expected = np.mean([one(scored.scores[0], x) for one in alone], axis=0)
    np.testing.assert_allclose(both(scored.scores[0], x), expected, atol=1e-4)
    assert np.abs(alone[0](scored.scores[0], x) - expected).max() > 1e-3, "they differ"


def test_a_head_does_not_learn_from_newness() -> None:
    rng = np.random.default_rng(4)
    groups = made(["Viewed Wool hat"] * 40, ["Wool hat", "Umbrella"] * 20, rng)
    groups.features[:] = rng.normal(size=groups.features.shape)
    newness = NAMES.index(NEWNESS)
    groups.labels[:] = groups.features[:, :, newness] > 1
    groups.labels[:, 3] = True
    fitted, _ = fit_head(ScoredGroups.unscored(groups), None, HeadSettings(softmax, 1, epochs=3), lambda *_: None)
    none, whole = groups.features[0].copy(), groups.features[0].copy()
    none[:, newness], whole[:, newness] = 0, 1
    scores = np.zeros(len(none), np.float32)
    np.testing.assert_array_equal(fitted(scores, none), fitted(scores, whole))
    lifted = fitted.lifted(newness, 2.0)
    np.testing.assert_array_equal(lifted(scores, none), fitted(scores, none))
    np.testing.assert_allclose(lifted(scores, whole) - lifted(scores, none), 2.0, rtol=1e-5)
