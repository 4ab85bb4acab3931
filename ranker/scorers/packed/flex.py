"""The packed attention on CUDA: one FlexAttention over the whole sequence (Dong et al. 2024), compiled.

A token sees at most two runs of keys: a part of its request's context, and its own candidate or the part of it that is
before it. The mask is those four numbers of each token, and says in blocks of 128 which keys are not computed, so the
work stays that of `packing`, which is the plain reference. It is made once for all layers with the same window.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx.experimental import _config
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from encoders.models.source import ModelUnsupported
from ranker.scorers.packed.layout import Packing, Segment, context_of

BLOCK = 128
"""Tokens of a block, as FlexAttention's kernels have them."""
LEAST_BLOCKS = 2
"""Of tokens and of keys in a mask, some of which may be empty: a graph for sequences of one block would be another."""
GRAPHS = 64
"""Of a process; torch's own limit is 8, which the models of a benchmark exceed."""
ERROR_CHARACTERS = 300
"""Of a compiler's error, for a message."""
KERNEL = {"FORCE_USE_FLEX_ATTENTION": True}
"""One kernel for all lengths: another for less than a block would be compiled too."""


def attend(
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    packing: Packing,
    window: int | None = None,
) -> torch.Tensor:
    """Return the attention of one layer; for the shapes see `packing.attend`.

    Raises
    ------
    ModelUnsupported
        The attention cannot be compiled.
    """
    for segment in packing.segments:
        if segment.record:
            context_of(segment, layer, key, value)
    key, value = (_with_cached(tensor, packing.segments, layer, part) for part, tensor in enumerate((key, value)))
    if window not in packing.masks:
        packing.masks[window] = _mask(packing, query.shape[2], query.device, window)
        # torch keeps such settings by thread
        _config.use_duck_shape = False  # or as many blocks as the model has heads would be a graph of their own
        torch._dynamo.config.recompile_limit = GRAPHS
    try:
        attended: torch.Tensor = _flex(query.device.type)(
            query,
            key,
            value,
            block_mask=packing.masks[window],
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
            kernel_options=KERNEL,
        )
    except torch._dynamo.exc.TorchDynamoException as error:
        raise ModelUnsupported(
            f"attention on CUDA: got {str(error).strip()[:ERROR_CHARACTERS]!r} where torch compiled it, expected a GPU "
            "and a C compiler that Triton can use; install gcc and libc6-dev, or set the device to 'cpu'"
        ) from error
    return attended.transpose(1, 2)


def _with_cached(tensor: torch.Tensor, segments: list[Segment], layer: int, part: int) -> torch.Tensor:
    """Keys (part 0) or values (1) with those of cached contexts: each request's before its new tokens."""
    parts, end = list[torch.Tensor](), tensor.shape[2]
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        if segment.cached:
            parts.append(segment.cached[layer][part])
        parts.append(tensor[:, :, segment.start : following.start if following else end])
    return torch.cat(parts, 2).contiguous()  # another order in memory would be another graph


def _mask(packing: Packing, tokens: int, device: torch.device, window: int | None) -> BlockMask:
    """The mask of a packing's sequence, and which blocks of keys each block of tokens sees in part and as a whole."""
    keys = tokens + sum(_cached_tokens(segment) for segment in packing.segments)
    bounds = [torch.from_numpy(row).to(device) for row in _seen_keys(packing, tokens, window)]
    context_start, context_end, own_start, own_end = bounds

    def sees(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        of_context = (key >= context_start[query]) & (key < context_end[query])
        return of_context | ((key >= own_start[query]) & (key < own_end[query]))

    block_starts = torch.arange(0, max(keys, LEAST_BLOCKS * BLOCK), BLOCK, device=device)
    some = torch.zeros(tokens, len(block_starts), dtype=torch.bool, device=device)
    whole = torch.zeros_like(some)
    for start, end in ((context_start, context_end), (own_start, own_end)):
        start, end = start[:, None], end[:, None]
        some |= (start < end) & (start < block_starts + BLOCK) & (end > block_starts)
        whole |= (start <= block_starts) & (end >= block_starts + BLOCK)
    some, whole = _by_blocks(some, False).any(1), _by_blocks(whole, True).all(1)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~whole), *_listed(whole), BLOCK, mask_mod=sees, seq_lengths=(tokens, keys)
    )


def _seen_keys(packing: Packing, tokens: int, window: int | None) -> NDArray[np.int32]:
    """Bounds of the keys that each token sees, (4, tokens): start and end in its context, and in its own candidate."""
    seen = np.zeros((4, tokens), np.int32)
    before = 0  # cached keys before this request's new tokens
    for segment in packing.segments:
        first = segment.start + before
        before += _cached_tokens(segment)
        after = segment.start + before + segment.new  # the key after the context
        key = np.arange(after - segment.new, after)
        part = seen[:, segment.start : segment.start + segment.new]
        part[0], part[1] = first, key + 1 if packing.causal else after
        if window is not None:
            part[0] = np.maximum(first, key + 1 - window)
        for run in segment.runs:
            part = seen[:, run.start : run.start + run.rows * run.length]
            offset = np.tile(np.arange(run.length), run.rows)
            own = np.arange(part.shape[1]) + run.start + before - offset  # the candidate's first key
            part[0], part[1] = first, after
            part[2], part[3] = own, own + (offset + 1 if packing.causal else run.length)
            if window is not None:
                part[0] = np.maximum(first, after + offset + 1 - window)
    return seen


def _cached_tokens(segment: Segment) -> int:
    return segment.cached[0][0].shape[2] if segment.cached else 0


def _by_blocks(of_tokens: torch.Tensor, padding: bool) -> torch.Tensor:
    """Group the rows of tokens by blocks: (blocks, 128, columns); `padding` fills the last."""
    missing = max(-len(of_tokens) % BLOCK, LEAST_BLOCKS * BLOCK - len(of_tokens))
    padded = torch.nn.functional.pad(of_tokens, (0, 0, 0, missing), value=padding)
    return padded.view(-1, BLOCK, of_tokens.shape[1])


def _listed(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many blocks of keys each block of tokens has, and which: theirs first, as `BlockMask` wants them."""
    order = blocks.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return blocks.sum(1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None].contiguous()


@cache
def _flex(device: str) -> Any:
    """FlexAttention, compiled on CUDA. Elsewhere it holds all attention weights in memory; only tests do that."""
    return compiled() if device == "cuda" else flex_attention


def compiled(backend: str | Callable[..., Any] = "inductor") -> Any:
    """Compile FlexAttention: one graph for sequences of all lengths; an error where it would run uncompiled."""
    return torch.compile(flex_attention, dynamic=True, fullgraph=True, backend=backend)
