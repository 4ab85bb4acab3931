"""The packed attention on CUDA: one FlexAttention over the whole sequence (Dong et al. 2024), compiled.

Its mask says who sees whom by index, in blocks of 128: blocks that nobody sees are not computed, so the work stays that
of `packing`, which is the plain reference to this. The mask is made once for all layers. Called by `packing`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ranker.scorers.packed.layout import Packing, context_of

CONTEXT = -1
"""In place of a candidate's number, for a token of the context."""


def attend(
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    packing: Packing,
) -> torch.Tensor:
    """The attention of one layer; for the shapes see `packing.attend`. Kept contexts' keys stand before all others."""
    kept = [pack.kept[layer] for pack in packing.packs if pack.kept]
    for pack in packing.packs:
        if pack.keep:
            context_of(pack, layer, key, value)
    if kept:
        key = torch.cat([*(keys for keys, _ in kept), key], 2)
        value = torch.cat([*(values for _, values in kept), value], 2)
    if not packing.masks:
        packing.masks.append(_mask(packing, query.shape[2], query.device))
    attended: torch.Tensor = _flex(query.device.type)(
        query,
        key,
        value,
        block_mask=packing.masks[0],
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended.transpose(1, 2)


def _mask(packing: Packing, tokens: int, device: torch.device) -> Any:
    """Who sees whom: within a user, the context, and a candidate's tokens each other; in order, if causal."""
    before: list[tuple[int, int, int]] = []
    new = [(0, 0, 0)] * tokens
    for user, pack in enumerate(packing.packs):
        kept = pack.kept[0][0].shape[2] if pack.kept else 0
        before += [(user, CONTEXT, place) for place in range(kept)]
        shared, number = kept + pack.new, 0
        new[pack.start : pack.start + pack.new] = [(user, CONTEXT, place) for place in range(kept, shared)]
        for run in pack.runs:
            for start in range(run.start, run.start + run.rows * run.length, run.length):
                row = [(user, number, place) for place in range(shared, shared + run.length)]
                new[start : start + run.length] = row
                number += 1
    user_of, candidate_of, place_of = torch.tensor(before + new, device=device).unbind(1)
    first = len(before)

    def seen(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        query = query + first
        visible = (candidate_of[key] == CONTEXT) | (candidate_of[key] == candidate_of[query])
        visible = visible & (user_of[key] == user_of[query])
        return visible & (place_of[key] <= place_of[query]) if packing.causal else visible

    compiled: Any = {"_compile": True} if device.type == "cuda" else {}
    return create_block_mask(seen, None, None, tokens, first + tokens, device=device.type, **compiled)


@cache
def _flex(device: str) -> Any:
    """Compiled where that pays; eager it holds all weights in memory, which is for tests."""
    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention
