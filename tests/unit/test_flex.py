"""CUDA's attention against the plain one: on this machine's CPU uncompiled, and on CUDA where there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.scorers.packed import flex, packing
from ranker.scorers.packed.layout import Packing, Segment, by_length, runs
from tests import models

CONTEXT = "Bought Trail running jacket 2 days ago\nClicked Wool hat today"
TEXTS = ["Blue shoes size 42", "Umbrella", "Red tent for two", "Coffee maker", "Wool hat", "Camping stove"] * 5
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def packed(random: np.random.Generator, causal: bool, key_heads: int, size: int) -> tuple[Packing, int]:
    """A few users, some of whose contexts are partly kept, and the tokens of the sequence."""
    segments, start = [], 0
    for _ in range(int(random.integers(1, 4))):
        new = int(random.integers(1, 9))
        _, lengths = by_length([[0] * int(random.integers(1, 5)) for _ in range(int(random.integers(1, 7)))])
        before = [
            tuple(torch.randn(1, key_heads, int(old), size) for _ in range(2)) for old in random.integers(1, 5, 1)
        ]
        cached: Any = before if random.random() < 0.5 else ()
        segments.append(Segment(start, new, list(runs(start + new, lengths)), cached=cached, record=True))
        start += new + sum(length * count for length, count in lengths)
    return Packing(segments, causal), start


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 6)])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_plain_packed_attention(seed: int, causal: bool, window: int | None, key_heads: int) -> None:
    random, size = np.random.default_rng(seed), 16
    torch.manual_seed(seed)
    layout, tokens = packed(random, causal, key_heads, size)
    query, key, value = (torch.randn(1, heads, tokens, size) for heads in (4, key_heads, key_heads))
    layer: Any = SimpleNamespace(layer_idx=0)
    plain, _ = packing.attend(layer, query, key, value, None, 0.3, layout, sliding_window=window)
    computed = [segment.computed.pop() for segment in layout.segments]
    ours = flex.attend(0, query, key, value, 0.3, replace(layout, masks={}), window)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)
    for segment, expected in zip(layout.segments, computed, strict=True):
        for one, other in zip(segment.computed[0], expected, strict=True):
            assert torch.equal(one, other)


def wide_decoder(folder: Path) -> Path:
    return models.decoder(folder, head_dim=16)


@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [models.packed, wide_decoder])
def test_scores_on_cuda_are_those_of_the_cpu(tmp_path: Path, make: Any, dtype: str) -> None:
    folder = str(make(tmp_path / "model"))
    requests = [ScoreRequest(CONTEXT, TEXTS, user) for user in ("ann", "bob")]
    expected = load_scorer(folder, "cpu", "float32").score(requests)
    scorer = load_scorer(folder, "cuda", dtype)
    for _ in range(2):  # the second time on kept contexts
        for found, right in zip(scorer.score(requests), expected, strict=True):
            if dtype == "float32":
                np.testing.assert_allclose(found, right, atol=1e-3, rtol=1e-3)
            else:
                assert np.corrcoef(found, right)[0, 1] > 0.97
