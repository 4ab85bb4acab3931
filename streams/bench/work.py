"""Useful work of a model, the rate of plain matrix products that bounds it, and the clock and processor for both.

Knows a model by its `config.json` alone. Called by `scorer`, `packed` and `command`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from encoders.models import source as model_source
from encoders.models.device import Placement

MATMULS = 8

T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """A transformer's sizes; a `causal` one is a decoder, whose MLP has a third matrix, the gate."""

    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    causal: bool

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """Read them from a model's `config.json`."""
        config = model_source.read_json(folder, "config.json", dict) or {}
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return cls(
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            key_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            causal=str((config.get("architectures") or [""])[0]).endswith("ForCausalLM"),
        )

    @property
    def weights(self) -> int:
        """Of the linear layers: queries, keys, values and output, and the MLP.

        >>> Shape(hidden=4, inner=8, layers=2, heads=2, key_heads=1, head_size=2, causal=True).weights
        288
        """
        attention = 2 * self.hidden * self.head_size * (self.heads + self.key_heads)
        return self.layers * (attention + (3 if self.causal else 2) * self.hidden * self.inner)

    def flops(self, context: float, own: float, candidates: int) -> float:
        """Operations of one list that no packing can save: linear layers and attention.

        Parameters
        ----------
        context, own : tokens of the context, and of all candidates together.
        candidates : how many of them; each sees the context and itself.
        """
        length = own / candidates
        if self.causal:  # a token sees on average half of its own text
            pairs = context * context / 2 + own * (context + length / 2)
        else:
            pairs = context * context + own * (context + length)
        return 2 * self.weights * (context + own) + 4 * self.layers * self.heads * self.head_size * pairs


def matmul_gflops(placement: Placement, size: int) -> float:
    """The rate of plain products of square matrices of `size`, on all threads, in 1e9 operations a second."""
    dtype = getattr(torch, placement.dtype)
    left, right = (torch.ones(size, size, dtype=dtype, device=placement.device) for _ in range(2))

    product_of = torch._int_mm if dtype is torch.int8 else torch.matmul

    def multiply(times: int) -> float:
        for _ in range(times):
            product = product_of(left, right)
        return float(product[0, 0])  # waits for a GPU

    seconds(multiply, [1])  # what the first call does once
    return 2 * size**3 * MATMULS / seconds(multiply, [MATMULS]) / 1e9


def seconds(action: Callable[[T], object], inputs: Sequence[T]) -> float:
    """Time `action` on all inputs, one after the other."""
    begin = time.perf_counter()
    for given in inputs:
        action(given)
    return time.perf_counter() - begin


def processor() -> dict[str, str]:
    """The fields of /proc/cpuinfo, of the last processor; empty where there is none."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    told = dict(line.partition(":")[::2] for line in lines)
    return {key.strip(): value.strip() for key, value in told.items()}
