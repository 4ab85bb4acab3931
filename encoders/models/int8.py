"""A model's linear layers in 8-bit integers: less exact, and faster on a CPU with integer dot products (VNNI).

Weights are quantised once, with a scale for each output; the inputs of a layer at each call, with a scale for each
token: with one scale for all of them, an outlier in one token would take the digits of all others. Biases, norms,
attention and the last layer, which gives the scores, stay in float32. A folder may hold weights in this form: a quarter
of the size, and exactly the numbers that the layers would get.

torchao 0.18's Int8DynamicActivationInt8WeightConfig agrees with float32 equally well (mean cosine .995 for MiniLM) but
takes 1.8 to 2.9 times the time of this module on one core of an AMD EPYC with AVX512-VNNI. With torch.compile one of
its layers takes 0.76 to 0.87 of the time, but needs a C++ compiler on the host and minutes of compilation at start.

Source: Dettmers et al., LLM.int8(), 2022 (vector-wise quantisation, absmax), without its outlier columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from encoders.models.weights import MIN_OUTPUTS, assign, linear_layers, unique

SCALE = ":scale"
"""Suffix of a matrix' name: the scales of its rows, in a file of int8 weights."""
MAX_CODE = 127
MIN_ABS = 1e-8
"""Stands for the largest number of a row of zeros."""
ROWS_AT_ONCE = 256
"""They stay in a core's cache from step to step: with 1,536 numbers each, 0.55 of the time of 1,450 rows at once."""


class Int8Linear(nn.Module):
    """A quantised linear layer.

    Attributes
    ----------
    weight : (in, out) int8
    scale : (out,) float32
        `weight * scale` is the original weight, rounded.
    bias : (out,) float32, optional
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
            block = rows[begin : begin + ROWS_AT_ONCE]
            scale = _scale(block)
            part = outputs[begin : begin + ROWS_AT_ONCE]
            part.copy_(torch._int_mm(_rounded(block, scale), self.weight)).mul_(scale).mul_(self.scale)
            if self.bias is not None:
                part.add_(self.bias)
        return outputs.view(*inputs.shape[:-1], -1)


def quantise(model: nn.Module) -> None:
    """Replace the linear layers of a float32 model, all but those that give its outputs."""
    for layer in linear_layers(model):
        setattr(layer.parent, layer.child_name, Int8Linear(layer.linear))


def save(model: nn.Module, file: Path) -> None:
    """Write a model's weights, matrices in int8; tied weights are written once."""
    arrays: dict[str, torch.Tensor] = {}
    for name, weight in unique(model):
        if weight.ndim == 2 and weight.is_floating_point() and len(weight) >= MIN_OUTPUTS:
            scale = _scale(weight.float())
            arrays[name], arrays[name + SCALE] = _rounded(weight.float(), scale), scale[:, 0].clone()
        else:
            arrays[name] = weight.contiguous()
    save_file(arrays, file)


def read_into(model: Any, file: Path) -> list[str]:
    """Load the weights that `save` wrote into a model, as float; `quantise` makes the same integers of them again.

    Returns
    -------
    list of str
        The names of the weights that the file lacks.
    """
    arrays = load_file(file)
    scales = {name: arrays.pop(name) for name in list(arrays) if name.endswith(SCALE)}
    for name, scale in scales.items():
        matrix = name.removesuffix(SCALE)
        arrays[matrix] = arrays[matrix] * scale[:, None]
    return assign(model, arrays)


def _scale(rows: torch.Tensor) -> torch.Tensor:
    return rows.abs().amax(1, keepdim=True).clamp_min_(MIN_ABS).div_(MAX_CODE)


def _rounded(rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (rows / scale).round_().to(torch.int8)
