"""Steps 4 and 5: a request becomes a list.

Knows no Kafka and no Faust: the rank worker calls it, and so do tests, the evaluation and `Pipeline`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from encoders.describe import describe_history, one_line
from encoders.event_time import milliseconds
from encoders.interest import (
    Vector,
)
from ranker import features
from ranker.score import Learner, Scorer, ScoreRequest
from ranker.select import Chosen, select
from streams import metrics
from streams.contracts import (
    LIST_SCHEMA,
    Features,
    RankRequest,
    Reason,
    Recommendations,
    RecommendedItem,
)
from streams.rank.recent_lists import PublishedList, RecentLists
from streams.settings import Settings

JUST_BOUGHT_MS = 24 * 3_600_000
"""A purchase this recent is 'just bought': select drops it even where repeat purchases are allowed."""


class RankTier:
    """Steps 4 and 5 for a batch of requests. Without a scorer, candidates keep their order and the list says why.

    Parameters
    ----------
    scorers : one, or two with a challenger; None for no model.
    """

    def __init__(self, settings: Settings, *scorers: Scorer | None) -> None:
        self.scorers = list(scorers)
        self._recent = RecentLists()
        self._challenger_share = settings.ranker.challenger_share
        self._best = settings.ranker.max_candidates
        self._size = settings.ranker.list_size
        self._max_per_category = settings.ranker.max_per_category
        for scorer in scorers:
            metrics.model_from_zero(_name(scorer))

    def variant(self, user_id: str) -> int:
        """Whose scorer makes this user's lists: 0, or 1 for the challenger's share; the same whoever works it out."""
        if len(self.scorers) == 1:
            return 0
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"challenger").digest()
        return int(int.from_bytes(digest, "big") < self._challenger_share * 2**64)

    def model(self, variant: int) -> str:
        """The name that its lists bear."""
        return _name(self.scorers[variant])

    def rank(self, requests: Sequence[RankRequest], now_ms: int) -> list[Recommendations]:
        """Score, then select: one list per request; their users are all of one arm. Blocks while the model works."""
        scorer = self.scorers[self.variant(requests[0].user_id)] if requests else None
        if scorer is None:
            return self.rank_without_model(requests, "no-model", now_ms)
        for whose, feedback in self._recent.feedback(requests).items():
            if isinstance(whose, Learner) and whose in self.scorers:  # else it was replaced
                whose.learn(feedback)
        requests = [self._cut(request) for request in requests]
        warm = [request for request in requests if request.history]
        known = [_features(request) for request in warm]
        asked = [
            ScoreRequest(
                describe_history(request.history, milliseconds(request.as_of)),
                [one_line(candidate.text) for candidate in request.candidates],
                request.user_id,
                of_request,
                request.request_id,
            )
            for request, of_request in zip(warm, known, strict=True)
        ]
        scores = iter(scorer.score(asked) if asked else [])
        features_of = iter(known)
        made = []
        for request in requests:
            if not request.history:
                made.append(self._list(request, _priors(request), "cold-user", now_ms, scorer))
                continue
            degraded = "no-features" if next(features_of) is None and scorer.needs_features else None
            made.append(self._list(request, next(scores), degraded, now_ms, scorer))
        return made

    def rank_without_model(self, requests: Sequence[RankRequest], reason: str, now_ms: int) -> list[Recommendations]:
        """Keep the candidates' own order; the lists say `reason` in `degraded`."""
        made = []
        for request in requests:
            scorer = self.scorers[self.variant(request.user_id)]
            degraded = reason if scorer else "no-model"
            made.append(self._list(request, _priors(request), degraded, now_ms, scorer))
        return made

    def prepare(self, texts: Sequence[str]) -> None:
        """Let the models see items' texts ahead of their requests."""
        for scorer in filter(None, self.scorers):
            scorer.prepare(texts)

    def forget(self, user_ids: Collection[str] | None) -> None:
        """Erase what the models keep of these users; of all, for None."""
        self._recent.forget(user_ids)
        for scorer in filter(None, self.scorers):
            scorer.forget(user_ids)

    def serve(self, scorer: Scorer, variant: int) -> None:
        """From the next batch on this one makes the arm's lists; what is at the one before still comes from there."""
        _warm_up(scorer)
        metrics.model_from_zero(_name(scorer))
        self.scorers[variant] = scorer

    def retire(self, scorer: Scorer) -> None:
        """One that was replaced has finished: what is told of it by name goes."""
        self._recent.retire(scorer)
        metrics.keep_models({_name(one) for one in self.scorers})

    def warm_up(self) -> None:
        """Score something, so that the first user does not wait for what a model does once."""
        for scorer in filter(None, self.scorers):
            _warm_up(scorer)

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
            features=None if known is None else Features(schema=features.SCHEMA, values=known[best].tobytes()),
        )

    def _list(
        self, request: RankRequest, scores: Vector, degraded: str | None, now_ms: int, scorer: Scorer | None
    ) -> Recommendations:
        if not_finite := len(scores) - np.isfinite(scores).sum():
            metrics.scores_not_finite.labels(_name(scorer)).inc(int(not_finite))
            if not_finite == len(scores):
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
            spread=not request.history,
        )
        if not chosen:
            degraded = "no-candidates"
        if scorer is not None and degraded is None:
            positions = [one.position for one in chosen]
            items = [request.candidates[position].item_id for position in positions]
            self._recent.remember(request.request_id, PublishedList(scorer, request.user_id, items, positions, set()))
        return Recommendations(
            schema=LIST_SCHEMA,
            list_id=request.request_id,
            user_id=request.user_id,
            as_of=as_of_ms,
            generated_at=now_ms,
            state_version=request.state_version,
            model=_name(scorer),
            trigger=request.trigger,
            degraded=degraded,
            items=[_place(request, place, rank) for rank, place in enumerate(chosen, 1)],
        )


def _name(scorer: Scorer | None) -> str:
    return scorer.name if scorer else "none"


def _warm_up(scorer: Scorer) -> None:
    scorer.score([ScoreRequest("Viewed a thing today\n" * 20, ["A thing", "Another thing of a longer kind"])])


def _features(request: RankRequest) -> features.Features | None:
    """None where there are none that this version can read."""
    given = request.features
    return None if given is None else features.read(given.schema, given.values, len(request.candidates))


def _priors(request: RankRequest) -> Vector:
    return np.array([candidate.retrieval_score for candidate in request.candidates], np.float32)


def _place(request: RankRequest, chosen: Chosen, rank: int) -> RecommendedItem:
    candidate = request.candidates[chosen.position]
    return RecommendedItem(
        item_id=candidate.item_id,
        rank=rank,
        score=chosen.score if math.isfinite(chosen.score) else None,
        sources=candidate.sources,
        reason=Reason(text=chosen.reason, evidence=list(chosen.evidence)),
    )
