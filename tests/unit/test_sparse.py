"""2:4 sparse weights: pruned by magnitude, held in training, small on disk, and skipped on CUDA where there is one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from encoders.models import sparse
from encoders.models.files import INT8_FILE, SPARSE_FILE
from encoders.models.source import ModelUnsupported
from encoders.models.weights import linear_layers
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.train import model_fit, student
from ranker.train.trainable import make_trainable, save
from streams.cli import app
from streams.commands import compression_report
from streams.commands.compression import Compression
from streams.commands.compression_report import note
from streams.datasets.messages import InputError
from streams.settings import Settings
from tests import models
from tests.unit.test_compress import REQUESTS, compressed
from tests.unit.test_flex import needs_cuda
from tests.unit.test_train import settings_of

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 16}
KINDS = {"packed": models.packed, "cross": models.classifier, "decoder": models.decoder}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(models.encoder(tmp_path_factory.mktemp("encoder")))


def base(kind: str, folder: Path, **more: Any) -> Path:
    sizes = {name: size for name, size in SIZES.items() if kind == "decoder" or name != "head_dim"}
    return KINDS[kind](folder, **sizes, **more)


def loaded(folder: Path) -> Any:
    scorer = load_scorer(str(folder), "cpu", "float32", in_training=True)
    return scorer.base if isinstance(scorer, FusedScorer) else scorer


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(loaded(folder).model.state_dict())


def zeros(folder: Path) -> list[int]:
    """The least zeros of each four weights, for each layer that takes part."""
    layers = sparse.sparse_layers(loaded(folder).model)
    return [int((layer.linear.weight.reshape(-1, 4) == 0).sum(1).min()) for layer in layers]


def test_the_two_largest_of_every_four_are_kept() -> None:
    torch.manual_seed(1)
    layer, head = nn.Linear(16, 64), nn.Linear(64, 1)
    before, head_before = layer.weight.detach().clone(), head.weight.detach().clone()
    sparse.prune(nn.Sequential(layer, nn.GELU(), head))
    for old, new in zip(before.view(-1, 4).tolist(), layer.weight.detach().view(-1, 4).tolist(), strict=True):
        largest = sorted(map(abs, old))[2:]
        assert new == [value if abs(value) in largest else 0.0 for value in old]
    assert torch.equal(head.weight, head_before), "a scoring head stays as it is"


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_the_zeros_has_the_same_weights(tmp_path: Path, kind: str, tied: bool) -> None:
    model, start, out = base(kind, tmp_path / "model", tie_word_embeddings=tied), tmp_path / "start", tmp_path / "out"
    for folder in (start, out):
        student.sparsify(str(model), folder)
    student.pack(str(model), out)
    assert not (out / "model.safetensors").exists()
    assert student.size(str(out)) < 0.85 * student.size(str(start))
    plain, packed = (weights(folder) for folder in (start, out))
    assert plain.keys() == packed.keys()
    assert all(torch.equal(plain[name], packed[name]) for name in plain)
    layers = len(linear_layers(loaded(model).model))
    assert zeros(out) == [2] * layers
    student.quantise(str(out), tmp_path / "int8")  # one way after the other
    assert (tmp_path / "int8" / INT8_FILE).stat().st_size < student.size(str(out))
    assert zeros(tmp_path / "int8") == [2] * layers


@pytest.mark.parametrize("kind", ["packed", "decoder"])
def test_zeros_are_held_in_training(tmp_path: Path, kind: str) -> None:
    model, start, out = base(kind, tmp_path / "model"), tmp_path / "start", tmp_path / "out"
    student.sparsify(str(model), start)
    scorer = loaded(start)
    make_trainable(scorer, lora=False)
    optimiser = torch.optim.AdamW([weight for weight in scorer.model.parameters() if weight.requires_grad], 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        scorer.differentiable(REQUESTS[0]).square().sum().backward()
        optimiser.step()
    save(scorer, str(start), out)
    student.pack(str(model), out)
    before, after = weights(start), weights(out)
    names = [layer.weight_name for layer in sparse.sparse_layers(loaded(out).model)]
    assert zeros(out) == [2] * len(names) == zeros(start)
    for name in names:
        assert torch.equal(before[name] == 0, after[name] == 0)
        assert not torch.equal(before[name], after[name]) or "pooler" in name


def test_a_model_is_sparsified_end_to_end(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_fit, "VALIDATIONS", 1)
    monkeypatch.setattr(compression_report, "TIMED_ROUNDS", 1)
    out, teacher = tmp_path / "out", str(base("packed", tmp_path / "teacher"))
    report = compressed(
        capsys, settings, Compression(model=teacher, out=out, way="sparsify", epochs=1, max_query_groups=60)
    )
    assert set(zeros(out)) == {2}
    assert (out / SPARSE_FILE).is_file()
    assert report["kind"] == "PackedEncoder"
    assert report["after"]["weights_bytes"] < 0.8 * report["before"]["weights_bytes"]
    assert "space alone on a CPU" in note("sparsify", "cpu")


def test_what_cannot_be_sparsified_is_refused(tmp_path: Path) -> None:
    encoder = str(models.encoder(tmp_path / "encoder"))
    for ways, message in (
        (["--sparsify", "1:4"], "got '1:4', expected 2:4"),
        (["--sparsify", "2:4", "--int8"], "got --sparsify, --int8 of .* expected one, then another"),
    ):
        with pytest.raises(InputError, match=message):
            app(["compress", encoder, "--out", str(tmp_path / "x"), *ways], standalone_mode=False)
    student.sparsify(str(base("packed", tmp_path / "model")), tmp_path / "out")
    with pytest.raises(ModelUnsupported, match="2:4 sparse, expected dense ones"):
        make_trainable(loaded(tmp_path / "out"), lora=True)


def test_without_cusparselt_the_layers_run_dense(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: False)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).to(torch.bfloat16)
    sparse.prune(model)
    with caplog.at_level(logging.WARNING):
        sparse.skip_zeros(model)
    assert "2 layers are 2:4 sparse" in caplog.text


@pytest.mark.parametrize("faster", [False, True])
def test_only_shapes_that_are_faster_without_their_zeros_skip_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, faster: bool
) -> None:
    """On this machine's CPU a dense copy stands for the sparse weight."""
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: True)
    monkeypatch.setattr(sparse, "_semi_structured", lambda weight: nn.Parameter(weight.detach().clone(), False))
    monkeypatch.setattr(sparse, "_speed_up", lambda linear, _: 1.4 if faster and linear.out_features == 128 else 0.7)
    model = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 64), nn.Linear(64, 128)).to(torch.bfloat16)
    sparse.prune(model)
    before = [layer.weight for layer in model]
    with caplog.at_level(logging.INFO):
        sparse.skip_zeros(model)
    assert [layer.weight is not old for layer, old in zip(model, before, strict=True)] == [faster, False, faster]
    assert f"{2 if faster else 0} of 3 layers that are 2:4 sparse skip their zeros (128x64" in caplog.text


@needs_cuda
@pytest.mark.parametrize("kind", KINDS)
def test_scores_on_cuda_without_the_zeros_are_those_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    measured = sparse._speed_up
    monkeypatch.setattr(sparse, "_speed_up", lambda *layer: 1 + measured(*layer))  # dense is faster for ones so small
    student.sparsify(str(base(kind, tmp_path / "model")), tmp_path / "out")
    expected = load_scorer(str(tmp_path / "out"), "cpu", "float32").score(REQUESTS * 2)
    scorer: Any = load_scorer(str(tmp_path / "out"), "cuda", "bfloat16")
    sparse_weights = [w for w in scorer.model.parameters() if isinstance(w, torch.sparse.SparseSemiStructuredTensor)]
    assert len(sparse_weights) == len(zeros(tmp_path / "out")) >= 10
    for found, right in zip(scorer.score(REQUESTS * 2), expected, strict=True):
        assert np.abs(found - right).max() <= 0.05 * max(1.0, np.abs(right).max())
