"""A model's linear layers in 8-bit integers: less exact, and faster on a CPU with integer dot products (VNNI).

Weights are quantised once, with a scale for each output; a layer's inputs as they come, with a scale for each token:
a scale for all of them at once would let one token's outlier take the others' digits. Biases, norms, attention and the
last layer, which gives the scores, stay in float32. A folder may hold weights that are kept so: a quarter of the
size, and the very numbers that the layers would be given. Called by `model_source`, and by who compresses a model.

Source: Dettmers et al., LLM.int8(), 2022 (vector-wise quantisation, absmax), without its outlier columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

SCALE = ":scale"
"""Behind a matrix' name: its rows' scales, in a file of int8 weights."""
LARGEST = 127
TINY = 1e-8
"""Of a row of zeros, the largest."""
ROWS_AT_ONCE = 256
"""So many stay in a core's cache from step to step: 1,536 numbers each in 0.55 of the time of 1,450 rows at once."""
FEWEST_OUTPUTS = 64
"""A layer with fewer, like a scoring head, costs nothing as it is."""


class Int8Linear(nn.Module):
    """A linear layer that was quantised.

    Attributes
    ----------
    weight : (in, out) int8.
    scale : (out,) float32; `weight * scale` is what was quantised.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = _scale(weight)
        self.register_buffer("weight", _rounded(weight, scale).t())
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in) float32 -> (..., out) float32."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        outputs = rows.new_empty(len(rows), len(self.scale))
        for begin in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[begin : begin + ROWS_AT_ONCE]
            scale = _scale(some)
            part = outputs[begin : begin + ROWS_AT_ONCE]
            part.copy_(torch._int_mm(_rounded(some, scale), self.weight)).mul_(scale).mul_(self.scale)
            if self.bias is not None:
                part.add_(self.bias)
        return outputs.view(*inputs.shape[:-1], -1)


def quantise(model: nn.Module) -> None:
    """Replace the linear layers of a float32 model, all but those that give its outputs."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and child is not output and child.out_features >= FEWEST_OUTPUTS:
                setattr(module, name, Int8Linear(child))


def save(model: nn.Module, file: Path) -> None:
    """Write a model's weights, its matrices in int8; of tied weights the first."""
    kept: dict[str, torch.Tensor] = {}
    written = set[int]()
    for name, weight in model.state_dict().items():
        if weight.data_ptr() in written:
            continue
        written.add(weight.data_ptr())
        if weight.ndim == 2 and weight.is_floating_point() and len(weight) >= FEWEST_OUTPUTS:
            scale = _scale(weight.float())
            kept[name], kept[name + SCALE] = _rounded(weight.float(), scale), scale[:, 0].clone()
        else:
            kept[name] = weight.contiguous()
    save_file(kept, file)


def fill(model: Any, file: Path) -> list[str]:
    """Give a model the weights that `save` wrote, as its own numbers again; `quantise` makes the same integers of them.

    Returns the names of the weights that the file lacks.
    """
    kept = load_file(file)
    scales = {name: kept.pop(name) for name in list(kept) if name.endswith(SCALE)}
    for name, scale in scales.items():
        of = name.removesuffix(SCALE)
        kept[of] = kept[of] * scale[:, None]
    missing, _ = model.load_state_dict(kept, strict=False)
    model.tie_weights()
    weights = model.state_dict()
    there = {weights[name].data_ptr() for name in kept if name in weights}
    return [name for name in missing if weights[name].data_ptr() not in there]


def _scale(rows: torch.Tensor) -> torch.Tensor:
    return rows.abs().amax(1, keepdim=True).clamp_min_(TINY).div_(LARGEST)


def _rounded(rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (rows / scale).round_().to(torch.int8)
