"""Two rows of a decoder's LM head: the logits of its answers yes and no. Knows no prompt."""

from __future__ import annotations

import torch


class YesNoHead(torch.nn.Module):
    """The rows of an LM head that belong to the two answers, in float32.

    bfloat16 logits near 20 are 0.125 apart, so candidates would tie.

    Parameters
    ----------
    head : torch.nn.Linear
        The whole LM head.
    answers : list of int
        Token ids of yes and of no.
    """

    def __init__(self, head: torch.nn.Linear, answers: list[int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(head.weight[answers].float(), requires_grad=False)
        self.bias = None if head.bias is None else torch.nn.Parameter(head.bias[answers].float(), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits, float32, (..., len(answers)), of hidden states (..., hidden)."""
        return torch.nn.functional.linear(hidden.float(), self.weight, self.bias)
