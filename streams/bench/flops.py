"""The operations that a transformer must do for a list, and the rate of matrix products that bounds them.

Reads a model's `config.json` and nothing else of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from encoders.models import source as model_source
from encoders.models.device import Placement
from streams.bench.timing import seconds

MATMULS = 8


@dataclass(frozen=True)
class TransformerSizes:
    """The sizes of a transformer's layers.

    Attributes
    ----------
    hidden, inner : int
        Width of the hidden states, and of the MLP between its matrices.
    layers, heads, key_heads, head_size : int
        `key_heads` is smaller than `heads` if heads share keys and values.
    causal : bool
        True for a decoder. A decoder's MLP has a third matrix, the gate.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    causal: bool

    @classmethod
    def read(cls, folder: Path) -> TransformerSizes:
        """Read the sizes from the `config.json` of a model's folder."""
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
        """The number of weights in the linear layers: queries, keys, values and output, and the MLP.

        >>> sizes = TransformerSizes(hidden=4, inner=8, layers=2, heads=2, key_heads=1, head_size=2, causal=True)
        >>> sizes.weights
        288
        """
        attention = 2 * self.hidden * self.head_size * (self.heads + self.key_heads)
        return self.layers * (attention + (3 if self.causal else 2) * self.hidden * self.inner)

    def flops(self, context: float, own: float, candidates: int) -> float:
        """Return the operations of one list that no packing can save: linear layers and attention.

        Parameters
        ----------
        context, own : float
            Tokens of the context, and of all candidates together.
        candidates : int
            The number of candidates. Each candidate attends to the context and to itself.
        """
        length = own / candidates
        if self.causal:  # a token attends on average to half of its own text
            pairs = context * context / 2 + own * (context + length / 2)
        else:
            pairs = context * context + own * (context + length)
        return 2 * self.weights * (context + own) + 4 * self.layers * self.heads * self.head_size * pairs


def matmul_gflops(placement: Placement, size: int) -> float:
    """Measure plain products of square matrices on all threads.

    Parameters
    ----------
    placement : Placement
        The device and the number format.
    size : int
        Rows and columns of each matrix.

    Returns
    -------
    float
        In 1e9 operations a second.
    """
    dtype = getattr(torch, placement.dtype)
    left, right = (torch.ones(size, size, dtype=dtype, device=placement.device) for _ in range(2))

    product_of = torch._int_mm if dtype is torch.int8 else torch.matmul

    def multiply(times: int) -> float:
        for _ in range(times):
            product = product_of(left, right)
        return float(product[0, 0])  # waits for a GPU

    multiply(1)  # the first call allocates and chooses kernels
    return 2 * size**3 * MATMULS / seconds(multiply, MATMULS) / 1e9
