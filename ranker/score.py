"""Step 4, score: the interface of every model of the ranker.

Texts in, numbers out. Knows no history, catalogue or transport. For one thread at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from encoders.errors import AfterclickError
from encoders.models.device import Placement
from encoders.models.usage import Usage

MAX_LISTS = 10_000
"""The newest lists whose feedback is accepted; in a scorer that learns, a list of 100 candidates takes 5 KB."""


class FeatureSet(NamedTuple):
    """The features that a head was trained on.

    Attributes
    ----------
    names : tuple of str
        The columns: `ranker.features.NAMES`, then those of the learnt sources in the model's folder.
    version : str
        Of these sources; see `ranker.recall.trained`. Empty for none.
    """

    names: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class ScoreRequest:
    """One user's events and candidates.

    Attributes
    ----------
    context : str
        The user's events in words, one per line in order of time, newest last; may be empty.
    candidates : sequence of str
        One text per item; may be empty.
    user : str
        The id of the user, by which `Scorer.forget` finds cached data; no score depends on it.
    features : ndarray of float16, (len(candidates), len(feature_set.names)), optional
        The `feature_set` of the scorer; only a fused scorer reads them.
    list_id : str
        The id of the list, by which a `Learner` finds it when feedback arrives.
    events : sequence of str, optional
        The text of each event's item, newest last, for a scorer that reads events one by one (`Scorer.reads_events`).
        It has neither the time nor the kind of the event, so all users share it. None: the lines of the context.
    seed : int, optional
        An `Explorer` also draws scores of this list, from this seed. None: it draws none.
    """

    context: str
    candidates: Sequence[str]
    user: str = ""
    features: NDArray[np.float16] | None = None
    list_id: str = ""
    events: Sequence[str] | None = None
    seed: int | None = None

    def event_texts(self) -> Sequence[str]:
        """Return the events, or those that the context consists of."""
        if self.events is not None:
            return self.events
        return [line for line in self.context.split("\n") if line.strip()]


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


Unscored: TypeAlias = Literal["error", "timeout"]
"""Why a request has no scores."""


class NotScored(AfterclickError):
    """A model on a server gave no scores for some requests. The message says why.

    Attributes
    ----------
    results : list of ndarray of float32, (len(candidates),), or Unscored
        One for each request, in the same order: its scores, or why there are none.
    """

    def __init__(self, problem: str, results: Sequence[NDArray[np.float32] | Unscored]) -> None:
        super().__init__(problem)
        self.results = list(results)


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
    feature_set : FeatureSet, optional
        The features without which requests get worse scores; None if it reads none.
    reads_events : bool
        Whether it reads the events of a request, and not the context.
    """

    name: str
    placement: Placement
    usage: Usage
    reads_events: bool

    @property
    def feature_set(self) -> FeatureSet | None: ...

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """Compute in advance what depends on items alone, so that no list waits for it.

        Parameters
        ----------
        texts : sequence of str
            Texts of future candidates.
        events : sequence of str
            Texts of future events.
        """
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """Score every candidate of every request.

        A score depends on the context and on that candidate, never on the rest of the batch or the order. A context
        that is too long loses its oldest events, a candidate that is too long loses its end; `usage` counts both.

        Returns
        -------
        list of ndarray of float32, (len(candidates),)
            One array per request; higher is better. The scale is the model's own.

        Raises
        ------
        NotScored
            The model is on a server, which did not answer for all requests.
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


@runtime_checkable
class Explorer(Protocol):
    """A scorer that knows how uncertain its scores are."""

    def take_draws(self, list_ids: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """Return drawn scores of lists that were scored with a seed, and forget them.

        Returns
        -------
        list of ndarray of float32, (draws, candidates), or None
            One for each list, in the same order. In each row all candidates are scored under one draw of what the model
            does not know. None: there are no draws of this list, because it had no features.
        """
        ...
