"""Steps 4 and 5: a request becomes a list.

Knows no Kafka and no Faust: the rank worker calls it, and so do tests, the evaluation and `Pipeline`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from encoders.describe import describe_history, one_line
from encoders.event_time import milliseconds
from encoders.interest import (
    Vector,
)
from ranker import Scorer, ScoreRequest, features
from ranker.select import Chosen, select
from streams import metrics
from streams.contracts import (
    LIST_SCHEMA,
    Behaviour,
    RankRequest,
    Reason,
    Recommendations,
    RecommendedItem,
)
from streams.settings import Settings

JUST_BOUGHT_MS = 24 * 3_600_000
"""A purchase this recent is 'just bought': select drops it even where repeat purchases are allowed."""


class RankTier:
    """Steps 4 and 5 for a batch of requests. Without a scorer, candidates keep their order and the list says why."""

    def __init__(self, settings: Settings, scorer: Scorer | None) -> None:
        self.scorer = scorer
        self.model = scorer.name if scorer else "none"
        self._best = settings.ranker.best
        self._size = settings.ranker.list_size
        self._max_per_category = settings.ranker.max_per_category

    def rank(self, requests: Sequence[RankRequest], now_ms: int) -> list[Recommendations]:
        """Score, then select: one list per request. Blocks while the model works."""
        if self.scorer is None:
            return self.rank_without_model(requests, "no-model", now_ms)
        requests = [self._cut(request) for request in requests]
        warm = [request for request in requests if request.history]
        contexts = [describe_history(request.history, milliseconds(request.as_of)) for request in warm]
        behaviour = [_features(request) for request in warm]
        scores = dict(
            zip(
                (id(request) for request in warm),
                self.scorer.score(
                    [
                        ScoreRequest(
                            context, [one_line(c.text) for c in request.candidates], request.user_id, of_request
                        )
                        for request, context, of_request in zip(warm, contexts, behaviour, strict=True)
                    ]
                ),
                strict=True,
            )
        )
        poor = {id(request) for request, known in zip(warm, behaviour, strict=True) if known is None}
        reason = "no-features" if self.scorer.needs_features else None
        return [
            self._list(request, scores[id(request)], reason if id(request) in poor else None, now_ms)
            if request.history
            else self._list(request, _priors(request), "cold-user", now_ms)
            for request in requests
        ]

    def forget(self, user_ids: Collection[str] | None) -> None:
        """Erase what the model keeps of these users; of all, for None."""
        if self.scorer is not None:
            self.scorer.forget(user_ids)

    def rank_without_model(self, requests: Sequence[RankRequest], reason: str, now_ms: int) -> list[Recommendations]:
        """Keep the candidates' own order; the lists say `reason` in `degraded`."""
        degraded = reason if self.scorer else "no-model"
        return [self._list(request, _priors(request), degraded, now_ms) for request in requests]

    def warm_up(self) -> None:
        """Score something, so that the first user does not wait for what a model does once."""
        if self.scorer is not None:
            self.scorer.score(
                [ScoreRequest("Viewed a thing today\n" * 20, ["A thing", "Another thing of a longer kind"])]
            )

    def _cut(self, request: RankRequest) -> RankRequest:
        """The cascade: only the best candidates by their own order get to the model, and only they into the list."""
        if len(request.candidates) <= self._best:
            return request
        metrics.candidates_cut.inc(len(request.candidates) - self._best)
        best = np.argsort(-_priors(request), kind="stable")[: self._best]
        known = _features(request)
        return msgspec.structs.replace(
            request,
            candidates=[request.candidates[place] for place in best],
            behaviour=None if known is None else Behaviour(schema=features.SCHEMA, values=known[best].tobytes()),
        )

    def _list(self, request: RankRequest, scores: Vector, degraded: str | None, now_ms: int) -> Recommendations:
        if len(scores) and not np.isfinite(scores).any():
            scores, degraded = _priors(request), "model-not-finite"
        as_of_ms = milliseconds(request.as_of)
        just_bought = {
            event.item_id
            for event in request.history
            if event.type == "purchase" and milliseconds(event.timestamp) > as_of_ms - JUST_BOUGHT_MS
        }
        chosen = select(
            request.candidates,
            scores.tolist(),
            request.history,
            self._size,
            self._max_per_category,
            just_bought,
        )
        return Recommendations(
            schema=LIST_SCHEMA,
            list_id=request.request_id,
            user_id=request.user_id,
            as_of=as_of_ms,
            generated_at=now_ms,
            state_version=request.state_version,
            model=self.model,
            trigger=request.trigger,
            degraded=degraded,
            items=[_place(request, place, rank) for rank, place in enumerate(chosen, 1)],
        )


def _features(request: RankRequest) -> features.Features | None:
    """None where there are none that this version can read."""
    given = request.behaviour
    return None if given is None else features.read(given.schema, given.values, len(request.candidates))


def _priors(request: RankRequest) -> Vector:
    return np.array([candidate.prior for candidate in request.candidates], np.float32)


def _place(request: RankRequest, chosen: Chosen, rank: int) -> RecommendedItem:
    candidate = request.candidates[chosen.position]
    return RecommendedItem(
        item_id=candidate.item_id,
        rank=rank,
        score=chosen.score if math.isfinite(chosen.score) else None,
        sources=candidate.sources,
        reason=Reason(text=chosen.reason, evidence=list(chosen.evidence)),
    )
