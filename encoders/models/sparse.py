"""Linear layers in which two of every four weights are zero (2:4), in training, on disk and on CUDA.

A folder may hold such weights without their zeros: 53% of the size in float32, 56% in 16 bits. NVIDIA's tensor cores
(Ampere and later) skip the zeros, by cuSPARSELt and torch's semi-structured tensors. Each shape of layer is timed both
ways when a model is loaded, since a small product takes longer in this form. A CPU has no such products: it
computes with the zeros. Layers are recognised by their weights, so other makers' 2:4 models run like ours.

Source: Mishra et al., "Accelerating sparse deep neural networks" (2021): prune by magnitude, then train with the zeros
held.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.sparse import SparseSemiStructuredTensor
from torch.utils.benchmark import Timer

from encoders.models.weights import LinearLayer, assign, linear_layers, unique

logger = logging.getLogger(__name__)

KEPT = ":kept"
"""Suffix of a matrix' name: which two of each four weights a file holds, four bits for each four weights."""
PACKED_COLUMNS, CUDA_COLUMNS = 8, 16
"""Divisors of the sizes of a layer that takes part: our file needs the first, cuSPARSELt the second."""
PROBE_TOKENS, PROBE_S = 2048, 0.05
"""Of a timed product: the tokens of a small pass, and how long it is repeated."""


def prune(model: nn.Module) -> None:
    """Set the two smallest of every four weights of a row to zero, in all layers that take part."""
    for layer in _layers(model):
        weight = layer.linear.weight.data
        groups = weight.view(-1, 4)
        kept = torch.zeros_like(groups).scatter_(1, groups.abs().topk(2, dim=1).indices, 1)
        weight.mul_(kept.view_as(weight))


def sparse_layers(model: nn.Module) -> list[LinearLayer]:
    """Return the layers whose weights are 2:4."""
    return [layer for layer in _layers(model) if _is_sparse(layer.linear.weight.data)]


def hold(layers: list[LinearLayer]) -> None:
    """Let the zeros of these layers stay zero in training: they get no gradient, and weight decay leaves them alone."""
    for layer in layers:
        kept = layer.linear.weight.detach() != 0
        layer.linear.weight.register_hook(kept.mul)  # type: ignore[no-untyped-call]


def save(model: nn.Module, file: Path, dtype: torch.dtype) -> None:
    """Write a model's weights in this dtype, those of 2:4 layers without their zeros; tied weights are written once."""
    sparse = {layer.weight_name for layer in sparse_layers(model)}
    arrays: dict[str, torch.Tensor] = {}
    for name, weight in unique(model):
        value = weight.to(dtype) if weight.is_floating_point() else weight
        if name in sparse:
            arrays[name], arrays[name + KEPT] = _packed(value)
        else:
            arrays[name] = value.contiguous()
    save_file(arrays, file)


def read_into(model: Any, file: Path) -> list[str]:
    """Load the weights that `save` wrote into a model.

    Returns
    -------
    list of str
        The names of the weights that the file lacks.
    """
    arrays = load_file(file)
    for name in [name for name in arrays if name.endswith(KEPT)]:
        matrix = name.removesuffix(KEPT)
        arrays[matrix] = _unpacked(arrays[matrix], arrays.pop(name))
    return assign(model, arrays)


def skip_zeros(model: nn.Module) -> None:
    """Let CUDA skip the zeros of a model's 2:4 layers, in the shapes in which that is faster; the log says how many."""
    layers = [
        layer
        for layer in sparse_layers(model)
        if layer.linear.weight.dtype in (torch.float16, torch.bfloat16)
        and not any(size % CUDA_COLUMNS for size in layer.linear.weight.shape)
    ]
    if not layers:
        return
    if not torch.backends.cusparselt.is_available():
        logger.warning(
            "%d layers are 2:4 sparse, and this build of torch has no cuSPARSELt: they run dense", len(layers)
        )
        return
    speed_ups: dict[torch.Size, float] = {}
    skipping = 0
    for layer in layers:
        sparse = _semi_structured(layer.linear.weight)
        shape = layer.linear.weight.shape
        if shape not in speed_ups:
            speed_ups[shape] = _speed_up(layer.linear, sparse)
        if speed_ups[shape] > 1:
            layer.linear.weight = sparse
            skipping += 1
    measured = ", ".join(f"{rows}x{columns} {ratio:.2f}x" for (rows, columns), ratio in speed_ups.items())
    logger.info("%d of %d layers that are 2:4 sparse skip their zeros (%s)", skipping, len(layers), measured)


def _layers(model: nn.Module) -> list[LinearLayer]:
    return [layer for layer in linear_layers(model) if layer.linear.in_features % PACKED_COLUMNS == 0]


def _is_sparse(weight: torch.Tensor) -> bool:
    if isinstance(weight, SparseSemiStructuredTensor):
        return True
    groups = weight.reshape(-1, 4)
    return all(bool(((part != 0).sum(1) <= 2).all()) for part in (groups[:1024], groups))  # a dense one ends early


def _packed(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The values that are kept, (out, in / 2), and their places, (out * in / 8,) uint8."""
    groups = weight.reshape(-1, 4)
    places = groups.abs().topk(2, dim=1).indices.sort(dim=1).values
    codes = (places[:, 0] | places[:, 1] << 2).to(torch.uint8).view(-1, 2)
    return groups.gather(1, places).view(len(weight), -1), codes[:, 0] | codes[:, 1] << 4


def _unpacked(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    codes = torch.stack([kept & 15, kept >> 4], dim=1).flatten()
    places = torch.stack([codes & 3, codes >> 2], dim=1).long()
    groups = values.new_zeros(len(codes), 4).scatter_(1, places, values.view(-1, 2))
    return groups.view(len(values), -1)


def _semi_structured(weight: torch.Tensor) -> nn.Parameter:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of SparseSemiStructuredTensor is in prototype stage")
        return nn.Parameter(torch.sparse.to_sparse_semi_structured(weight.detach()), requires_grad=False)


@torch.inference_mode()
def _speed_up(linear: nn.Linear, sparse: nn.Parameter) -> float:
    """How many times as fast as the dense product the sparse one is."""
    inputs = torch.randn(PROBE_TOKENS, linear.in_features, dtype=sparse.dtype, device=sparse.device)
    seconds = [
        Timer("product(inputs, weight)", globals={"product": nn.functional.linear, "inputs": inputs, "weight": weight})
        .blocked_autorange(min_run_time=PROBE_S)
        .median
        for weight in (linear.weight, sparse)
    ]
    return seconds[0] / seconds[1]
