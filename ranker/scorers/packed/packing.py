"""Several requests in one sequence, `[context | c1 | c2 | ... ] [context | c1 | ...]`, and the attention over it.

A context is read once for all its candidates: the work is `P + N c` tokens instead of `N (P + c)`. A candidate sees
only its context and itself, so its score is the score that it would have alone. Nothing is padded and there is no
`(sum c)^2` mask: a candidate's attention is computed over the context and over itself, and the two are joined by their
log-sum-exp, as FlashAttention joins blocks (Dao et al. 2022, section 3.1).

Registered with transformers as the attention `NAME`, so every architecture that takes its attention from there can be
packed, decoder or encoder. On CUDA `flex` computes the same. Knows no model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from ranker.scorers.packed import flex
from ranker.scorers.packed.layout import KeysValues, Packing, Run, Segment, context_of

NAME = "afterclick_packed"
"""For `set_attn_implementation`; each forward pass then needs `packing=`."""

MIN_FLEX_HEAD_SIZE = 16
"""Smallest head size of FlexAttention on CUDA; smaller heads use the plain attention."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **_others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of one layer.

    Parameters
    ----------
    module : torch.nn.Module
        The attention layer; its `layer_idx` says which one.
    query : (1, heads, tokens, head size)
    key, value : (1, key heads, tokens, head size)
        Those of the tokens in the sequence; cached contexts bring their own.
    attention_mask : None
        Ignored: the packing says which tokens a token sees.
    scaling : float, optional
        By default 1 / sqrt(head size).
    packing : Packing
    sliding_window : int, optional
        How many tokens a token of this layer sees, itself included; None for all. A candidate must be shorter. It
        holds for a causal packing only: encoders with a window are not packed.

    Returns
    -------
    (1, tokens, heads, head size), and None for the weights.

    Raises
    ------
    TypeError
        There is no packing.
    """
    if packing is None:
        raise TypeError(f"attention {NAME} needs packing=")
    _, heads, tokens, size = query.shape
    layer = int(getattr(module, "layer_idx", 0) or 0)
    window = sliding_window if packing.causal else None
    if query.is_cuda and size >= MIN_FLEX_HEAD_SIZE:
        return flex.attend(layer, query, key, value, scaling, packing, window), None
    out = query.new_empty(1, tokens, heads, size)
    for segment in packing.segments:
        begin, end = segment.start, segment.start + segment.new
        context = context_of(segment, layer, key, value)
        if segment.new:
            attended = _context(query[:, :, begin:end], *context, scaling, packing.causal, window)
            out[:, begin:end] = attended.transpose(1, 2)
        if segment.runs:
            mask = None
            if window is not None:
                context = context[0][:, :, 1 - window :], context[1][:, :, 1 - window :]
                mask = _window_mask(packing, segment, context[0].shape[2], window, heads // key.shape[1], query)
            _candidates(out, query, key, value, context, segment.runs, scaling, packing.causal, mask)
    return out, None


def _context(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """Attention within the context, of its new tokens, which are the last of `key`."""
    new, whole = query.shape[2], key.shape[2]
    mask = None
    slides = window is not None and window < whole
    if causal and (new < whole or slides):
        positions = torch.arange(whole, device=query.device)
        own = positions[whole - new :, None]
        mask = positions <= own
        if window is not None and slides:
            mask &= positions > own - window
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=causal and mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _candidates(
    out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    context: KeysValues,
    candidate_runs: list[Run],
    scaling: float | None,
    causal: bool,
    context_mask: torch.Tensor | None,
) -> None:
    """Write the attention of candidates' tokens, over the context and over themselves, to `out`.

    Heads that share keys are folded together. `context_mask` is added to the logits of the folded tokens over the
    context.
    """
    heads, size, key_heads = query.shape[1], query.shape[3], key.shape[1]
    shared = heads // key_heads
    begin, end = candidate_runs[0].start, candidate_runs[-1].start + candidate_runs[-1].rows * candidate_runs[-1].length
    folded = query[:, :, begin:end].reshape(1, key_heads, shared * (end - begin), size)
    over_context, weight_context = _over_context(folded, context[0], context[1], scaling, context_mask)
    over_context = over_context.view(heads, end - begin, size)
    weight_context = weight_context.reshape(heads, end - begin)
    for start, count, length in candidate_runs:
        stop = start + count * length
        mask = _causal(length, shared, query) if causal else None
        q, k, v = (_split(tensor[0, :, start:stop], count, key_heads) for tensor in (query, key, value))
        own, weight_own = _written_out(q, k, v, scaling, mask)
        own = own.reshape(count, heads, length, size).transpose(0, 1)
        weight_own = weight_own.reshape(count, heads, length).transpose(0, 1)
        part = slice(start - begin, stop - begin)
        share = torch.sigmoid(weight_context[:, part].view(heads, count, length) - weight_own).to(own.dtype)
        joined = torch.lerp(own, over_context[:, part].view(heads, count, length, size), share[..., None])
        out[0, start:stop] = joined.permute(1, 2, 0, 3).reshape(stop - start, heads, size)


def _split(tokens: torch.Tensor, count: int, key_heads: int) -> torch.Tensor:
    """Split a run of candidates, (heads, tokens, size), into (count, key heads, tokens of those heads, size)."""
    heads, _, size = tokens.shape
    return tokens.view(heads, count, -1, size).transpose(0, 1).reshape(count, key_heads, -1, size)


def _causal(length: int, shared: int, like: torch.Tensor) -> torch.Tensor:
    """Mask of `shared` folded heads, (shared * length, length): -inf where a token would see a later one."""
    positions = torch.arange(length, device=like.device)
    hidden = (positions[:, None] < positions).repeat(shared, 1)
    return torch.zeros(hidden.shape, device=like.device).masked_fill_(hidden, float("-inf"))


def _window_mask(
    packing: Packing, segment: Segment, keys: int, window: int, shared: int, like: torch.Tensor
) -> torch.Tensor | None:
    """Mask over the context's last `keys` tokens, (shared * candidates' tokens, keys): -inf outside of the window.

    None if the window holds all of them. It is the same in all layers with this window.
    """
    longest = segment.runs[-1].length
    if longest - 1 + keys < window:
        return None
    name = window, segment.start
    if name not in packing.masks:
        offsets = torch.cat([torch.arange(run.length).repeat(run.rows) for run in segment.runs])
        hidden = torch.arange(keys) <= offsets[:, None] + keys - window
        mask = torch.zeros(hidden.shape, dtype=like.dtype).masked_fill_(hidden, float("-inf"))
        packing.masks[name] = mask.repeat(shared, 1).to(like.device)
    found: torch.Tensor = packing.masks[name]
    return found


def _over_context(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to many keys, and the logarithm of its softmax denominator, float32, without its weights in memory."""
    if query.device.type == "cpu" and not torch.is_grad_enabled():  # flash has no gradient for the logarithm
        flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        attended, log_sum = flash(query, key, value, attn_mask=mask, scale=scaling)
        return attended, log_sum
    return _written_out(query, key, value, scaling, mask)


def _written_out(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, with its weights in memory; `mask` is added to the logits."""
    logits = (query @ key.transpose(-1, -2)).float() * (scaling or query.shape[-1] ** -0.5)
    if mask is not None:
        logits += mask
    largest = logits.amax(-1, keepdim=True)
    weights = (logits - largest).exp_()
    total = weights.sum(-1, keepdim=True)
    return weights.to(value.dtype) @ value / total.to(value.dtype), (largest + total.log())[..., 0]


def _no_mask(*_: Any, **__: Any) -> None:
    """No mask: the packing says which tokens a token sees."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
