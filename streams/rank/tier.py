"""Steps 4 and 5, score and select: a rank request becomes a list.

Knows neither Kafka, Faust nor Redis, nor when lists are made and where they go.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence

import numpy as np

from encoders.event_time import milliseconds
from ranker.score import Learner, Scorer, ScoreRequest
from ranker.select import SelectedItem, select
from streams import metrics
from streams.contracts import (
    LIST_SCHEMA,
    Candidate,
    RankRequest,
    Reason,
    Recommendations,
    RecommendedItem,
)
from streams.rank.model_usage import ModelUsage
from streams.rank.ranking import Ranking
from streams.rank.recent_lists import PublishedList, RecentLists
from streams.settings import Settings

JUST_BOUGHT_MS = 24 * 3_600_000
"""A purchase this recent is 'just bought': select drops it even where repeat purchases are allowed."""


class RankTier:
    """Make lists of rank requests.

    Parameters
    ----------
    settings : Settings
        The fields of `ranker` decide.
    *scorers : Scorer, optional
        The model, and the challenger if there is one. For None lists keep the order of retrieval and say so.

    Attributes
    ----------
    scorers : list of Scorer, optional
        By variant: 0 is the model, 1 the challenger.
    usage : ModelUsage
        The counters of the scorers' work.
    """

    def __init__(self, settings: Settings, *scorers: Scorer | None) -> None:
        self.scorers = list(scorers)
        self.usage = ModelUsage()
        self._recent = RecentLists()
        self._challenger_share = settings.ranker.challenger_share
        self._max_candidates = settings.ranker.max_candidates
        self._size = settings.ranker.list_size
        self._max_per_category = settings.ranker.max_per_category
        for scorer in scorers:
            metrics.model_from_zero(_name(scorer))
            if scorer is not None:
                self.usage.add(scorer)

    def variant(self, user_id: str) -> int:
        """Which scorer makes the user's lists: 0, or 1 for the challenger's share. Every process gives the same."""
        if len(self.scorers) == 1:
            return 0
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"challenger").digest()
        return int(int.from_bytes(digest, "big") < self._challenger_share * 2**64)

    def model(self, variant: int) -> str:
        """The model's name in the variant's lists and metrics; `none` without a model."""
        return _name(self.scorers[variant])

    def rank(self, requests: Sequence[RankRequest], now_ms: int) -> list[Recommendations]:
        """Score and select. Blocks while the model works.

        Parameters
        ----------
        requests : sequence of RankRequest
            All users are of one variant.
        now_ms : int
            Milliseconds since the epoch, for `generated_at`.

        Returns
        -------
        list of Recommendations
            One list per request, in the same order.
        """
        scorer = self.scorers[self.variant(requests[0].user_id)] if requests else None
        if scorer is None:
            return self.rank_without_model(requests, "no-model", now_ms)
        self._learn(requests)
        rankings = [Ranking.cascaded(request, self._max_candidates) for request in requests]
        warm = [ranking for ranking in rankings if ranking.request.history]
        if warm:
            for ranking, scores in zip(warm, scorer.score([r.score_request() for r in warm]), strict=True):
                ranking.scores = scores
                ranking.degraded = "no-features" if ranking.features is None and scorer.needs_features else None
        self.usage.observe_batch(scorer, len(requests))
        return [self._list(ranking, now_ms, scorer) for ranking in rankings]

    def rank_without_model(self, requests: Sequence[RankRequest], reason: str, now_ms: int) -> list[Recommendations]:
        """Keep the order of retrieval.

        Parameters
        ----------
        requests : sequence of RankRequest
            Users of any variant.
        reason : str
            For the lists' field `degraded`, one of `metrics.DEGRADED_REASONS`.
        now_ms : int
            Milliseconds since the epoch, for `generated_at`.

        Returns
        -------
        list of Recommendations
            One list per request, in the same order.
        """
        lists = []
        for request in requests:
            scorer = self.scorers[self.variant(request.user_id)]
            lists.append(self._list(Ranking.unscored(request, reason if scorer else "no-model"), now_ms, scorer))
        return lists

    def prepare(self, texts: Sequence[str]) -> None:
        """Let the models process items' texts before requests name these items. Blocks."""
        for scorer in filter(None, self.scorers):
            scorer.prepare(texts)

    def forget(self, user_ids: Collection[str] | None) -> None:
        """Erase what the models keep of these users; of all users, for None. Blocks."""
        self._recent.forget(user_ids)
        for scorer in filter(None, self.scorers):
            scorer.forget(user_ids)

    def serve(self, scorer: Scorer, variant: int) -> None:
        """Replace a variant's scorer, from the next batch on. Calls in progress finish at the old scorer."""
        _warm_up(scorer)
        metrics.model_from_zero(_name(scorer))
        self.usage.add(scorer)
        self.scorers[variant] = scorer

    def retire(self, scorer: Scorer) -> None:
        """Drop the metrics of a scorer that was replaced and has finished its calls."""
        self._recent.retire(scorer)
        serving = {_name(scorer) for scorer in self.scorers}
        self.usage.retire(scorer, serving)
        metrics.keep_models(serving)

    def warm_up(self) -> None:
        """Score a synthetic request, so that the first user does not wait for what a model does only once."""
        for scorer in filter(None, self.scorers):
            _warm_up(scorer)
            self.usage.add(scorer)  # without the synthetic request

    def _learn(self, requests: Sequence[RankRequest]) -> None:
        """Hand the users' feedback to the scorers that made the lists, if they still serve."""
        for scorer, feedback in self._recent.feedback(requests).items():
            if isinstance(scorer, Learner) and scorer in self.scorers:
                scorer.learn(feedback)

    def _list(self, ranking: Ranking, now_ms: int, scorer: Scorer | None) -> Recommendations:
        """Select the items of a list."""
        request, scores, degraded = ranking.request, ranking.scores, ranking.degraded
        if not_finite := len(scores) - np.isfinite(scores).sum():
            metrics.scores_not_finite.labels(_name(scorer)).inc(int(not_finite))
            if not_finite == len(scores):
                scores, degraded = ranking.retrieval_scores, "model-not-finite"
        as_of_ms = milliseconds(request.as_of)
        just_bought = {
            event.item_id
            for event in request.history
            if event.type == "purchase" and milliseconds(event.timestamp) > as_of_ms - JUST_BOUGHT_MS
        }
        selected = select(
            ranking.candidates,
            scores.tolist(),
            request.history,
            self._size,
            self._max_per_category,
            just_bought,
            spread=not request.history,
        )
        items = [_item(ranking.candidates[chosen.position], chosen, rank) for rank, chosen in enumerate(selected, 1)]
        if not items:
            degraded = "no-candidates"
        if scorer is not None and degraded is None:
            self._recent.remember(
                request.request_id,
                PublishedList(
                    scorer,
                    request.user_id,
                    [item.item_id for item in items],
                    [chosen.position for chosen in selected],
                ),
            )
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
            items=items,
        )


def _name(scorer: Scorer | None) -> str:
    return scorer.name if scorer else "none"


def _warm_up(scorer: Scorer) -> None:
    scorer.score([ScoreRequest("Viewed a thing today\n" * 20, ["A thing", "Another thing of a longer kind"])])


def _item(candidate: Candidate, chosen: SelectedItem, rank: int) -> RecommendedItem:
    return RecommendedItem(
        item_id=candidate.item_id,
        rank=rank,
        score=chosen.score if math.isfinite(chosen.score) else None,
        sources=candidate.sources,
        reason=Reason(text=chosen.reason, evidence=list(chosen.evidence)),
    )
