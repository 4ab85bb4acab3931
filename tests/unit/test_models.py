"""The models' process gives the same numbers as the models in this process, and is replaced when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.models.source import ModelNotFound, ModelUnsupported
from encoders.text.vector_store import identity
from ranker import version
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from streams import metrics
from streams.models import process as model_process
from streams.models.client import Models
from streams.models.process import ModelChoice
from streams.settings import EncoderSettings, RankerSettings
from tests import models as tiny

TEXTS = ["Trail running jacket", "Espresso machine", "Tent for two"]
REQUEST = ScoreRequest("Viewed Camping stove today", TEXTS)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    running = Models(EncoderSettings(dtype="float32", device="cpu"), RankerSettings(dtype="float32", device="cpu"))
    running.load()
    yield running
    running.close()


def die(_choice: ModelChoice) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_choice: ModelChoice) -> None:
    threading.Event().wait()


def test_scores_and_vectors_are_those_of_the_models(models: Models) -> None:
    assert models.encoder is not None
    assert models.scorer is not None
    here = load_scorer(RankerSettings().model, "cpu", "float32")
    [expected], [found] = here.score([REQUEST]), models.scorer.score([REQUEST])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert models.scorer.usage.candidates == len(TEXTS)
    assert models.scorer.placement == here.placement
    assert models.encoder.encode(TEXTS).shape == (3, models.encoder.dim)


def test_a_list_waits_for_a_part_of_an_upload_only(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.encoder is not None
    assert models.scorer is not None
    expected, calls, call = models.encoder.encode(TEXTS), list[int](), models.call

    def counted(function: Any, *arguments: Any) -> Any:
        calls.append(max(len(argument) for argument in arguments if isinstance(argument, list)))
        return call(function, *arguments)

    monkeypatch.setattr(models, "call", counted)
    monkeypatch.setattr("streams.models.child_models.AT_ONCE", 2)
    np.testing.assert_allclose(models.encoder.encode(TEXTS), expected, atol=1e-5)
    models.scorer.prepare(TEXTS, [*TEXTS, "Tent", "Stove"])
    assert calls == [2, 1, 2, 2, 1]
    assert models.encoder.encode([]).shape == (0, models.encoder.dim)


def test_the_steps_of_loading_have_an_order_in_time(models: Models) -> None:
    steps = models.steps()
    assert list(steps) == sorted(steps, key=lambda step: steps[step])
    assert {"libraries", "scorer", "encoder"} == set(steps)
    assert 0 < steps["libraries"] < steps["encoder"] < time.monotonic()


def test_the_process_forgets_users(models: Models) -> None:
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
    monkeypatch.setattr("streams.models.client.HUNG_S", 0.5)
    with pytest.raises(BrokenProcessPool):
        models.call(hang)
    monkeypatch.undo()
    assert len(models.scorer.score([REQUEST])[0]) == len(TEXTS)


def test_an_unknown_model_is_the_same_clear_error_as_in_one_process() -> None:
    with pytest.raises(ModelNotFound, match="nowhere"):
        Models(None, RankerSettings(model="/nowhere")).load()


def test_a_model_that_is_not_needed_is_not_loaded() -> None:
    models = Models(None, RankerSettings(model="none"))
    models.load()
    assert models.encoder is None
    assert models.scorer is None
    models.close()


def test_the_identity_of_vectors_has_their_dtype(models: Models) -> None:
    assert models.encoder is not None
    assert models.encoder.placement.dtype == "float32"
    auto = Models(EncoderSettings(device="cpu"), None)
    auto.load()
    assert auto.encoder is not None
    used = auto.encoder.placement.dtype
    assert auto.encoder.identity == identity(EncoderSettings().model, used)
    assert "auto" not in auto.encoder.identity
    assert (auto.encoder.identity == models.encoder.identity) == (used == "float32")
    auto.close()


def test_an_encoder_and_a_scorer_of_one_name_keep_their_placements() -> None:
    name = EncoderSettings().model
    both = Models(
        EncoderSettings(model=name, device="cpu", dtype="bfloat16"),
        RankerSettings(model=name, device="cpu", dtype="float32"),
    )
    both.load()
    assert both.encoder is not None
    assert both.scorer is not None
    assert (both.encoder.placement.dtype, both.scorer.placement.dtype) == ("bfloat16", "float32")
    both.close()


def test_a_model_that_changes_while_it_is_loaded_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.packed(tmp_path)
    loads, load = [0], model_process._load

    def loaded(choice: ModelChoice) -> Any:
        models = load(choice)
        loads[0] += 1
        if loads[0] in changes_at:
            (folder / "README.md").write_text("a change " * loads[0], encoding="utf-8")
        return models

    monkeypatch.setattr(model_process, "_load", loaded)
    choice = ModelChoice(None, RankerSettings(model=str(folder), device="cpu", dtype="float32"))
    changes_at = {1}
    found = model_process._load_unchanged(choice)
    assert loads == [2]
    assert found.scorer_facts is not None
    assert found.scorer_facts.name == version.version(str(folder))
    changes_at = {3, 4, 5}
    with pytest.raises(ModelUnsupported, match="rename its folder into place"):
        model_process._load_unchanged(choice)


def test_vectors_of_a_changed_encoder_are_not_mixed_with_the_first_ones(tmp_path: Path) -> None:
    folder = tiny.encoder(tmp_path)
    running = Models(EncoderSettings(model=str(folder), device="cpu", dtype="float32"), None)
    running.load()
    assert running.encoder is not None
    running.encoder.encode(TEXTS)
    tiny.encoder(tmp_path, num_hidden_layers=1)
    with pytest.raises(BrokenProcessPool):
        running.call(die)
    with pytest.raises(ModelUnsupported, match="restart it"):
        running.encoder.encode(TEXTS)
    running.close()


def test_tokens_that_the_encoder_does_not_know_are_counted(models: Models) -> None:
    assert models.encoder is not None
    texts, unknown = ["Red boots", "\u7ea2\u8272\u767b\u5c71\u978b"], metrics.text_tokens.labels("encoder", "no")
    before = unknown._value.get()
    assert models.encoder.count_tokens(texts) == (7, 4)
    assert unknown._value.get() == before, "counted without being read"
    models.encoder.encode(texts)
    assert unknown._value.get() == before + 4


def wait_for(_choice: ModelChoice, seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def unpicklable(_choice: ModelChoice) -> None:
    raise ValueError("no", threading.Lock())


def test_calls_of_several_threads_get_their_own_answers_in_turn(models: Models) -> None:
    models.call(model_process.facts)
    delays = [0.02, 0.01, 0.0] * 8
    with ThreadPoolExecutor(len(delays)) as threads:
        assert list(threads.map(lambda delay: models.call(wait_for, delay), delays)) == delays


def test_a_call_whose_error_cannot_be_sent_fails_alone(models: Models) -> None:
    pid = models.pid()
    with pytest.raises(RuntimeError, match="ValueError"):
        models.call(unpicklable)
    assert models.call(wait_for, 0.0) == 0
    assert models.pid() == pid


def test_a_process_that_dies_between_two_calls_is_replaced_by_the_second(models: Models) -> None:
    models.call(model_process.facts)
    os.kill(models.pid(), signal.SIGKILL)
    models._process._process.join()
    assert models.call(wait_for, 0.0) == 0


def test_python_ends_beside_a_process_that_nobody_closed() -> None:
    code = "from streams.models.child import ChildProcess\nprocess = ChildProcess(False)\nprint(process.call(abs, -3))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == ["3"]
