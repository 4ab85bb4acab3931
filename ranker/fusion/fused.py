"""A model with a fusion head on top, which may go on learning while it serves.

Knows no data and no training; loaded by `load_scorer`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders.models.device import Placement
from encoders.models.usage import Usage
from ranker.features import Features
from ranker.fusion.head import FusionHead
from ranker.fusion.online import OnlineHead
from ranker.score import MOST_LISTS, LearningTotals, ListFeedback, Scorer, ScoreRequest

Floats = NDArray[np.float32]


class Asked(NamedTuple):
    """What the head was given for a list."""

    user: str
    scores: Floats
    features: Features


class FusedScorer:
    """A scorer's scores, fused with the requests' features; see `Scorer` for the contract.

    A request without features, as an upstream recommender sends it, keeps the model's own scores.

    Parameters
    ----------
    name : the model as it was named.
    base : reads the texts; None: behaviour alone.
    """

    needs_features = True

    def __init__(self, name: str, base: Scorer | None, head: FusionHead) -> None:
        self.name = name
        self.base = base
        self.placement = base.placement if base else Placement("cpu", "float32", "it reads no texts")
        self.usage = base.usage if base else Usage()
        self._head: FusionHead | OnlineHead = head
        self._asked: OrderedDict[str, Asked] = OrderedDict()

    def start_learning(self) -> None:
        """From now on the head learns from answers."""
        if isinstance(self._head, FusionHead):
            self._head = OnlineHead(self._head)

    @property
    def learning(self) -> LearningTotals | None:
        """What it learnt from answers so far; None if it does not learn."""
        return replace(self._head.learning) if isinstance(self._head, OnlineHead) else None

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        """See `Learner.learn`; answers to lists that are not known any more, or had no features, are passed over."""
        if not isinstance(self._head, OnlineHead):
            return
        for answer in feedback:
            asked = self._asked.get(answer.list_id)
            if asked is not None:
                shown = list(answer.shown)
                self._head.learn(asked.scores[shown], asked.features[shown], answer.chosen)

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`."""
        if self.base:
            self.base.prepare(texts)

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`."""
        if self.base:
            self.base.forget(users)
        if users is None:
            self._asked.clear()
        else:
            of_them = set(users)
            for list_id in [list_id for list_id, asked in self._asked.items() if asked.user in of_them]:
                del self._asked[list_id]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Floats]:
        """See `Scorer.score`."""
        if self.base:
            scores = self.base.score(requests)
        else:
            scores = [np.zeros(len(request.candidates), np.float32) for request in requests]
            self.usage.requests += len(requests)
            self.usage.candidates += sum(map(len, scores))
        if isinstance(self._head, OnlineHead):
            self._keep(requests, scores)
        return [
            of_model if request.features is None else self._head(of_model, request.features)
            for request, of_model in zip(requests, scores, strict=True)
        ]

    def _keep(self, requests: Sequence[ScoreRequest], scores: Sequence[Floats]) -> None:
        for request, of_model in zip(requests, scores, strict=True):
            if request.list_id and request.features is not None:
                self._asked[request.list_id] = Asked(request.user, of_model, request.features)
        while len(self._asked) > MOST_LISTS:
            self._asked.popitem(last=False)
