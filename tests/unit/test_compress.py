"""`afterclick compress` end to end on small random models: the student is smaller, and ranks as its teacher does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders.models.files import INT8_FILE
from encoders.models.source import ModelUnsupported
from ranker.features import NAMES
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.train import student
from ranker.train.losses import distillation
from ranker.train.query_groups import QueryGroups
from streams.cli import app
from streams.commands.compress import run
from streams.commands.compression import Compression
from streams.datasets.messages import InputError
from streams.settings import Settings
from tests import models
from tests.unit.test_train import settings_of, shop


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(models.encoder(tmp_path_factory.mktemp("encoder")))


REQUESTS = [ScoreRequest("Viewed Wool hat\nBought Red tent", ["Blue shoes", "Coffee maker", "Wool hat number 4"])]


def compressed(capsys: pytest.CaptureFixture[str], settings: Settings, how: Compression) -> dict[str, Any]:
    run(shop(), settings, how, to_json=True)
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert not (how.out / "checkpoint").exists()
    fused = load_scorer(str(how.out), "cpu")
    assert isinstance(fused, FusedScorer)
    report["kind"] = type(fused.base).__name__
    return report


def made(contexts: list[str], kinds: list[str], rng: np.random.Generator, width: int = 20) -> QueryGroups:
    candidates = np.stack([rng.permutation(len(kinds))[:width] for _ in contexts]).astype(np.int32)
    shape = candidates.shape
    return QueryGroups(
        texts=[f"{kind} number {number}" for number, kind in enumerate(kinds)],
        event_texts=list(kinds),
        contexts=contexts,
        events=[row[-1:] for row in candidates],
        candidates=candidates,
        labels=np.zeros(shape, bool),
        relevant_counts=np.ones(len(contexts), np.int32),
        is_cold=np.zeros(shape, bool),
        cold_counts=np.zeros(len(contexts), np.int32),
        users=np.arange(len(contexts), dtype=np.int32),
        retrieval_scores=np.zeros(shape, np.float32),
        features=np.zeros((*shape, len(NAMES)), np.float16),
    )


def test_layers_are_dropped(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = models.packed(tmp_path / "teacher", num_hidden_layers=4)
    out = tmp_path / "out"
    how = Compression(model=str(teacher), out=out, way="prune", epochs=0, max_query_groups=200)
    report = compressed(capsys, settings, how)
    assert report["kind"] == "PackedEncoder"
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 2
    assert report["after"]["weights_bytes"] < report["before"]["weights_bytes"]


def _layers(folder: Path) -> Any:
    scorer: Any = load_scorer(str(folder), "cpu", "float32")
    body = scorer.model.base_model
    return body.encoder.layer if hasattr(body, "encoder") else body.layers


@pytest.mark.parametrize(("layers", "kept"), [(1, [3]), (2, [0, 3]), (3, [0, 2, 3])])
def test_the_layers_that_are_kept_are_evenly_spaced(tmp_path: Path, layers: int, kept: list[int]) -> None:
    for name, model in (
        ("bert", models.packed(tmp_path / "bert", num_hidden_layers=4)),
        ("qwen", models.decoder(tmp_path / "qwen", num_hidden_layers=4)),
    ):
        assert student.prune(str(model), layers, tmp_path / f"{name}-out") == kept
        old, new = (_layers(folder) for folder in (model, tmp_path / f"{name}-out"))
        for index, layer in zip(kept, new, strict=True):
            for left, right in zip(old[index].parameters(), layer.parameters(), strict=True):
                assert torch.equal(left, right)


def test_too_many_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="expected 1 to 1"):
        student.prune(str(models.packed(tmp_path / "model")), 2, tmp_path / "out")


KINDS = {"packed": models.packed, "cross": models.classifier, "decoder": models.decoder}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_int8_weights_on_disk_are_those_that_are_made_at_load(tmp_path: Path, kind: str, tied: bool) -> None:
    """Embeddings are rounded too, to within half a step of their row; tied weights are kept once."""
    model = KINDS[kind](tmp_path / "model", hidden_size=64, intermediate_size=128, tie_word_embeddings=tied)
    student.quantise(str(model), tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert (tmp_path / "out" / INT8_FILE).stat().st_size < 0.5 * (model / "model.safetensors").stat().st_size
    small: Any = load_scorer(str(tmp_path / "out"), "cpu")
    assert small.placement.dtype == "int8"
    expected: Any = load_scorer(str(model), "cpu", "int8")
    weights = dict(expected.model.state_dict())
    for name, weight in small.model.state_dict().items():
        if weight.dtype == torch.int8 or weight.ndim < 2:
            torch.testing.assert_close(weight, weights[name], rtol=1e-6, atol=0, msg=name)
        else:
            step = weights[name].abs().amax(1, keepdim=True) / 127
            assert ((weight - weights[name]).abs() <= 0.501 * step).all(), name


def test_an_embedding_model_is_kept_in_int8(tmp_path: Path) -> None:
    model = models.encoder(tmp_path / "model")
    student.quantise(str(model), tmp_path / "out")
    small, plain = (load_scorer(str(folder), "cpu").score(REQUESTS)[0] for folder in (tmp_path / "out", model))
    assert np.abs(small - plain).max() < 0.1


def test_int8_end_to_end(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = models.packed(tmp_path / "teacher", hidden_size=64)
    out = tmp_path / "out"
    chosen = settings.model_copy(update={"ranker": settings.ranker.model_copy(update={"dtype": "auto"})})
    how = Compression(model=str(teacher), out=out, way="int8", max_query_groups=60)
    report = compressed(capsys, chosen, how)
    assert report["after"]["weights_bytes"] < 0.5 * report["before"]["weights_bytes"]
    assert report["before"]["dtype"] != report["after"]["dtype"] == "int8"


def test_a_model_that_cannot_be_compressed_is_refused(settings: Settings, tmp_path: Path) -> None:
    encoder = str(models.encoder(tmp_path / "encoder"))
    how = Compression(model=encoder, out=tmp_path / "out", way="prune", max_query_groups=20)
    with pytest.raises(InputError, match="an embedding model"):
        run(shop(), settings, how, to_json=True)
    for ways in ([], ["--distil", "--int8"]):
        with pytest.raises(InputError, match="expected one"):
            app(["compress", encoder, "--out", str(tmp_path / "x"), *ways], standalone_mode=False)


@pytest.mark.parametrize("seed", range(3))
def test_the_distillation_loss_is_the_divergence_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, teacher = rng.normal(size=(2, 3, 6)).astype(np.float32)
    is_candidate = np.arange(6) < np.array([6, 4, 2])[:, None]
    expected = []
    for student_row, teacher_row, mask in zip(scores, teacher, is_candidate, strict=True):
        p, q = (np.exp(row[mask]) / np.exp(row[mask]).sum() for row in (teacher_row, student_row))
        expected.append(sum(p * np.log(p / q)))
    loss = distillation(*map(torch.from_numpy, (scores, teacher, is_candidate)))
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)
