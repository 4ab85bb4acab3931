"""Step 4, score: the interface that every model of the ranker keeps.

Knows no history, catalogue or transport: texts in, numbers out. Called by the rank tier and by evaluation, from one
worker thread at a time. `load` chooses the implementation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from encoders.models.device import Placement
from encoders.models.usage import Usage

MOST_LISTS = 10_000
"""Lists that are remembered so that their answers count, newest first to stay: by who publishes them, and by a scorer
that learns, where one of 100 candidates takes 5 KB."""


@dataclass(frozen=True)
class ScoreRequest:
    """One user's candidates.

    Attributes
    ----------
    context : str
        What the user did, one event per line in order of time, newest last; may be empty.
    candidates : sequence of str
        A text per item; may be empty.
    user : str
        Whose context it is, so that `Scorer.forget` can find what was kept of it; no score depends on it.
    features : ndarray of float16, (len(candidates), len(ranker.features.NAMES)), optional
        What behaviour says about each; only a fused scorer reads it.
    list_id : str
        What the list is called, so that a `Learner` finds it when it is answered.
    """

    context: str
    candidates: Sequence[str]
    user: str = ""
    features: NDArray[np.float16] | None = None
    list_id: str = ""


@dataclass(frozen=True)
class ListFeedback:
    """What a user chose of a list.

    Attributes
    ----------
    list_id : the list.
    shown : positions among the request's candidates, as they stood in the list, the first place first.
    chosen : the place of `shown` that was chosen, from 0.
    """

    list_id: str
    shown: Sequence[int]
    chosen: int


class Scorer(Protocol):
    """A model that scores candidates.

    Attributes
    ----------
    name : str
        The model as it was named.
    placement : Placement
        Its device and dtype, and why.
    usage : Usage
        Counters since it was loaded.
    needs_features : bool
        Whether its scores are poorer for requests without features.
    """

    name: str
    placement: Placement
    usage: Usage
    needs_features: bool

    def prepare(self, texts: Sequence[str]) -> None:
        """Do ahead what can be done for items that will come as candidates, so that no list waits for it."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """Score every candidate of every request.

        A score depends on the context and on that candidate, never on the rest of the batch or the order. A
        context that is too long loses its oldest events, a candidate that is too long its end; both are
        counted in `usage`.

        Returns
        -------
        list of ndarray of float32, (len(candidates),)
            One array per request; higher is better. The scale is the model's own.
        """
        ...

    def forget(self, users: Collection[str] | None) -> None:
        """Erase what is kept of these users' contexts; of all contexts, for None."""
        ...


@dataclass
class LearningTotals:
    """Running totals of what was learnt. `live_loss` and `frozen_loss` are sums over the answers, in nats.

    `rolled_back` counts how often what was learnt was taken back.
    """

    feedback: int = 0
    rolled_back: int = 0
    live_loss: float = 0.0
    frozen_loss: float = 0.0


@runtime_checkable
class Learner(Protocol):
    """A scorer that learns from what users choose while it serves.

    Attributes
    ----------
    learning : LearningTotals, optional
        What it learnt so far; None if it is not to learn.
    """

    @property
    def learning(self) -> LearningTotals | None: ...

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        """Take in answers to lists that it scored."""
        ...
