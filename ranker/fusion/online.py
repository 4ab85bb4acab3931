"""A fusion head that goes on learning from what users choose, and a guard that takes it back where that harms.

Each answer is first a test of both heads, the one that learns and the one that was trained, and then a lesson. Neither
is given credit for where an item stood: users look at the first places most (the position-based model, Craswell et al.
2008), so a choice is explained by score and place together, and only the score learns (Ai et al. 2018). Knows no model
and no transport; `ranker.fusion.fused` keeps the lists.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranker.features import Features
from ranker.fusion.head import FusionHead
from ranker.score import LearningTotals

Floats = NDArray[np.float32]

WINDOW, LEAST = 500, 100
"""Answers by which the heads are compared, and how many there must be; chosen by us."""
RATE = 0.01
"""Adagrad's (Duchi et al. 2011): a weight moves by this much at its first lesson, and ever less; chosen by us."""
LEARNT = ("linear", "hidden", "bias", "out")


class OnlineHead:
    """The head that learns; `frozen` stays as it was trained."""

    def __init__(self, frozen: FusionHead) -> None:
        self.frozen = frozen
        self.learning = LearningTotals()
        self._start()

    def __call__(self, scores: Floats, features: Features) -> Floats:
        """See `FusionHead`."""
        return self._live(scores, features)

    def learn(self, scores: Floats, features: Features, chosen: int) -> None:
        """Take in an answer.

        Parameters
        ----------
        scores, features : (n,) and (n, len(NAMES)), of the items as they were shown, the first place first.
        chosen : the place that was chosen, from 0.
        """
        looked_at = -np.log(np.log2(np.arange(2, len(scores) + 2)))
        x = self.frozen.inputs(scores, features)
        if not np.isfinite(x).all():
            return  # the model failed on one of them
        live, probability = _loss(self._live, x, looked_at, chosen)
        frozen, _ = _loss(self.frozen, x, looked_at, chosen)
        self.learning.feedback += 1
        self.learning.live_loss += live
        self.learning.frozen_loss += frozen
        self._worse_by.append(live - frozen)
        if len(self._worse_by) >= LEAST and sum(self._worse_by) > 0:
            self.learning.rolled_back += 1
            self._start()
        else:
            self._step(x, probability, chosen)

    def _start(self) -> None:
        self._live = replace(self.frozen, **{name: getattr(self.frozen, name).copy() for name in LEARNT})
        self._squares = {name: np.zeros_like(getattr(self.frozen, name)) for name in LEARNT}
        self._worse_by: deque[float] = deque(maxlen=WINDOW)

    def _step(self, x: Floats, probability: Floats, chosen: int) -> None:
        error = probability.copy()
        error[chosen] -= 1
        for name, slope in gradient(self._live, x, error).items():
            squares = self._squares[name]
            squares += slope**2
            weights = getattr(self._live, name)
            weights -= RATE * slope / (np.sqrt(squares) + 1e-8)


def gradient(head: FusionHead, x: Floats, error: Floats) -> dict[str, Floats]:
    """Slopes of a loss, given its slope `error`, (n,), by each score of the standardised inputs `x`, (n, INPUTS)."""
    inner = np.tanh(x @ head.hidden + head.bias)
    through = error[:, None] * head.out * (1 - inner**2)
    return {"linear": error @ x, "hidden": x.T @ through, "bias": through.sum(0), "out": error @ inner}


def _loss(head: FusionHead, x: Floats, looked_at: NDArray[np.float64], chosen: int) -> tuple[float, Floats]:
    """`-log softmax(score + log of how likely the place is looked at)` of what was chosen, and that softmax."""
    logits = head.of_inputs(x) + looked_at
    logits -= logits.max()
    total = np.log(np.exp(logits).sum())
    return float(total - logits[chosen]), np.exp(logits - total).astype(np.float32)
