"""The weights of a model: its linear layers, all weights once, and weights that were read from a file.

Knows no form in which a file holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

MIN_OUTPUTS = 64
"""A layer with fewer outputs, like a scoring head, costs next to nothing as it is."""


class LinearLayer(NamedTuple):
    """A linear layer, the name of its weight in the model, and where it is."""

    weight_name: str
    linear: nn.Linear
    parent: nn.Module
    child_name: str


def linear_layers(model: nn.Module) -> list[LinearLayer]:
    """Return the linear layers, all but those that give the model's outputs."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return [
        LinearLayer(f"{name}.{child_name}.weight".lstrip("."), child, module, child_name)
        for name, module in model.named_modules()
        for child_name, child in module.named_children()
        if isinstance(child, nn.Linear) and child is not output and child.out_features >= MIN_OUTPUTS
    ]


def unique(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and value of each weight; tied weights once."""
    seen = set[int]()
    for name, weight in model.state_dict().items():
        if weight.data_ptr() not in seen:
            seen.add(weight.data_ptr())
            yield name, weight


def assign(model: Any, arrays: Mapping[str, torch.Tensor]) -> list[str]:
    """Put weights into a model. Returns the names of those that are not among them."""
    missing, _ = model.load_state_dict(arrays, strict=False)
    model.tie_weights()
    weights = model.state_dict()
    read = {weights[name].data_ptr() for name in arrays if name in weights}
    return [name for name in missing if weights[name].data_ptr() not in read]  # tied weights are in the file once
