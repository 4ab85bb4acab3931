"""Losses over lists: what a model's scores of a list's candidates should have been.

Torch tensors in, a mean over lists out. Knows no model; called by `fusion_fit` and `model_fit`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import logsigmoid

K = 10
FAR_BELOW = -1e9

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Scores (lists, most), chosen (lists, most) bool, candidate (lists, most) bool: false where a list has none."""


def softmax(scores: torch.Tensor, chosen: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the softmax over the candidates and an equal share for each chosen one.

    ListNet's top-one loss (Cao et al., ICML 2007).
    """
    log_share = torch.log_softmax(scores.masked_fill(~candidate, FAR_BELOW), dim=1)
    return -((log_share * chosen).sum(1) / chosen.sum(1).clamp(min=1)).mean()


def ranknet(scores: torch.Tensor, chosen: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Logistic loss of every pair of a chosen candidate and one that was not (Burges et al., ICML 2005)."""
    pairs = _pairs(chosen, candidate)
    return _over_pairs(scores, pairs.to(scores.dtype))


def lambdarank(scores: torch.Tensor, chosen: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """RankNet, each pair weighed by how much NDCG@10 its swap would change (Burges, MSR-TR-2010-82, section 4)."""
    with torch.no_grad():
        order = scores.masked_fill(~candidate, FAR_BELOW).argsort(dim=1, descending=True, stable=True)
        place = order.argsort(dim=1)
        discount = torch.where(place < K, 1 / torch.log2(place + 2.0), torch.zeros(()))
        ideal = (1 / torch.log2(torch.arange(K) + 2.0)).cumsum(0)[chosen.sum(1).clamp(1, K) - 1]
        change = (discount[:, :, None] - discount[:, None, :]).abs() / ideal[:, None, None]
    return _over_pairs(scores, change * _pairs(chosen, candidate))


def imitation(scores: torch.Tensor, teacher: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of a list's softmax from the teacher's, (lists, most) float32 scores.

    Hinton et al., "Distilling the knowledge in a neural network" (2015), over a list as in ListNet.
    """
    log_share, log_taught = (
        torch.log_softmax(of.masked_fill(~candidate, FAR_BELOW), dim=1) for of in (scores, teacher)
    )
    return (log_taught.exp() * (log_taught - log_share)).sum(1).mean()


LOSSES: dict[str, Loss] = {"softmax": softmax, "ranknet": ranknet, "lambdarank": lambdarank}


def _pairs(chosen: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """(lists, most, most) bool: the first was chosen and the second was not."""
    return chosen[:, :, None] & (candidate & ~chosen)[:, None, :]


def _over_pairs(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    lost = -logsigmoid(scores[:, :, None] - scores[:, None, :]) * weights
    return (lost.sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-9)).mean()
