"""The packed attention on CUDA: one FlexAttention over the whole sequence (Dong et al. 2024), compiled.

Its mask says by position which tokens a token sees, in blocks of 128. Blocks that no token sees are not computed, so
the work stays that of `packing`, which is the plain reference. The mask is made once for all layers
with the same window.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ranker.scorers.packed.layout import Packing, context_of

CONTEXT = -1
"""Stands for a candidate's number in a token of the context."""


def attend(
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    packing: Packing,
    window: int | None = None,
) -> torch.Tensor:
    """Return the attention of one layer; for the shapes see `packing.attend`. Cached keys come before all others."""
    cached = [segment.cached[layer] for segment in packing.segments if segment.cached]
    for segment in packing.segments:
        if segment.record:
            context_of(segment, layer, key, value)
    if cached:
        key = torch.cat([*(keys for keys, _ in cached), key], 2)
        value = torch.cat([*(values for _, values in cached), value], 2)
    if window not in packing.masks:
        packing.masks[window] = _mask(packing, query.shape[2], query.device, window)
    attended: torch.Tensor = _flex(query.device.type)(
        query,
        key,
        value,
        block_mask=packing.masks[window],
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended.transpose(1, 2)


def _mask(packing: Packing, tokens: int, device: torch.device, window: int | None) -> Any:
    """A token sees the context of its request and its own candidate; only what is before it and in its window, if
    causal.
    """
    cached_tokens: list[tuple[int, int, int]] = []
    new_tokens = [(0, 0, 0)] * tokens
    for request, segment in enumerate(packing.segments):
        cached = segment.cached[0][0].shape[2] if segment.cached else 0
        cached_tokens += [(request, CONTEXT, position) for position in range(cached)]
        shared, number = cached + segment.new, 0
        new_tokens[segment.start : segment.start + segment.new] = [
            (request, CONTEXT, position) for position in range(cached, shared)
        ]
        for run in segment.runs:
            for start in range(run.start, run.start + run.rows * run.length, run.length):
                row = [(request, number, position) for position in range(shared, shared + run.length)]
                new_tokens[start : start + run.length] = row
                number += 1
    request_of, candidate_of, position_of = torch.tensor(cached_tokens + new_tokens, device=device).unbind(1)
    first_query = len(cached_tokens)

    def sees(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        query = query + first_query
        visible = (candidate_of[key] == CONTEXT) | (candidate_of[key] == candidate_of[query])
        visible = visible & (request_of[key] == request_of[query])
        if window is not None:
            visible = visible & (position_of[key] > position_of[query] - window)
        return visible & (position_of[key] <= position_of[query]) if packing.causal else visible

    compiled: Any = {"_compile": True} if device.type == "cuda" else {}
    return create_block_mask(sees, None, None, tokens, first_query + tokens, device=device.type, **compiled)


@cache
def _flex(device: str) -> Any:
    """FlexAttention, compiled on CUDA. Elsewhere it holds all attention weights in memory; only tests do that."""
    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention
