"""Losses over query groups: how far a model's scores are from the relevance labels, or from a teacher's scores.

Torch tensors in, a mean over groups out. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import logsigmoid

from ranker.evaluation.measures import K, discounts

FAR_BELOW = -1e9

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Scores (groups, width); labels (groups, width) bool; is_candidate (groups, width) bool, false where a group has none.

For `distillation`, the labels are the teacher's scores, float32.
"""


def softmax(scores: torch.Tensor, labels: torch.Tensor, is_candidate: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the softmax over the candidates and an equal share for each relevant one.

    ListNet's top-one loss (Cao et al., ICML 2007).
    """
    log_share = torch.log_softmax(scores.masked_fill(~is_candidate, FAR_BELOW), dim=1)
    return -((log_share * labels).sum(1) / labels.sum(1).clamp(min=1)).mean()


def ranknet(scores: torch.Tensor, labels: torch.Tensor, is_candidate: torch.Tensor) -> torch.Tensor:
    """Logistic loss of every pair of a relevant candidate and an irrelevant one (Burges et al., ICML 2005)."""
    return _mean_over_pairs(scores, _pairs(labels, is_candidate).to(scores.dtype))


def lambdarank(scores: torch.Tensor, labels: torch.Tensor, is_candidate: torch.Tensor) -> torch.Tensor:
    """RankNet, each pair weighed by how much NDCG@10 its swap would change (Burges, MSR-TR-2010-82, section 4)."""
    with torch.no_grad():
        order = scores.masked_fill(~is_candidate, FAR_BELOW).argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1)
        by_rank = torch.tensor([*discounts(K), 0.0], dtype=torch.float32, device=scores.device)
        discount = by_rank[rank.clamp(max=K)]
        ideal = by_rank.cumsum(0)[labels.sum(1).clamp(1, K) - 1]
        change = (discount[:, :, None] - discount[:, None, :]).abs() / ideal[:, None, None]
    return _mean_over_pairs(scores, change * _pairs(labels, is_candidate))


def distillation(scores: torch.Tensor, teacher: torch.Tensor, is_candidate: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of a group's softmax from the teacher's.

    Hinton et al., "Distilling the knowledge in a neural network" (2015), over a list as in ListNet.

    Parameters
    ----------
    scores, teacher : (groups, width) float32
    is_candidate : (groups, width) bool
    """
    log_student, log_teacher = (
        torch.log_softmax(values.masked_fill(~is_candidate, FAR_BELOW), dim=1) for values in (scores, teacher)
    )
    return (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean()


LOSSES: dict[str, Loss] = {"softmax": softmax, "ranknet": ranknet, "lambdarank": lambdarank}


def _pairs(labels: torch.Tensor, is_candidate: torch.Tensor) -> torch.Tensor:
    """(groups, width, width) bool: the first candidate is relevant and the second is not."""
    return labels[:, :, None] & (is_candidate & ~labels)[:, None, :]


def _mean_over_pairs(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    losses = -logsigmoid(scores[:, :, None] - scores[:, None, :]) * weights
    return (losses.sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-9)).mean()
