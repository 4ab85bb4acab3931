"""Fit a fusion head: which of a model's score and the behavioural features counts, and when.

Early stopping keeps the epoch that ranked the newer lists best; the last fit then learns from all of them, for as many
epochs. Deterministic by its seed. Called by `ranker.train.fit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from encoders.interest import Vector
from ranker.fusion.head import INPUTS, MAX_DEVIATION, FusionHead
from ranker.train.lists import NOBODY, Lists, ndcg
from ranker.train.losses import Loss

HIDDEN = 32
BATCH_LISTS = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-3
LEAST_SPREAD = 1e-3
PATIENCE = 5
"""Epochs without a better validation NDCG@10 before it stops; chosen by us, like the rest here, on two shops."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve: mean training loss, validation NDCG@10."""

    loss: float
    ndcg: float


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
        x = ((inputs - self.mean) / self.scale).clamp(-MAX_DEVIATION, MAX_DEVIATION)
        fused: torch.Tensor = x @ self.linear + torch.tanh(x @ self.hidden + self.bias) @ self.out
        return fused

    def frozen(self) -> FusionHead:
        parts = (self.mean, self.scale, self.linear, self.hidden, self.bias, self.out)
        return FusionHead(*(part.detach().numpy().copy() for part in parts))


def fit(
    scores: Vector,
    lists: Lists,
    validation: tuple[Vector, Lists] | None,
    loss: Loss,
    epochs: int,
    seed: int,
    progress: Progress,
    dropout: float = 0.0,
    deadline: float = float("inf"),
) -> tuple[FusionHead, list[Epoch]]:
    """Fit a head.

    Parameters
    ----------
    scores : (lists, most) float32, the model's.
    validation : newer lists and their scores; None to do all epochs and keep the last.
    dropout : of the inputs, left out of a list: a head that leans on all of them still ranks in another shop, which
        has no categories, or no counts yet. In its own shop it costs 3% of NDCG@10 (0.2 and 0.4 tried).

    deadline : no further epoch once `time.monotonic()` is that.

    Returns
    -------
    The head of the best epoch, and the curve; NDCG is NaN without validation.
    """
    with _one_thread():
        return _fit(scores, lists, validation, loss, epochs, seed, progress, dropout, deadline)


def _fit(
    scores: Vector,
    lists: Lists,
    validation: tuple[Vector, Lists] | None,
    loss: Loss,
    epochs: int,
    seed: int,
    progress: Progress,
    dropout: float,
    deadline: float,
) -> tuple[FusionHead, list[Epoch]]:
    places = lists.learnable
    inputs = _inputs(scores, lists)
    candidate, chosen = torch.from_numpy(lists.candidates != NOBODY), torch.from_numpy(lists.chosen)
    known = inputs[places][candidate[places]]
    head = _Head(known.mean(0), _scale(known), seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    shuffled, dropped = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    best, best_ndcg, best_epoch = head.frozen(), -1.0, -1
    curve: list[Epoch] = []
    for epoch in range(epochs):
        total = 0.0
        order = shuffled.permutation(places)
        for start in range(0, len(order), BATCH_LISTS):
            batch = torch.from_numpy(order[start : start + BATCH_LISTS])
            optimiser.zero_grad()
            there = torch.rand(len(batch), 1, INPUTS, generator=dropped) >= dropout
            lost = loss(head(torch.where(there, inputs[batch], head.mean)), chosen[batch], candidate[batch])
            lost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(lost.detach()) * len(batch)
        reached = (
            float("nan") if validation is None else float(ndcg(fused(head.frozen(), *validation), validation[1]).mean())
        )
        curve.append(Epoch(total / max(1, len(order)), reached))
        progress(epoch + 1, epochs)
        if validation is None or reached > best_ndcg:
            best, best_ndcg, best_epoch = head.frozen(), reached, epoch
        elif epoch - best_epoch >= PATIENCE:
            break
        if time.monotonic() > deadline:
            break
    return best, curve


def _scale(known: torch.Tensor) -> torch.Tensor:
    """Standard deviations of the inputs; infinite for one that never varied: nothing is known of what it says."""
    spread = known.std(0).nan_to_num(0)
    return torch.where(spread > LEAST_SPREAD, spread, torch.inf)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products as small as a head's are done before other threads are awake, and always the same on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fused(head: FusionHead, scores: Vector, lists: Lists) -> Vector:
    """(lists, most) float32: what the head makes of a model's scores."""
    return np.stack([head(*one) for one in zip(scores, lists.features, strict=True)]) if len(lists) else scores


def _inputs(scores: Vector, lists: Lists) -> torch.Tensor:
    """(lists, most, INPUTS) float32; 0 where a list has no candidate."""
    inputs = np.concatenate([scores[:, :, None], lists.features.astype(np.float32)], axis=2)
    inputs[lists.candidates == NOBODY] = 0
    return torch.from_numpy(inputs)
