"""The operations that a transformer must do for a list.

Reads a model's `config.json` and nothing else of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from encoders.models import source as model_source


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
