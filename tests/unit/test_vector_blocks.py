"""Rows in blocks are rows: the same as of one array, and none moves when others come."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.recall import vector_blocks
from ranker.recall.vector_blocks import VectorBlocks

DIM = 3


def test_blocks_give_what_one_array_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_blocks, "BLOCK_ROWS", 8)
    rng = np.random.default_rng(0)
    blocks, whole = VectorBlocks(DIM), np.zeros((100, DIM), np.float32)
    first = None
    for row in range(100):
        blocks.reach(row)
        blocks.row(row)[:] = whole[row] = rng.normal(size=DIM)
        first = blocks.row(0) if first is None else first
        rows = rng.integers(0, row + 1, int(rng.integers(0, 20)))
        assert np.array_equal(blocks.take(rows), whole[rows])
    assert first is not None
    assert np.shares_memory(first, blocks.row(0)), "the first row stayed where it was"


def test_no_rows_are_none() -> None:
    assert VectorBlocks(DIM).take(np.empty(0, np.intp)).shape == (0, DIM)
