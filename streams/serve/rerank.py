"""Score given candidates for a user now, as the pipeline would, without an event and without a list that is published.

The features and the model are the pipeline's own. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from threadpoolctl import threadpool_limits

from encoders.describe import MAX_CHARACTERS, context_words, one_line
from encoders.errors import AfterclickError
from encoders.event_time import milliseconds
from encoders.events.entries import Event, item_key
from encoders.events.shown_lists import SeenList, read
from encoders.interest import Interest, Vector
from encoders.text.vector_store import rounded
from ranker.rules.arrange import arrange
from ranker.rules.reading import BadCondition
from streams.bodies import CandidateError, RerankCandidate, Reranked, RerankedItem, RerankQuestion
from streams.contracts import Candidate, RankRequest
from streams.kafka.record_time import now_ms
from streams.rank.list_rules import ListRules
from streams.rank.ranking import Ranking
from streams.rank.serving import Serving
from streams.rank.tier import RankTier
from streams.receive.pseudonym import pseudonym
from streams.rules.live_rules import LiveRules
from streams.serve.replica import ReplicaNotReady
from streams.serve.score_batches import ScoreBatches
from streams.settings import Settings
from streams.state.model_follower import follow
from streams.state.tier import StateTier

AT_MODEL = 2
"""Calls of models that may wait in threads: one for each variant."""
_STEP_MS = 1_000
"""Between the events of a history without times; chosen by us."""


class BadRerank(AfterclickError):
    """The question cannot be answered, now or later. The message says what to correct."""


class Knowledge(Protocol):
    """What is known of users, items and counts: a `Replica`.

    Attributes
    ----------
    on_forgotten : callable
        Is told the id of each user who was forgotten.
    """

    on_forgotten: Callable[[str], object]

    @property
    def tier(self) -> StateTier:
        """The state tier over it, to be read only."""

    async def wait(self) -> None:
        """Wait until it has all that there was at the start."""


class Reranker:
    """Answers questions.

    Parameters
    ----------
    settings : Settings
        Of the server.
    serving : Serving
        The models, which load in the background: an encoder and the scorers. Closed by the caller.
    knowledge : Knowledge
        Started and stopped by the caller.

    Raises
    ------
    RulesError
        The team's rules cannot be used.
    """

    def __init__(self, settings: Settings, serving: Serving, knowledge: Knowledge) -> None:
        self._settings = settings
        self._serving = serving
        self._knowledge = knowledge
        self._threads = ThreadPoolExecutor(AT_MODEL, "rerank")
        self._batches: ScoreBatches | None = None
        self._preparing: asyncio.Future[Any] | None = None
        self._rules, self._list_rules = LiveRules(settings), ListRules()
        self._rules.on_change.append(self._list_rules.keep)

    @property
    def is_ready(self) -> bool:
        """Whether `answer` can answer."""
        return self._batches is not None

    async def answer(self, question: RerankQuestion) -> Reranked:
        """Score the candidates.

        Raises
        ------
        BadRerank
            The question has both a user and a history, or neither.
        ReplicaNotReady
            The models are loading, or the replica has not caught up.
        ScorerOverloaded
            Too many questions wait.
        """
        if (question.user_id is None) == (question.history is None):
            got = "neither" if question.user_id is None else "both"
            raise BadRerank(f"rerank: got {got} of user_id and history, expected one of them; correct the body")
        batches = self._batches
        if batches is None:
            raise ReplicaNotReady(
                "rerank: got a question while the models or the catalogue load, expected it after that; try again in "
                "a second"
            )
        candidates, errors = self._candidates(question.candidates)
        user_id, interest, shown = self._user(question)
        request = RankRequest(
            request_id="rerank",
            user_id=user_id,
            as_of=interest.as_of_ms,
            history=[],
            candidates=candidates,
            context=context_words(question.context),
            exclude=question.exclude,
            pin=question.pin,
            filter=question.filter,
        )
        try:
            self._list_rules.check(request)
        except BadCondition as error:
            raise BadRerank(f"rerank: filter: {error}") from None
        builder = self._knowledge.tier.requests
        vectors = await builder.vectors_for(request, self._encode)
        completed = self._knowledge.tier.with_wishes(builder.complete(request, interest, vectors, shown))
        model = batches.tier.model(batches.tier.variant(user_id))
        return _answer(await batches.score(completed), model, errors, self._list_rules)

    async def start(self) -> None:
        """Begin to prepare the models, in the background."""
        self._preparing = asyncio.ensure_future(asyncio.gather(self._prepare(), self._rules.run()))

    async def _prepare(self) -> None:
        """Warm the models up once they are loaded, then follow their folders."""
        await self._knowledge.wait()
        await self._rules.caught_up.wait()
        threadpool_limits(1, "blas")  # numpy's products are small here: a second thread would only wait
        tier = RankTier(self._settings, *self._serving.scorers)
        tier.rules = self._list_rules
        await asyncio.get_running_loop().run_in_executor(self._threads, tier.warm_up)
        self._knowledge.on_forgotten = self._forget
        self._batches = ScoreBatches(tier, self._threads, self._settings.ranker.batch_lists)
        requests = self._knowledge.tier.requests
        await asyncio.gather(self._serving.follow(tier), follow(requests, self._settings.ranker))

    def _forget(self, user_id: str) -> None:
        """Let the models forget a user, after the calls in progress."""
        if self._batches is not None:
            self._threads.submit(self._batches.tier.forget, {user_id})

    def _user(self, question: RerankQuestion) -> tuple[str, Interest, list[SeenList]]:
        tier = self._knowledge.tier
        if question.user_id is not None:
            user_id = tier.users.member_of(pseudonym(question.user_id, self._settings.pseudonym_key))
            record = tier.users.get(user_id)
            return user_id, record.interest, read(record.shown)
        history = question.history or []
        first_ms = now_ms() - _STEP_MS * len(history)
        events = [
            Event(
                item_key(event.item_id),
                first_ms + _STEP_MS * index if event.timestamp is None else milliseconds(event.timestamp),
                event.type,
            )
            for index, event in enumerate(history)
        ]
        return "", tier.requests.folded(events), []

    def _candidates(self, given: Sequence[RerankCandidate]) -> tuple[list[Candidate], list[CandidateError]]:
        """The candidates as a rank request has them, and those that no text describes."""
        candidates, errors = [], []
        for candidate in given:
            item = self._knowledge.tier.catalogue.get(item_key(candidate.item_id))
            if item is not None:
                candidates.append(Candidate(item_id=item.item_id, text=item.text, categories=list(item.categories)))
            elif candidate.text is not None:
                text = one_line(candidate.text)[:MAX_CHARACTERS]
                candidates.append(Candidate(item_id=candidate.item_id, text=text))
            else:
                text = f"got {candidate.item_id!r}, expected an item of the catalogue; send it on items, or its text"
                errors.append(CandidateError(candidate.item_id, "unknown_item", text))
        return candidates, errors

    async def _encode(self, texts: Sequence[str]) -> Vector:
        encoder = self._serving.encoder
        if encoder is None:
            raise TypeError("rerank: got models without an encoder, expected one")
        return rounded(await asyncio.get_running_loop().run_in_executor(self._threads, encoder.encode, texts))

    async def stop(self) -> None:
        """Ask the models nothing any more."""
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)
        self._threads.shutdown(wait=False)


def _answer(ranking: Ranking, model: str, errors: Sequence[CandidateError], rules: ListRules) -> Reranked:
    """Order the candidates: scores that are not finite come last, and equal ones by item id, as in a list.

    Rules move them as in a list that has room for all. Those that they keep out are errors.
    """
    candidates, scores = ranking.candidates, ranking.scores.tolist()
    scored = [score if math.isfinite(score) else None for score in scores]
    order = sorted(
        range(len(candidates)),
        key=lambda index: (scored[index] is None, -(scored[index] or 0.0), candidates[index].item_id),
    )
    found = rules.effects(ranking.request, candidates)
    kept, moved, _ = arrange(order, found, len(candidates), len(candidates), lambda _: None, len(candidates))
    left = set(order).difference(kept)
    out = [(rule, item_id) for rule, item_ids in ranking.kept_out.items() for item_id in item_ids]
    out += [(rule, candidates[index].item_id) for rule, indices in moved.items() for index in indices if index in left]
    excluded = [CandidateError(item_id, "excluded", f"the rule {rule!r} keeps the item out") for rule, item_id in out]
    items = [RerankedItem(candidates[index].item_id, rank, scored[index]) for rank, index in enumerate(kept, 1)]
    return Reranked(items, model, ranking.degraded, [*errors, *excluded])
