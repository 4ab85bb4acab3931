"""Fit a fusion head: how much a model's score and each of the features count, and when.

With a validation part, early stopping keeps the epoch that ranked it best. Deterministic by its seed. Knows no language
model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from encoders.interest import Vector
from ranker.fusion.head import FARTHEST, INPUTS, FusionHead
from ranker.progress import Progress
from ranker.train.curve import Epoch
from ranker.train.losses import Loss
from ranker.train.query_groups import ScoredGroups

HIDDEN = 32
BATCH_GROUPS = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-3
LEAST_SPREAD = 1e-3
MAX_EPOCHS = 40
"""With a validation part, the fit stops by itself far earlier."""
PATIENCE = 5
"""Epochs without a better validation NDCG@10 before it stops; chosen by us, like the rest here, on two shops."""


@dataclass(frozen=True)
class HeadSettings:
    """How to fit a head.

    Attributes
    ----------
    loss : Loss
    seed : int
    epochs : int
        At most.
    dropout : float
        Share of the inputs that is left out of each group. A head that leans on all inputs still ranks in another shop,
        which has no categories, or no counts yet. In its own shop it costs 3% of NDCG@10 (0.2 and 0.4 tried).
    deadline : float
        No further epoch begins once `time.monotonic()`, in seconds, has reached it.
    """

    loss: Loss
    seed: int
    epochs: int = MAX_EPOCHS
    dropout: float = 0.0
    deadline: float = float("inf")


def fit_head(
    training: ScoredGroups, validation: ScoredGroups | None, settings: HeadSettings, progress: Progress
) -> tuple[FusionHead, list[Epoch]]:
    """Fit a head.

    Parameters
    ----------
    training : ScoredGroups
    validation : ScoredGroups or None
        Newer groups, for early stopping. None: all epochs are done, and the last one is kept.
    settings : HeadSettings
    progress : Progress
        In epochs.

    Returns
    -------
    head : FusionHead
        Of the best epoch.
    curve : list of Epoch
        NDCG is NaN without validation.
    """
    with _one_thread():
        fit = _Fit(training, settings)
        best, best_ndcg, best_epoch = fit.frozen(), -1.0, -1
        curve: list[Epoch] = []
        for epoch in range(settings.epochs):
            loss = fit.epoch()
            ndcg = float("nan") if validation is None else fused(fit.frozen(), validation).ndcg()
            curve.append(Epoch(loss, ndcg))
            progress(epoch + 1, settings.epochs)
            if validation is None or ndcg > best_ndcg:
                best, best_ndcg, best_epoch = fit.frozen(), ndcg, epoch
            elif epoch - best_epoch >= PATIENCE:
                break
            if time.monotonic() > settings.deadline:
                break
        return best, curve


def fused(head: FusionHead, scored: ScoredGroups) -> ScoredGroups:
    """The groups with the head's scores in place of the model's."""
    if not len(scored):
        return scored
    scores = [head(*row) for row in zip(scored.scores, scored.groups.features, strict=True)]
    return ScoredGroups(scored.groups, np.stack(scores))


class _Head(torch.nn.Module):
    """`FusionHead` with gradients."""

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.mean, self.scale = mean, scale
        self.linear = torch.nn.Parameter(torch.zeros(INPUTS))
        self.hidden = torch.nn.Parameter(torch.randn(INPUTS, HIDDEN, generator=generator) / INPUTS**0.5)
        self.bias = torch.nn.Parameter(torch.zeros(HIDDEN))
        self.out = torch.nn.Parameter(torch.zeros(HIDDEN))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = ((inputs - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)
        scores: torch.Tensor = x @ self.linear + torch.tanh(x @ self.hidden + self.bias) @ self.out
        return scores


class _Fit:
    """A head in training, its data and its optimiser."""

    def __init__(self, training: ScoredGroups, settings: HeadSettings) -> None:
        groups = training.groups
        self._settings = settings
        self._indices = groups.learnable
        self._inputs = torch.from_numpy(_inputs(training))
        self._is_candidate = torch.from_numpy(groups.is_candidate)
        self._labels = torch.from_numpy(groups.labels)
        rows = self._inputs[self._indices][self._is_candidate[self._indices]]
        self._head = _Head(rows.mean(0), _scale(rows), settings.seed)
        self._optimiser = torch.optim.AdamW(self._head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self._order = np.random.default_rng(settings.seed)
        self._dropout = torch.Generator().manual_seed(settings.seed)

    def epoch(self) -> float:
        """Go through all learnable groups once. Returns their mean loss."""
        total = 0.0
        order = self._order.permutation(self._indices)
        for start in range(0, len(order), BATCH_GROUPS):
            batch = torch.from_numpy(order[start : start + BATCH_GROUPS])
            self._optimiser.zero_grad()
            kept = torch.rand(len(batch), 1, INPUTS, generator=self._dropout) >= self._settings.dropout
            scores = self._head(torch.where(kept, self._inputs[batch], self._head.mean))
            loss = self._settings.loss(scores, self._labels[batch], self._is_candidate[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            total += float(loss.detach()) * len(batch)
        return total / max(1, len(order))

    def frozen(self) -> FusionHead:
        """A copy without gradients, as it is served."""
        head = self._head
        parts = (head.mean, head.scale, head.linear, head.hidden, head.bias, head.out)
        return FusionHead(*(part.detach().numpy().copy() for part in parts))


def _scale(rows: torch.Tensor) -> torch.Tensor:
    """Standard deviations of the inputs; infinite for an input that never varied, so that it counts for nothing."""
    spread = rows.std(0).nan_to_num(0)
    return torch.where(spread > LEAST_SPREAD, spread, torch.inf)


def _inputs(scored: ScoredGroups) -> Vector:
    """(groups, width, INPUTS) float32; 0 where a group has no candidate."""
    inputs = np.concatenate([scored.scores[:, :, None], scored.groups.features.astype(np.float32)], axis=2)
    inputs[~scored.groups.is_candidate] = 0
    return inputs


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: products as small as a head's end before other threads wake, and are then reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
