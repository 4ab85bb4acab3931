"""A model with a fusion head on top, which may go on learning while it serves.

Knows no data set and no training.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from cachetools import FIFOCache
from numpy.typing import NDArray

from encoders.models.device import Placement
from encoders.models.usage import Usage
from ranker.features import Features
from ranker.fusion.head import FusionHead
from ranker.fusion.online import OnlineHead
from ranker.score import MAX_LISTS, LearningTotals, ListFeedback, Scorer, ScoreRequest

Floats = NDArray[np.float32]


class HeadInputs(NamedTuple):
    """The inputs of the head for one list."""

    user: str
    scores: Floats
    features: Features


class FusedScorer:
    """A scorer's scores, fused with the requests' features; see `Scorer` for the contract.

    A request without features, as an upstream recommender sends it, keeps the model's own scores.

    Parameters
    ----------
    name : str
        The model as it was named.
    base : Scorer, optional
        Reads the texts; None for features alone.
    head : FusionHead
    """

    needs_features = True

    def __init__(self, name: str, base: Scorer | None, head: FusionHead) -> None:
        self.name = name
        self.base = base
        self.placement = base.placement if base else Placement("cpu", "float32", "it reads no texts")
        self.usage = base.usage if base else Usage()
        self._head: FusionHead | OnlineHead = head
        self._inputs: FIFOCache[str, HeadInputs] = FIFOCache(MAX_LISTS)  # by list id, where the head learns

    def start_learning(self) -> None:
        """Let the head learn from feedback from now on."""
        if isinstance(self._head, FusionHead):
            self._head = OnlineHead(self._head)

    @property
    def learning(self) -> LearningTotals | None:
        """The totals of learning so far; None if it does not learn."""
        return replace(self._head.learning) if isinstance(self._head, OnlineHead) else None

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        """See `Learner.learn`; feedback on a list that is forgotten or had no features is ignored."""
        if not isinstance(self._head, OnlineHead):
            return
        for choice in feedback:
            inputs = self._inputs.get(choice.list_id)
            if inputs is not None:
                shown = list(choice.shown)
                self._head.learn(inputs.scores[shown], inputs.features[shown], choice.chosen)

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`."""
        if self.base:
            self.base.prepare(texts)

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`."""
        if self.base:
            self.base.forget(users)
        if users is None:
            self._inputs.clear()
        else:
            forgotten = set(users)
            for list_id in [list_id for list_id, inputs in self._inputs.items() if inputs.user in forgotten]:
                del self._inputs[list_id]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Floats]:
        """See `Scorer.score`."""
        if self.base:
            scores = self.base.score(requests)
        else:
            scores = [np.zeros(len(request.candidates), np.float32) for request in requests]
            self.usage.requests += len(requests)
            self.usage.candidates += sum(map(len, scores))
        if isinstance(self._head, OnlineHead):
            self._remember(requests, scores)
        return [
            base_scores if request.features is None else self._head(base_scores, request.features)
            for request, base_scores in zip(requests, scores, strict=True)
        ]

    def _remember(self, requests: Sequence[ScoreRequest], scores: Sequence[Floats]) -> None:
        for request, base_scores in zip(requests, scores, strict=True):
            if request.list_id and request.features is not None:
                self._inputs[request.list_id] = HeadInputs(request.user, base_scores, request.features)
