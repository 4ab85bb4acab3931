"""A fusion head that learns from users' choices while it serves, and is rolled back where that makes it worse.

Each choice first tests both heads, the learning one and the trained one, and then trains the learning one. Neither head
gets credit for an item's rank, because users look at the first ranks most (the position-based model, Craswell et al.
2008): score and rank together explain a choice, and only the score learns (Ai et al. 2018). Knows no model and no
transport.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranker.exploration.posterior import Posterior
from ranker.features import Features
from ranker.fusion.head import FusionHead
from ranker.score import LearningTotals

Floats = NDArray[np.float32]

WINDOW, MIN_CHOICES = 500, 100
"""The newest choices that compare the heads, and how many there must be; chosen by us."""
LEARNING_RATE = 0.01
"""Of Adagrad (Duchi et al. 2011): a weight moves by this much in its first step and then ever less; chosen by us."""
TRAINED_ARRAYS = ("linear", "hidden", "bias", "out")


class OnlineHead:
    """A head that learns.

    Attributes
    ----------
    frozen : FusionHead
        The trained head, unchanged.
    learning : LearningTotals
    posterior : Posterior, optional
        Learns from the same choices how certain the head is; for exploration.
    """

    def __init__(self, frozen: FusionHead) -> None:
        self.frozen = frozen
        self.learning = LearningTotals()
        self.posterior: Posterior | None = None
        self._reset()

    def __call__(self, scores: Floats, features: Features) -> Floats:
        """See `FusionHead`."""
        return self._live(scores, features)

    def learn(self, scores: Floats, features: Features, chosen: int) -> None:
        """Learn from one choice.

        Parameters
        ----------
        scores : (n,) float32
            The model's scores of the shown items, by rank.
        features : (n, inputs - 1) float16
            Their features.
        chosen : int
            The rank of the chosen item, from 0.
        """
        examination = -np.log(np.log2(np.arange(2, len(scores) + 2)))
        x = self.frozen.inputs(scores, features)
        if not np.isfinite(x).all():
            return  # the model failed for one of the items
        live, probability = _loss(self._live, x, examination, chosen)
        frozen, _ = _loss(self.frozen, x, examination, chosen)
        self.learning.feedback += 1
        self.learning.live_loss += live
        self.learning.frozen_loss += frozen
        self._excess_loss.append(live - frozen)
        if len(self._excess_loss) >= MIN_CHOICES and sum(self._excess_loss) > 0:
            self.learning.rolled_back += 1
            self._reset()
        else:
            if self.posterior is not None:
                self.posterior.observe(self._live.last_layer(x), probability)
            self._step(x, probability, chosen)

    def last_layer(self, x: Floats) -> Floats:
        """See `FusionHead`."""
        return self._live.last_layer(x)

    def inputs(self, scores: Floats, features: Features) -> Floats:
        """See `FusionHead`."""
        return self.frozen.inputs(scores, features)

    def _reset(self) -> None:
        self._live = replace(self.frozen, **{name: getattr(self.frozen, name).copy() for name in TRAINED_ARRAYS})
        self._squares = {name: np.zeros_like(getattr(self.frozen, name)) for name in TRAINED_ARRAYS}
        self._excess_loss: deque[float] = deque(maxlen=WINDOW)

    def _step(self, x: Floats, probability: Floats, chosen: int) -> None:
        error = probability.copy()
        error[chosen] -= 1
        for name, slope in gradient(self._live, x, error).items():
            squares = self._squares[name]
            squares += slope**2
            weights = getattr(self._live, name)
            weights -= LEARNING_RATE * slope / (np.sqrt(squares) + 1e-8)


def gradient(head: FusionHead, x: Floats, error: Floats) -> dict[str, Floats]:
    """Return the gradient of a loss by the arrays of the head.

    Parameters
    ----------
    head : FusionHead
    x : (n, inputs) float32
        Standardised inputs.
    error : (n,) float32
        Gradient of the loss by the scores.
    """
    activation = np.tanh(x @ head.hidden + head.bias)
    hidden_error = error[:, None] * head.out * (1 - activation**2)
    return {"linear": error @ x, "hidden": x.T @ hidden_error, "bias": hidden_error.sum(0), "out": error @ activation}


def _loss(head: FusionHead, x: Floats, examination: NDArray[np.float64], chosen: int) -> tuple[float, Floats]:
    """`-log softmax(score + log of the rank's examination probability)` of the chosen item, and that softmax."""
    logits = head.of_inputs(x) + examination
    logits -= logits.max()
    total = np.log(np.exp(logits).sum())
    return float(total - logits[chosen]), np.exp(logits - total).astype(np.float32)
