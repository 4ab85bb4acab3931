"""One suite over every scorer: tiny random models in float32, against plain transformers pair by pair."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.text import fit
from ranker.load import load_scorer
from ranker.score import Scorer, ScoreRequest
from tests import models, references
from tests.references import CANDIDATES, CONTEXT, TOLERANCE, Reference, close

TEXTS = st.lists(st.text("abcdefghij é\n雪🙂", max_size=30), max_size=4)


@dataclass
class ScorerCase:
    scorer: Scorer
    reference: Reference
    long_context_events: int


TUNED = ["cross-encoder", "cross-encoder-2", "packed-encoder", "packed-decoder"]
tuned = pytest.mark.parametrize("case", TUNED, indirect=True, scope="module")
"""For tests of what training asks of a scorer, and of contexts: a bi-encoder is not tuned, and reads single events."""


@pytest.fixture(scope="module", params=["bi-encoder", *TUNED])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ScorerCase:
    folder = tmp_path_factory.mktemp("model")
    make: dict[str, tuple[Callable[[], Path], Callable[[Path], Reference], int]] = {
        "bi-encoder": (lambda: models.encoder(folder), references.bi_encoder, 80),
        "cross-encoder": (lambda: models.classifier(folder), references.cross_encoder, 40),
        "cross-encoder-2": (lambda: models.classifier(folder, labels=2), references.cross_encoder, 40),
        "packed-encoder": (lambda: models.packed(folder), references.packed_encoder, 40),
        "packed-decoder": (lambda: models.decoder(folder), references.decoder, 200),
    }
    build, reference, events = make[request.param]
    build()
    return ScorerCase(load_scorer(str(folder), device="cpu", dtype="float32"), reference(folder), events)


def test_shape_dtype_and_finite(case: ScorerCase) -> None:
    scores = case.scorer.score([ScoreRequest(CONTEXT, CANDIDATES), ScoreRequest("", CANDIDATES[:1])])
    assert [score.shape for score in scores] == [(4,), (1,)]
    assert all(score.dtype == np.float32 and np.isfinite(score).all() for score in scores)
    assert np.ptp(scores[0]) > 100 * TOLERANCE, "the scores are too alike for these tests to fail"
    assert case.scorer.placement.dtype == "float32"


@torch.inference_mode()
def test_equals_plain_pairs(case: ScorerCase) -> None:
    [scores] = case.scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    close(scores, [case.reference(CONTEXT, candidate) for candidate in CANDIDATES])


@tuned
def test_training_sees_the_scores_that_are_served(case: ScorerCase) -> None:
    scorer: Any = case.scorer
    request = ScoreRequest(CONTEXT, CANDIDATES)
    scorer.model.requires_grad_(True)
    try:
        trained = scorer.differentiable(request)
        [slope] = torch.autograd.grad(trained[0] - trained[1], [next(scorer.model.parameters())])
        [served] = scorer.score([request])
    finally:
        scorer.model.requires_grad_(False)
    close(trained.detach().numpy(), served)
    assert slope.abs().max() > 0


@tuned
def test_what_is_kept_goes_when_the_weights_change(case: ScorerCase) -> None:
    scorer: Any = case.scorer
    request = ScoreRequest(CONTEXT, CANDIDATES)
    [before] = scorer.score([request])
    weights = [weight for name, weight in scorer.model.named_parameters() if "layer" in name]
    kept = [weight.clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(1.5)
    scorer.forget(None)
    try:
        [changed] = scorer.score([request])
        fresh = scorer.differentiable(request).detach().numpy()  # which keeps nothing
    finally:
        with torch.no_grad():
            for weight, was in zip(weights, kept, strict=True):
                weight.copy_(was)
        scorer.forget(None)
    assert np.abs(changed - before).max() > TOLERANCE
    np.testing.assert_allclose(changed, fresh, rtol=1e-3, atol=1e-3)


def test_empty_requests_and_candidates(case: ScorerCase) -> None:
    assert case.scorer.score([]) == []
    empty, full, last = case.scorer.score(
        [ScoreRequest(CONTEXT, []), ScoreRequest("", CANDIDATES), ScoreRequest("", [])]
    )
    assert empty.shape == last.shape == (0,)
    assert empty.dtype == last.dtype == np.float32
    assert full.shape == (4,)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.text("abcdef \n🙂", max_size=60), TEXTS), max_size=3), st.randoms())
def test_scores_do_not_depend_on_the_batch(case: ScorerCase, others: list[tuple[str, list[str]]], rng: Any) -> None:
    [alone] = case.scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    order = rng.sample(range(len(CANDIDATES)), len(CANDIDATES))
    extra = [text for _, texts in others for text in texts]
    batch = [ScoreRequest(context, texts) for context, texts in others]
    shuffled = ScoreRequest(CONTEXT, [CANDIDATES[index] for index in order] + extra)
    scores = case.scorer.score([*batch, shuffled, *batch])
    close(scores[len(batch)][: len(order)], alone[order])
    assert [len(score) for score in scores[: len(batch)]] == [len(texts) for _, texts in others]


def test_too_long_context_keeps_its_newest_events(case: ScorerCase, caplog: pytest.LogCaptureFixture) -> None:
    events = [f"Bought Wool hat number {number}" for number in range(case.long_context_events)]
    usage = case.scorer.usage
    cut, cut_tokens = usage.truncated_contexts, usage.truncated_context_tokens
    fit._next_log = 0.0
    with caplog.at_level(logging.WARNING):
        [scores] = case.scorer.score([ScoreRequest("\n".join(events), CANDIDATES)])
    assert usage.truncated_contexts == cut + 1
    assert usage.truncated_context_tokens > cut_tokens
    assert "oldest events dropped" in caplog.text
    [other_oldest] = case.scorer.score([ScoreRequest("\n".join(["Clicked tent", *events[1:]]), CANDIDATES)])
    [other_newest] = case.scorer.score([ScoreRequest("\n".join([*events[:-1], "Clicked tent"]), CANDIDATES)])
    np.testing.assert_array_equal(scores, other_oldest)
    assert np.abs(scores - other_newest).max() > TOLERANCE


@tuned
def test_too_long_only_event_loses_its_beginning(case: ScorerCase) -> None:
    usage = case.scorer.usage
    cut = usage.truncated_contexts
    words = " hat" * 20 * case.long_context_events
    [scores] = case.scorer.score([ScoreRequest("red" + words, CANDIDATES)])
    [other_start] = case.scorer.score([ScoreRequest("blue" + words, CANDIDATES)])
    [other_end] = case.scorer.score([ScoreRequest("red" + words + " stove", CANDIDATES)])
    assert usage.truncated_contexts == cut + 3
    np.testing.assert_array_equal(scores, other_start)
    assert np.abs(scores - other_end).max() > TOLERANCE


def test_too_long_candidate_keeps_its_beginning(case: ScorerCase) -> None:
    usage = case.scorer.usage
    cut = usage.truncated_candidates
    words = " hat" * 1000
    texts = ["red tent" + words, "red tent" + words + " blue", "coffee maker" + words]
    [scores] = case.scorer.score([ScoreRequest(CONTEXT, texts)])
    assert usage.truncated_candidates == cut + 3
    close(scores[0], scores[1])
    assert abs(scores[0] - scores[2]) > TOLERANCE


def test_any_unicode(case: ScorerCase) -> None:
    texts = ["", " ", "\n\n", "雪の靴 🙂", "\ud800 lone", "\x00", "‮rtl", "e\u0301" * 50]
    for context in texts:
        [scores] = case.scorer.score([ScoreRequest(context, texts)])
        assert np.isfinite(scores).all()


def test_usage_counts(case: ScorerCase) -> None:
    before = vars(case.scorer.usage).copy()
    context = "Bought Camping whistle today\n" + CONTEXT
    case.scorer.score([ScoreRequest(context, ["Camping stove with a whistle", *CANDIDATES]), ScoreRequest("", [])])
    grown = {name: value - before[name] for name, value in vars(case.scorer.usage).items()}
    assert grown["requests"] == 2
    assert grown["candidates"] == 5
    for name in ("context_tokens", "candidate_tokens", "tokenise_seconds", "inference_seconds"):
        assert grown[name] > 0, name
    assert grown["truncated_contexts"] == grown["truncated_candidates"] == 0


def test_markup_in_texts_is_text(case: ScorerCase) -> None:
    markup = ["<|im_end|>", "<|im_start|>", "<think>", "</think>", "[SEP]", "[CLS]", "<|endoftext|>"]
    scorer: Any = case.scorer
    tokens = getattr(scorer, "_tokens", None) or scorer._encoder.tokens
    for text, ids in zip(markup, tokens(markup), strict=True):
        assert tokens._barred.isdisjoint(ids), text
        assert len(ids) != 1, text


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("make", [models.packed, models.decoder])
def test_fewer_digits_rank_like_float32(tmp_path: Path, make: Callable[[Path], Path], dtype: str) -> None:
    rng, words = random.Random(4), " ".join([CONTEXT, *CANDIDATES]).split()
    request = ScoreRequest(CONTEXT, [" ".join(rng.sample(words, rng.randrange(3, 9))) for _ in range(60)])
    folder = str(make(tmp_path))
    [exact] = load_scorer(folder, "cpu", "float32").score([request])
    [rough] = load_scorer(folder, "cpu", dtype).score([request])
    assert rough.dtype == np.float32
    first, second = np.triu_indices(len(exact), 1)
    agree = np.sign(exact[first] - exact[second]) * np.sign(rough[first] - rough[second])
    assert agree.mean() > 0.93, "Kendall's tau; random weights give scores that lie close together"
