"""One suite over every encoder: rows of unit length in the order of the texts, each a function of its text alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from encoders.interest import Vector
from encoders.text.encoder import TextEncoder
from encoders.text.vector_store import Encoder, StoredEncoder
from ranker.scorers.bi_encoder import BiEncoder
from streams.models.client import Models
from streams.settings import EncoderSettings
from tests import models

TEXTS = ["Red tent for two", "Umbrella", "", " ", "雪の靴 🙂", "\ud800 lone", "\x00", "hat " * 500, "[SEP] [CLS]"]
ROUNDING = {
    "text encoder": 1e-5,
    "bi-encoder": 1e-5,
    "remote encoder": 1e-5,
    "stored encoder": 1e-3,
    "stored encoder without a file": 1e-3,
}
"""Rows of a batch may differ by float32 rounding; a stored vector is float16."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(params=ROUNDING)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def remote(folder: Path) -> Iterator[Encoder]:
    """The encoder of a child process, as a worker uses it."""
    running = Models(EncoderSettings(model=str(folder), dtype="float32", device="cpu"), None)
    running.load()
    assert running.encoder is not None
    yield running.encoder
    running.close()


@pytest.fixture
def encoder(name: str, folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Encoder]:
    if name == "remote encoder":
        yield request.getfixturevalue("remote")
        return
    if name == "bi-encoder":
        yield BiEncoder(str(folder), "cpu", "float32")
        return
    text_encoder = TextEncoder(str(folder), "cpu", "float32")
    if name == "text encoder":
        yield text_encoder
        return
    (tmp_path / "file").write_text("blocks a folder of this name")
    parent = tmp_path / ("file" if name.endswith("without a file") else "vectors")
    stored = StoredEncoder(text_encoder, "model", parent / "vectors.sqlite")
    yield stored
    stored.close()


def close(left: Vector, right: Vector, name: str) -> None:
    np.testing.assert_allclose(left, right, atol=ROUNDING[name])


def test_shape_dtype_and_unit_length(encoder: Encoder, name: str) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.dim)
    close(np.linalg.norm(vectors, axis=1), np.ones(len(TEXTS), np.float32), name)


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    vectors = encoder.encode([])
    assert vectors.shape == (0, encoder.dim)
    assert vectors.dtype == np.float32


def test_a_vector_depends_on_its_text_alone(encoder: Encoder, name: str) -> None:
    together = encoder.encode(TEXTS)
    order = random.Random(2).sample(range(len(TEXTS)), len(TEXTS))
    close(encoder.encode([TEXTS[index] for index in order]), together[order], name)
    for index, text in enumerate(TEXTS):
        close(encoder.encode([text])[0], together[index], name)


def test_a_repeated_text_gets_the_same_row(encoder: Encoder, name: str) -> None:
    first, other, again = encoder.encode(["Umbrella", "Red tent for two", "Umbrella"])
    close(first, again, name)
    assert np.abs(first - other).max() > 10 * ROUNDING[name]


def test_the_caller_may_change_a_result(encoder: Encoder, name: str) -> None:
    before = encoder.encode(TEXTS)
    changed = encoder.encode(TEXTS)
    changed[:] = 0
    close(encoder.encode(TEXTS), before, name)


def test_it_agrees_with_the_plain_encoder(encoder: Encoder, name: str, folder: Path) -> None:
    close(encoder.encode(TEXTS), TextEncoder(str(folder), "cpu", "float32").encode(TEXTS), name)
