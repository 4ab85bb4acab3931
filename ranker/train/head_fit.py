"""Fit a fusion head: how much a model's score and each of the features count, and when.

What is fitted is the mean of a few heads that begin differently and read the same groups: they err in different places
(deep ensembles: Lakshminarayanan et al., NeurIPS 2017). It is a head as wide as all of them. With a validation part,
early stopping keeps the epoch in which the mean ranked it best. Deterministic by its seed. Knows no language model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from encoders.interest import Vector
from ranker.features import NEWNESS, OF_THE_USER
from ranker.fusion.head import MAX_DEVIATION, FusionHead
from ranker.progress import Progress
from ranker.train.curve import Epoch
from ranker.train.hidden_vectors import HiddenVectors
from ranker.train.losses import Loss
from ranker.train.query_groups import ScoredGroups

MEMBERS, HIDDEN = 4, 32
"""Heads, and the size of each one's hidden part; see `ranker/README.md` for others that were tried."""
START_ROOM = 4
"""Times the usual deviations at which the input that the head starts with is cut: the order of the start is kept."""
BATCH_GROUPS, MIN_BATCH_GROUPS, EPOCH_STEPS = 64, 8, 50
"""A head over a slow model has few groups: smaller batches let it move as far in an epoch."""
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
        Share of the inputs that is left out of each group, but for those that say what the others are worth
        (`OF_THE_USER`). A head that leans on all inputs still ranks in another shop, which has no categories, or no
        counts yet. In its own shop it costs 3% of NDCG@10 (0.2 and 0.4 tried).
    members : int
        Heads whose mean is fitted.
    hidden : int
        Size of the hidden part of each.
    deadline : float
        No further epoch begins once `time.monotonic()`, in seconds, has reached it.
    starts_with_last : bool
        Start with the last feature as the score, in place of 0. The start is kept if no epoch ranks better.
    """

    loss: Loss
    seed: int
    epochs: int = MAX_EPOCHS
    dropout: float = 0.0
    members: int = MEMBERS
    hidden: int = HIDDEN
    deadline: float = float("inf")
    starts_with_last: bool = False


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
        if settings.starts_with_last and validation is not None:
            best_ndcg = fused(best, validation).ndcg()
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


def best_epochs(curve: Sequence[Epoch], ndcg: float) -> int:
    """How many epochs the kept head took: 0 if its NDCG@10 is that of the start, and no epoch was better."""
    best = int(np.argmax([epoch.ndcg for epoch in curve])) if curve else 0
    return 1 + best if curve and curve[best].ndcg >= ndcg else 0


def fused(head: FusionHead, scored: ScoredGroups) -> ScoredGroups:
    """The groups with the head's scores in place of the model's."""
    if not len(scored):
        return scored
    scores = [head(*row) for row in zip(scored.scores, scored.groups.features, strict=True)]
    return ScoredGroups(scored.groups, np.stack(scores))


class _Heads(torch.nn.Module):
    """Some of `FusionHead` with gradients, side by side."""

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor, settings: HeadSettings) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(settings.seed)
        inputs, members = len(mean), settings.members
        self.mean, self.scale = mean, scale
        linear, width = torch.zeros(members, inputs), members * settings.hidden
        if settings.starts_with_last:
            linear[:, -1] = torch.where(scale[-1].isfinite(), scale[-1], 0)
        self.linear = torch.nn.Parameter(linear)
        self.hidden = torch.nn.Parameter(torch.randn(inputs, width, generator=generator) / inputs**0.5)
        self.bias = torch.nn.Parameter(torch.zeros(width))
        self.out = torch.nn.Parameter(torch.zeros(members, settings.hidden))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the scores of each member, (groups, width, members), of inputs, (groups, width, inputs)."""
        x = ((inputs - self.mean) / self.scale).clamp(-MAX_DEVIATION, MAX_DEVIATION)
        hidden = torch.tanh(x @ self.hidden + self.bias).view(*x.shape[:-1], *self.out.shape)
        scores: torch.Tensor = x @ self.linear.T + (hidden * self.out).sum(-1)
        return scores

    def mean_of_members(self) -> FusionHead:
        """A copy of their mean, which is a head with all their hidden parts."""
        out = self.out.flatten() / len(self.out)
        parts = (self.mean, self.scale, self.linear.mean(0), self.hidden, self.bias, out)
        return FusionHead(*(part.detach().numpy().copy() for part in parts))


class _Fit:
    """Heads in training, their data and their optimiser."""

    def __init__(self, training: ScoredGroups, settings: HeadSettings) -> None:
        groups = training.groups
        self._settings = settings
        self._indices = groups.learnable
        self._inputs = torch.from_numpy(_inputs(training))
        self._is_candidate = torch.from_numpy(groups.is_candidate)
        self._labels = torch.from_numpy(groups.labels)
        rows = self._inputs[self._indices][self._is_candidate[self._indices]]
        mean, scale, unread = rows.mean(0), _scale(rows), 1 + groups.feature_names.index(NEWNESS)
        self._inputs[:, :, unread] = mean[unread] = 0
        scale[unread] = 1  # never cut: a lift is whole for every item
        self._hidden = HiddenVectors(groups.feature_names, settings.seed)
        self._hidden.spread(scale)
        if settings.starts_with_last:
            scale[-1] *= START_ROOM
        self._heads = _Heads(mean, scale, settings)
        with torch.no_grad():
            self._heads.hidden[unread] = 0
        self._optimiser = torch.optim.AdamW(self._heads.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self._order = np.random.default_rng(settings.seed)
        self._dropout = torch.Generator().manual_seed(settings.seed)
        self._always = torch.tensor([False, *(name in OF_THE_USER for name in groups.feature_names)])

    def epoch(self) -> float:
        """Go through all learnable groups once. Returns the mean loss of a group and member."""
        total = 0.0
        order, size = self._order.permutation(self._indices), BATCH_GROUPS
        if self._settings.starts_with_last:
            size = min(BATCH_GROUPS, max(MIN_BATCH_GROUPS, len(order) // EPOCH_STEPS))
        for start in range(0, len(order), size):
            batch = torch.from_numpy(order[start : start + size])
            self._optimiser.zero_grad()
            inputs, labels, is_candidate = self._hidden.with_copies(
                self._inputs[batch], self._labels[batch], self._is_candidate[batch]
            )
            kept = torch.rand(len(inputs), 1, inputs.shape[2], generator=self._dropout) >= self._settings.dropout
            scores = self._heads(torch.where(kept | self._always, inputs, self._heads.mean))
            losses = [self._settings.loss(of_member, labels, is_candidate) for of_member in scores.unbind(-1)]
            loss = torch.stack(losses).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            total += float(loss.detach()) / len(losses) * len(batch)
        return total / max(1, len(order))

    def frozen(self) -> FusionHead:
        """The mean of the heads as it is served."""
        return self._heads.mean_of_members()


def _scale(rows: torch.Tensor) -> torch.Tensor:
    """Standard deviations of the inputs; infinite for an input that never varied, so that it counts for nothing."""
    spread = rows.std(0).nan_to_num(0)
    return torch.where(spread > LEAST_SPREAD, spread, torch.inf)


def _inputs(scored: ScoredGroups) -> Vector:
    """(groups, width, inputs) float32; 0 where a group has no candidate."""
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
