"""The models' process: the same numbers as here, and a death that is met once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from encoders.model_source import ModelUnsupported
from ranker import ScoreRequest, load_scorer
from streams.models import Models, Wanted
from streams.settings import Encoder, Ranker

TEXTS = ["Trail running jacket", "Espresso machine", "Tent for two"]
REQUEST = ScoreRequest("Viewed Camping stove today", TEXTS)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    running = Models(Encoder(dtype="float32", device="cpu"), Ranker(dtype="float32", device="cpu"))
    running.load()
    yield running
    running.close()


def die(_wanted: Wanted) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_wanted: Wanted) -> None:
    threading.Event().wait()


def test_scores_and_vectors_are_the_models_own(models: Models) -> None:
    assert models.encoder is not None
    assert models.scorer is not None
    here = load_scorer(Ranker().model, "cpu", "float32")
    [expected], [found] = here.score([REQUEST]), models.scorer.score([REQUEST])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert models.scorer.usage.candidates == len(TEXTS)
    assert models.scorer.placement == here.placement
    assert models.encoder.encode(TEXTS).shape == (3, models.encoder.dim)


def test_it_is_told_to_forget(models: Models) -> None:
    assert models.scorer is not None
    models.scorer.forget(["ann"])
    models.scorer.forget(None)


def loaded(models: Models) -> bool:
    return models.loaded


def test_a_process_that_dies_is_replaced(models: Models) -> None:
    assert models.encoder is not None
    assert models.scorer is not None
    assert loaded(models)
    with pytest.raises(BrokenProcessPool):
        models.call(die)
    assert not loaded(models)
    assert len(models.scorer.score([REQUEST])[0]) == len(TEXTS)
    assert loaded(models)
    with pytest.raises(BrokenProcessPool):
        models.call(die)
    assert len(models.encoder.encode(TEXTS)) == len(TEXTS)


def test_a_process_that_hangs_is_replaced(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.scorer is not None
    models.scorer.score([REQUEST])
    monkeypatch.setattr("streams.models.HUNG_S", 0.5)
    with pytest.raises(BrokenProcessPool):
        models.call(hang)
    monkeypatch.undo()
    assert len(models.scorer.score([REQUEST])[0]) == len(TEXTS)


def test_an_unknown_model_is_the_same_clear_error_as_here() -> None:
    with pytest.raises(ModelUnsupported, match="nowhere"):
        Models(None, Ranker(model="/nowhere")).load()


def test_what_is_not_wanted_is_not_loaded() -> None:
    models = Models(None, Ranker(model="none"))
    models.load()
    assert models.encoder is None
    assert models.scorer is None
    models.close()
