"""CUDA's attention against the plain one: on this machine's CPU uncompiled, and on CUDA where there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from encoders.models.source import ModelUnsupported
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.scorers.packed import flex, packing
from ranker.scorers.packed.layout import Packing, Segment, by_length, runs
from tests import models

CONTEXT = "Bought Trail running jacket 2 days ago\nClicked Wool hat today"
TEXTS = ["Blue shoes size 42", "Umbrella", "Red tent for two", "Coffee maker", "Wool hat", "Camping stove"] * 5
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def packed(
    random: np.random.Generator, causal: bool, key_heads: int, size: int, longest: int = 8
) -> tuple[Packing, int]:
    """A few users, some of whose contexts are partly kept, and the tokens of the sequence."""
    segments, start = [], 0
    for _ in range(int(random.integers(1, 4))):
        new = int(random.integers(1, longest + 1))
        _, lengths = by_length([[0] * int(random.integers(1, 5)) for _ in range(int(random.integers(1, longest)))])
        old = int(random.integers(1, longest))
        before = [tuple(torch.randn(1, key_heads, old, size) for _ in range(2))]
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


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 150)])
@pytest.mark.parametrize("seed", range(6))
def test_blocks_are_left_out_or_taken_as_a_whole_where_the_mask_says_so(
    seed: int, causal: bool, window: int | None
) -> None:
    layout, tokens = packed(np.random.default_rng(seed), causal, 1, 1, longest=300)
    mask = flex._mask(layout, tokens, torch.device("cpu"), window)
    keys = tokens + sum(flex._cached_tokens(segment) for segment in layout.segments)
    assert (mask.seq_lengths, mask.BLOCK_SIZE) == ((tokens, keys), (flex.BLOCK, flex.BLOCK))
    sees = mask.mask_mod(0, 0, torch.arange(tokens)[:, None], torch.arange(keys))  # type: ignore[arg-type]
    for first in range(0, tokens, flex.BLOCK):
        row = first // flex.BLOCK
        of_row = [sees[first : first + flex.BLOCK, key : key + flex.BLOCK] for key in range(0, keys, flex.BLOCK)]
        whole = [key for key, block in enumerate(of_row) if block.shape[1] == flex.BLOCK and block.all()]
        partly = [key for key, block in enumerate(of_row) if key not in whole and block.any()]
        assert listed(mask.full_kv_num_blocks, mask.full_kv_indices, row) == whole
        assert listed(mask.kv_num_blocks, mask.kv_indices, row) == partly


def listed(counts: Any, indices: Any, row: int) -> list[int]:
    return list(indices[0, 0, row, : counts[0, 0, row]].tolist())


def test_one_compiled_graph_serves_sequences_of_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = flex.compiled(backend)
    monkeypatch.setattr(flex, "_flex", lambda _device: compiled)
    with torch.inference_mode():
        for seed in range(30):
            layout, tokens = packed(np.random.default_rng(seed), True, 2, 16, longest=(8, 60, 300)[seed % 3])
            query, key, value = (torch.randn(1, tokens, heads, 16).transpose(1, 2) for heads in (4, 2, 2))
            flex.attend(0, query, key, value, 0.3, layout)
    assert len(graphs) == 1


def test_an_attention_that_cannot_be_compiled_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_compiler(*_: Any, **__: Any) -> None:
        raise torch._dynamo.exc.BackendCompilerFailed(without_compiler, RuntimeError("Failed to find C compiler"), None)

    monkeypatch.setattr(flex, "_flex", lambda _device: without_compiler)
    layout, tokens = packed(np.random.default_rng(1), True, 2, 16)
    query, key, value = (torch.randn(1, heads, tokens, 16) for heads in (4, 2, 2))
    with pytest.raises(ModelUnsupported, match=r"Failed to find C compiler.*install gcc"):
        flex.attend(0, query, key, value, 0.3, layout)


def wide_packed(folder: Path) -> Path:
    return models.packed(folder, hidden_size=64, num_attention_heads=4)


def wide_decoder(folder: Path) -> Path:
    return models.decoder(folder, head_dim=16)


def wide_sliding_decoder(folder: Path) -> Path:
    return models.base_decoder(folder, head_dim=16)


@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [wide_packed, wide_decoder, wide_sliding_decoder])
def test_scores_on_cuda_are_those_of_the_cpu(tmp_path: Path, make: Any, dtype: str) -> None:
    folder = str(make(tmp_path / "model"))
    scorer, reference = load_scorer(folder, "cuda", dtype), load_scorer(folder, "cpu", "float32")
    line = "\nClicked Camping stove yesterday"
    longest = 1 if make is wide_packed else 12  # lines: the encoder has few positions
    for lines in (0, 1, longest):  # a context that grows is kept
        requests = [ScoreRequest(CONTEXT + line * lines, TEXTS, user) for user in ("ann", "bob")]
        for found, right in zip(scorer.score(requests), reference.score(requests), strict=True):
            if dtype == "float32":
                np.testing.assert_allclose(found, right, atol=1e-3, rtol=1e-3)
            else:
                assert np.corrcoef(found, right)[0, 1] > 0.97
