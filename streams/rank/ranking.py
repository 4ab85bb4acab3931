"""The record of one request while it becomes a list. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from encoders.describe import describe_context, describe_event, describe_history, one_line
from encoders.event_time import milliseconds
from encoders.interest import Vector
from ranker import features
from ranker.score import FeatureSet, ScoreRequest
from streams import metrics
from streams.contracts import Candidate, HistoryEvent, RankRequest
from streams.rank.exploration import SeededDraws

_NONE: Mapping[int, str] = MappingProxyType({})


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
    features : ndarray of float16, (len(candidates), features of the model), optional
        None if the request has none that the model can read, or if no model ranks it.
    scores : ndarray of float32, (len(candidates),)
        What the list is sorted by.
    degraded : str, optional
        Why `scores` are not the model's, or poorer than they could be.
    kept_out : dict of str to list of str
        Candidates that the list may not have, by the rule that says so.
    lacks : str, optional
        Why the model has no features although it needs them.
    draws : SeededDraws, optional
        For exploration.
    """

    request: RankRequest
    candidates: list[Candidate]
    retrieval_scores: Vector
    features: features.Features | None
    scores: Vector
    degraded: str | None
    kept_out: dict[str, list[str]]
    lacks: str | None = None
    draws: SeededDraws | None = None

    @classmethod
    def unscored(cls, request: RankRequest, degraded: str, removed: Mapping[int, str] = _NONE) -> Ranking:
        """All candidates, by their retrieval scores, but for those at the indices that a rule removes."""
        candidates, kept_out = request.candidates, dict[str, list[str]]()
        if removed:
            for index, rule in removed.items():
                kept_out.setdefault(rule, []).append(candidates[index].item_id)
            candidates = [candidate for index, candidate in enumerate(candidates) if index not in removed]
        scores = np.array([candidate.retrieval_score for candidate in candidates], np.float32)
        return cls(request, candidates, scores, None, scores, degraded, kept_out)

    @classmethod
    def cascaded(
        cls, request: RankRequest, limit: int, feature_set: FeatureSet | None, removed: Mapping[int, str] = _NONE
    ) -> Ranking:
        """Only the candidates with the highest retrieval scores, at most `limit` of them, for a model's features."""
        ranking = cls.unscored(request, "cold-user", removed)
        if feature_set is not None:
            ranking.features, ranking.lacks = _features(request, feature_set)
            if ranking.features is not None and removed:
                ranking.features = np.delete(ranking.features, list(removed), axis=0)
        surplus = len(ranking.candidates) - limit
        if surplus > 0:
            metrics.candidates_cut.inc(surplus)
            best = np.argsort(-ranking.retrieval_scores, kind="stable")[:limit]
            ranking.candidates = [ranking.candidates[position] for position in best]
            ranking.scores = ranking.retrieval_scores = ranking.retrieval_scores[best]
            if ranking.features is not None:
                ranking.features = ranking.features[best]
        return ranking

    def score_request(self, reads_events: bool, reading: Reading) -> ScoreRequest:
        """Return what the scorer reads of it.

        Parameters
        ----------
        reads_events : bool
            See `Scorer.reads_events`: the request has the events, or the context.
        reading : Reading
            What a model is told.
        """
        request = self.request
        return ScoreRequest(
            "" if reads_events else reading.context(request),
            [one_line(candidate.text) for candidate in self.candidates],
            request.user_id,
            self.features,
            request.request_id,
            reading.interests(request) if reads_events else None,
        )


class Reading(NamedTuple):
    """What models are told of a request.

    Attributes
    ----------
    weights : mapping of str to float
        What events weigh, by type.
    context_keys : sequence of str
        What of the request's context.
    """

    weights: Mapping[str, float]
    context_keys: Sequence[str] = ()

    def liked(self, history: Iterable[HistoryEvent]) -> list[HistoryEvent]:
        """Return the events of a positive weight: a reason may cite them."""
        return [event for event in history if self.weights.get(event.type, 0.0) * event.strength > 0]

    def context(self, request: RankRequest) -> str:
        """Return what a model reads that reads text, in lines: events and searches by time, then where the user is."""
        history = describe_history(request.history, milliseconds(request.as_of), request.searches)
        return "\n".join(filter(None, [history, describe_context(request.context, self.context_keys)]))

    def interests(self, request: RankRequest) -> list[str]:
        """Return the texts of what the user liked and searched for, in the order of time."""
        liked = [(milliseconds(event.timestamp), describe_event(event)) for event in self.liked(request.history)]
        if request.searches:
            liked += [(milliseconds(search.timestamp), one_line(search.text)) for search in request.searches]
            liked.sort(key=lambda pair: pair[0])
        return [text for _, text in liked]


def _features(request: RankRequest, expected: FeatureSet) -> tuple[features.Features | None, str | None]:
    """The features of a request, or why it has none that the model can read."""
    given = request.features
    if given is None:
        return None, "no-features"
    values = features.read(given.schema, given.version, given.values, len(request.candidates), expected)
    return values, None if values is not None else "other-features"
