"""Steps 4 and 5, score and select: a rank request becomes a list.

Knows neither Kafka, Faust nor Redis, nor when lists are made and where they go.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from msgspec import UNSET

from encoders.describe import describe_event, describe_item
from encoders.event_time import milliseconds
from encoders.interest import Vector
from ranker.score import Learner, NotScored, Scorer, ScoreRequest, Unscored
from ranker.select import select
from streams import metrics
from streams.contracts import LIST_SCHEMA, Item, RankRequest, Recommendations
from streams.rank.exploration import Exploration
from streams.rank.exposure import Exposure
from streams.rank.list_items import list_items
from streams.rank.list_language import ListLanguage
from streams.rank.list_rules import ListRules, inserted, noted
from streams.rank.list_wishes import obeyed
from streams.rank.model_usage import ModelUsage
from streams.rank.ranking import Ranking, Reading
from streams.rank.recent_lists import PublishedList, RecentLists
from streams.rank.satisfaction_metrics import user_satisfaction
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
    exposure : Exposure
        Which items the lists show.
    rules : ListRules
        The team's rules.
    language : ListLanguage
        The language of each list's reasons.
    gone : set of str
        Ids of items that no list may show, although a request may still propose them.
    """

    def __init__(self, settings: Settings, *scorers: Scorer | None) -> None:
        self.scorers = list(scorers)
        self.usage = ModelUsage()
        self.exposure = Exposure()
        self.rules = ListRules()
        self.gone: set[str] = set()
        self._recent = RecentLists()
        self.language = ListLanguage(settings.reasons)
        self._ranker = settings.ranker
        self._reading = Reading(settings.interest.weights, settings.ranker.context_keys)
        self._max_candidates = max(settings.ranker.max_candidates, settings.ranker.list_size)
        self._size = settings.ranker.list_size
        self._exploration = Exploration(settings.ranker)
        self._max_per_category = settings.ranker.max_per_category
        for scorer in scorers:
            metrics.model_from_zero(_name(scorer))
            if scorer is not None:
                self.usage.add(scorer)
        metrics.show_build(self._serving())

    def variant(self, user_id: str) -> int:
        """Which scorer makes the user's lists: 0, or 1 for the challenger's share. Every process gives the same."""
        return 0 if len(self.scorers) == 1 else self._ranker.variant(user_id)

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
        rankings = self.score(requests, self._max_candidates)
        return [self._list(ranking, now_ms, scorer) for ranking in rankings]

    def score(self, requests: Sequence[RankRequest], limit: int) -> list[Ranking]:
        """Step 4 alone: score up to `limit` candidates of each request. Blocks while the model works.

        Parameters
        ----------
        requests : sequence of RankRequest
            All users are of one variant.
        limit : int
            Number of candidates.

        Returns
        -------
        list of Ranking
            One for each request, in the same order.
        """
        scorer = self.scorers[self.variant(requests[0].user_id)] if requests else None
        if scorer is None:
            return [Ranking.unscored(request, "no-model", self.rules.removals(request)) for request in requests]
        rankings = [
            Ranking.cascaded(request, limit, scorer.feature_set, self.rules.removals(request)) for request in requests
        ]
        warm = [ranking for ranking in rankings if _is_warm(ranking.request)]
        if warm:
            asked = [
                self._exploration.seeded(ranking.score_request(scorer.reads_events, self._reading), ranking.request)
                for ranking in warm
            ]
            scored, draws = _results(scorer, asked), self._exploration.take_draws(scorer, asked)
            for ranking, result, of_list in zip(warm, scored, draws, strict=True):
                ranking.draws = of_list
                if isinstance(result, str):
                    ranking.degraded = f"model-{result}"
                    continue
                ranking.scores, ranking.degraded = result, ranking.lacks
                self._check(ranking, scorer)
        self.usage.observe_batch(scorer, len(requests))
        return rankings

    def rank_without_model(self, requests: Sequence[RankRequest], reason: str, now_ms: int) -> list[Recommendations]:
        """Keep the order of retrieval. A list of a user without a history is as it would be with the model.

        Parameters
        ----------
        requests : sequence of RankRequest
            Users of any variant.
        reason : str
            For the lists' field `degraded`, one of `metric_labels.DEGRADED_REASONS`.
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
            why = "no-model" if scorer is None else reason if _is_warm(request) else "cold-user"
            lists.append(self._list(Ranking.unscored(request, why, self.rules.removals(request)), now_ms, scorer))
        return lists

    def prepare(self, items: Sequence[Item]) -> None:
        """Let the models process items' texts before requests name these items. Blocks."""
        texts, events = list(map(describe_item, items)), list(map(describe_event, items))
        for scorer in filter(None, self.scorers):
            scorer.prepare(texts, events if scorer.reads_events else ())

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
        metrics.show_build(self._serving())

    def retire(self, scorer: Scorer) -> None:
        """Drop the metrics of a scorer that was replaced and has finished its calls."""
        self._recent.retire(scorer)
        serving = self._serving()
        self.usage.retire(scorer, serving)
        self.exposure.keep(serving)
        metrics.keep_models(serving)

    def warm_up(self) -> None:
        """Score a synthetic request, so that the first user does not wait for what a model does only once."""
        for scorer in filter(None, self.scorers):
            _warm_up(scorer)
            self.usage.add(scorer)  # without the synthetic request

    def _serving(self) -> set[str]:
        return {_name(scorer) for scorer in self.scorers}

    def _learn(self, requests: Sequence[RankRequest]) -> None:
        """Hand the users' feedback to the scorers that made the lists, if they still serve."""
        for scorer, feedback in self._recent.feedback(requests).items():
            if isinstance(scorer, Learner) and scorer in self.scorers:
                scorer.learn(feedback)

    def _check(self, ranking: Ranking, scorer: Scorer) -> None:
        """Count scores that are not finite; if none is finite, keep the order of retrieval."""
        if not_finite := len(ranking.scores) - np.isfinite(ranking.scores).sum():
            metrics.scores_not_finite.labels(_name(scorer)).inc(int(not_finite))
            if not_finite == len(ranking.scores):
                ranking.scores, ranking.degraded = ranking.retrieval_scores, "model-not-finite"

    def _list(self, ranking: Ranking, now_ms: int, scorer: Scorer | None) -> Recommendations:
        """Select the items of a list."""
        request, degraded = ranking.request, ranking.degraded
        as_of_ms = milliseconds(request.as_of)
        just_bought = {
            event.item_id
            for event in request.history
            if event.type == "purchase" and milliseconds(event.timestamp) > as_of_ms - JUST_BOUGHT_MS
        }
        language = self.language.note(request)
        effects = self.rules.effects(request, ranking.candidates)
        candidates = [*ranking.candidates, *inserted(effects)]
        draws = ranking.draws if degraded is None and not effects.bounds else None
        explored = self._exploration.of(draws, candidates, effects)
        selected, moved, exposure = select(
            candidates,
            ranking.scores.tolist() + [math.nan] * len(effects.inserted),
            self._reading.liked(request.history),
            self._size,
            self._max_per_category,
            just_bought | self.rules.unread(request) | {c.item_id for c in candidates if c.item_id in self.gone},
            spread=not _is_warm(request),
            effects=effects,
            explore=explored,
            language=language,
        )
        items = list_items(request, language, candidates, selected, explored.propensities if explored else [])
        if not items:
            degraded = "no-candidates"
        rules = noted(ranking.kept_out, moved, candidates, exposure)
        if request.satisfaction is not None:
            user_satisfaction.labels(_name(scorer)).observe(request.satisfaction)
        self.exposure.note(_name(scorer), [item.item_id for item in items])
        if scorer is not None and degraded is None:
            scored = [chosen.position for chosen in selected if chosen.position < len(ranking.candidates)]
            item_ids = [candidates[position].item_id for position in scored]
            self._recent.remember(request.request_id, PublishedList(scorer, request.user_id, item_ids, scored))
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
            placement=request.placement,
            rules=rules,
            wishes=obeyed(request, rules or {}, not items),
            satisfaction=UNSET if request.satisfaction is None else request.satisfaction,
        )


def _is_warm(request: RankRequest) -> bool:
    """Whether the user has done anything that a model can read."""
    return bool(request.history or request.searches)


def _name(scorer: Scorer | None) -> str:
    return scorer.name if scorer else "none"


def _results(scorer: Scorer, requests: list[ScoreRequest]) -> Sequence[Vector | Unscored]:
    try:
        return scorer.score(requests)
    except NotScored as error:
        return error.results


def _warm_up(scorer: Scorer) -> None:
    _results(scorer, [ScoreRequest("Viewed a thing today\n" * 20, ["A thing", "Another thing of a longer kind"])])
