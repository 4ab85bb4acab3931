"""What the encoder's store keeps over a restart, and what it must not give back."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from encoders.interest import Vector
from encoders.text.vector_store import UNUSED_LOADS, StoredEncoder, identity

DIM = 8
TEXTS = [f"text {number}" for number in range(1_200)]


class Counting:
    """Encodes by a hash of the text, and counts what it was asked."""

    dim = DIM

    def __init__(self, seed: int = 0) -> None:
        self.asked: list[str] = []
        self._seed = seed

    def encode(self, texts: Sequence[str]) -> Vector:
        self.asked += texts
        drawn = np.array(
            [np.random.default_rng([self._seed, *text.encode()]).normal(size=DIM) for text in texts], np.float32
        ).reshape(-1, DIM)
        unit: Vector = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit

    encode_events = encode


def encode_once(path: Path, texts: Sequence[str], model: str = "model", seed: int = 0) -> tuple[Vector, list[str]]:
    """The vectors, and what was encoded for them, in a life of its own."""
    inner = Counting(seed)
    stored = StoredEncoder(inner, model, path)
    vectors = stored.encode(texts)
    assert stored.hits == len(set(texts)) - len(inner.asked)
    assert stored.misses == len(inner.asked)
    stored.close()
    return vectors, inner.asked


def test_a_restart_encodes_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "new" / "vectors.sqlite"
    first, asked = encode_once(path, TEXTS[:1_000])
    assert asked == TEXTS[:1_000]
    mixed = [*TEXTS[900:], *TEXTS[900:950]]
    again, asked = encode_once(path, mixed)
    assert asked == TEXTS[1_000:]
    assert again[:100].tolist() == first[900:].tolist()
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, Counting().encode(mixed), atol=5e-4)
    assert encode_once(path, [])[0].shape == (0, DIM)


def test_another_model_never_gets_these_vectors(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    encode_once(path, TEXTS[:50])
    vectors, asked = encode_once(path, TEXTS[:50], model="another", seed=1)
    assert asked == TEXTS[:50]
    np.testing.assert_allclose(vectors, Counting(1).encode(TEXTS[:50]), atol=5e-4)
    assert encode_once(path, TEXTS[:50])[1] == []


def test_a_model_changed_in_its_folder_is_another(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = identity(str(tmp_path), "auto")
    assert before == identity(str(tmp_path), "auto") != identity(str(tmp_path), "float32")
    (tmp_path / "model.safetensors").write_bytes(b"trained")
    assert identity(str(tmp_path), "auto") != before


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "vectors.sqlite"
    encode_once(path, TEXTS)
    if damage == "garbage":
        path.write_bytes(b"not a database " * 1_000)
    else:
        os.truncate(path, path.stat().st_size // 2 if damage == "truncated" else 0)
    with caplog.at_level(logging.WARNING):
        vectors, _ = encode_once(path, TEXTS)
    assert [record.levelname for record in caplog.records] == ([] if damage == "empty" else ["WARNING"])
    np.testing.assert_allclose(vectors, Counting().encode(TEXTS), atol=5e-4)
    assert encode_once(path, TEXTS)[1] == []


def test_a_damaged_vector_is_encoded_again(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    encode_once(path, TEXTS[:3])
    with closing(sqlite3.connect(path)) as sql, sql:
        key, value = sql.execute("SELECT key, value FROM vectors LIMIT 1").fetchone()
        sql.execute("UPDATE vectors SET value = ? WHERE key = ?", (bytes([value[0] ^ 1]) + value[1:], key))
    vectors, asked = encode_once(path, TEXTS[:3])
    assert len(asked) == 1
    np.testing.assert_allclose(vectors, Counting().encode(TEXTS[:3]), atol=5e-4)


def test_without_a_place_to_write_it_encodes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    stored = StoredEncoder(Counting(), "model", tmp_path / "file" / "vectors.sqlite")
    with caplog.at_level(logging.WARNING):
        assert len(stored.encode(TEXTS[:10])) == len(stored.encode(TEXTS[10:20])) == 10
    assert len(caplog.records) == 1


def test_what_nobody_asks_for_goes(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    encode_once(path, TEXTS[:20])
    for _ in range(UNUSED_LOADS + 1):
        assert encode_once(path, TEXTS[:10])[1] == []
    assert encode_once(path, TEXTS[:20])[1] == TEXTS[10:20]
