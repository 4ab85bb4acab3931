"""Step 4, score: the interface of every model of the ranker.

Texts in, numbers out. Knows no history, catalogue or transport. For one thread at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from encoders.models.device import Placement
from encoders.models.usage import Usage

MAX_LISTS = 10_000
"""The newest lists whose feedback is accepted; in a scorer that learns, a list of 100 candidates takes 5 KB."""


@dataclass(frozen=True)
class ScoreRequest:
    """One user's context and candidates.

    Attributes
    ----------
    context : str
        The user's events, one per line in order of time, newest last; may be empty.
    candidates : sequence of str
        One text per item; may be empty.
    user : str
        The id of the user, by which `Scorer.forget` finds cached data; no score depends on it.
    features : ndarray of float16, (len(candidates), len(ranker.features.NAMES)), optional
        See `ranker.features`; only a fused scorer reads them.
    list_id : str
        The id of the list, by which a `Learner` finds it when feedback arrives.
    """

    context: str
    candidates: Sequence[str]
    user: str = ""
    features: NDArray[np.float16] | None = None
    list_id: str = ""


@dataclass(frozen=True)
class ListFeedback:
    """The item that a user chose from a list.

    Attributes
    ----------
    list_id : str
    shown : sequence of int
        Indices of the shown items among the request's candidates, by rank.
    chosen : int
        The chosen item's rank: an index of `shown`, from 0.
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
        Its device and dtype, and the reason.
    usage : Usage
        Counters since it was loaded.
    needs_features : bool
        Whether requests without features get worse scores.
    """

    name: str
    placement: Placement
    usage: Usage
    needs_features: bool

    def prepare(self, texts: Sequence[str]) -> None:
        """Compute in advance what depends on the texts of future candidates alone, so that no list waits for it."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """Score every candidate of every request.

        A score depends on the context and on that candidate, never on the rest of the batch or the order. A context
        that is too long loses its oldest events, a candidate that is too long loses its end; `usage` counts both.

        Returns
        -------
        list of ndarray of float32, (len(candidates),)
            One array per request; higher is better. The scale is the model's own.
        """
        ...

    def forget(self, users: Collection[str] | None) -> None:
        """Erase all cached data of these users' contexts; of all contexts for None."""
        ...


@dataclass
class LearningTotals:
    """Running totals of online learning.

    Attributes
    ----------
    feedback : int
        Number of learnt choices.
    rolled_back : int
        How often the learning head was reset to the trained one.
    live_loss, frozen_loss : float
        Sums over the choices, in nats, of the loss of the learning head and of the trained one.
    """

    feedback: int = 0
    rolled_back: int = 0
    live_loss: float = 0.0
    frozen_loss: float = 0.0


@runtime_checkable
class Learner(Protocol):
    """A scorer that learns from the users' choices while it serves.

    Attributes
    ----------
    learning : LearningTotals, optional
        The totals so far; None if learning is off.
    """

    @property
    def learning(self) -> LearningTotals | None: ...

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        """Learn from feedback on lists that this scorer scored."""
        ...
