"""The record of one request while it becomes a list. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.describe import describe_history, one_line
from encoders.event_time import milliseconds
from encoders.interest import Vector
from ranker import features
from ranker.score import ScoreRequest
from streams import metrics
from streams.contracts import Candidate, RankRequest


@dataclass
class Ranking:
    """One request on its way to a list.

    Attributes
    ----------
    request : RankRequest
        As it was received.
    candidates : list of Candidate
        Those that may come into the list.
    retrieval_scores : ndarray of float32, (len(candidates),)
        The order without a model.
    features : ndarray of float16, (len(candidates), len(ranker.features.NAMES)), optional
        None if the request has none that this version can read, or if no model ranks it.
    scores : ndarray of float32, (len(candidates),)
        What the list is sorted by.
    degraded : str, optional
        Why `scores` are not the model's, or poorer than they could be.
    """

    request: RankRequest
    candidates: list[Candidate]
    retrieval_scores: Vector
    features: features.Features | None
    scores: Vector
    degraded: str | None

    @classmethod
    def unscored(cls, request: RankRequest, degraded: str) -> Ranking:
        """All candidates, by their retrieval scores."""
        scores = np.array([candidate.retrieval_score for candidate in request.candidates], np.float32)
        return cls(request, request.candidates, scores, None, scores, degraded)

    @classmethod
    def cascaded(cls, request: RankRequest, limit: int) -> Ranking:
        """Only the candidates with the highest retrieval scores, at most `limit` of them."""
        ranking = cls.unscored(request, "cold-user")
        given = request.features
        if given is not None:
            ranking.features = features.read(given.schema, given.values, len(request.candidates))
        surplus = len(request.candidates) - limit
        if surplus > 0:
            metrics.candidates_cut.inc(surplus)
            best = np.argsort(-ranking.retrieval_scores, kind="stable")[:limit]
            ranking.candidates = [request.candidates[position] for position in best]
            ranking.scores = ranking.retrieval_scores = ranking.retrieval_scores[best]
            if ranking.features is not None:
                ranking.features = ranking.features[best]
        return ranking

    def score_request(self) -> ScoreRequest:
        """What the scorer reads of it."""
        request = self.request
        return ScoreRequest(
            describe_history(request.history, milliseconds(request.as_of)),
            [one_line(candidate.text) for candidate in self.candidates],
            request.user_id,
            self.features,
            request.request_id,
        )
