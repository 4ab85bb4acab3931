"""What a fusion head does not know: scores drawn from the posterior of its last layer, and of each item's own appeal.

The head is linear in its last layer, `score = phi w`, with phi the standardised inputs and the hidden part. So the
posterior of w is Gaussian by Laplace's method, with the Hessian of the loss that the head learns by: the covariance of
phi under the softmax over the shown items, summed over the choices (Riquelme, Tucker and Snoek, "Deep Bayesian bandits
showdown", ICLR 2018, for the last layer; Chapelle and Li, NIPS 2011, for Laplace). Two items with the same phi may
still differ: each has an appeal of its own, whose variance falls with the item's events (Aouali, Kveton and Katariya,
"Mixed-effect Thompson sampling", AISTATS 2023). That is what lets new items in: what the head reads of them is certain.
Knows no list and no transport.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

DRAWS = 32
"""Of each list; chosen by us: a candidate that wins one place in thirty is seen to."""
WEIGHT_SD = 0.1
"""Of a weight of standardised inputs before any choice, about its trained value; chosen by us: a score of 60 such
inputs is known to three quarters of a logit."""
MOST_HIDDEN = 64
"""Hidden units that add to that. Those of a wider head add as much together: it is no less certain."""
ITEM_SD = 1.0
"""Of the appeal of an item without events, in logits; chosen by us: such an item may be worth 2.7 times as much as its
features say, or as little."""


class Posterior:
    """A Gaussian about the weights of a head's last layer.

    Parameters
    ----------
    inputs : int
        Of the head.
    hidden : int
        Size of its hidden part, which follows in phi.

    Examples
    --------
    >>> posterior, phi = Posterior(2, 0), np.array([[1, 0], [0, 1]], np.float32)
    >>> draws = posterior.draws(np.zeros(2, np.float32), phi, np.zeros(2, np.float32), seed=1)
    >>> round(float(draws.std()), 1)
    0.1
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        of_hidden = np.full(hidden, max(1.0, hidden / MOST_HIDDEN))
        self._precision = np.diag(np.concatenate([np.ones(inputs), of_hidden])) / WEIGHT_SD**2

    def observe(self, phi: Floats, probability: Floats) -> None:
        """Learn from one choice.

        Parameters
        ----------
        phi : (n, inputs + hidden) float32
            Of the shown items.
        probability : (n,) float32
            With which the head expected each of them to be chosen.
        """
        mean = probability @ phi
        self._precision += (phi * probability[:, None]).T @ phi - np.outer(mean, mean)
        self.__dict__.pop("_root", None)

    def draws(self, scores: Floats, phi: Floats, newness: Floats, seed: int) -> Floats:
        """Return scores of the candidates under `DRAWS` draws, (DRAWS, n) float32.

        Parameters
        ----------
        scores : (n,) float32
            Of the head.
        phi : (n, inputs + hidden) float32
        newness : (n,) float32
            `1 / (1 + events)`: the share of the variance of an item's appeal that its events leave.
        seed : int
        """
        random = np.random.default_rng(seed)
        weights = random.standard_normal((DRAWS, len(self._precision))) @ self._root
        appeal = random.standard_normal((DRAWS, len(scores))) * (ITEM_SD * np.sqrt(np.maximum(newness, 0)))
        return np.asarray(scores + weights @ phi.T + appeal, np.float32)

    @cached_property
    def _root(self) -> NDArray[np.float64]:
        """A factor R of the covariance: R^T R is the inverse of the precision."""
        return np.asarray(np.linalg.inv(np.linalg.cholesky(self._precision)))
