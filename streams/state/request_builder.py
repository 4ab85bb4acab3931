"""Step 3 in memory: recall candidates for a user, and build the rank request. Knows no Kafka and no Faust.

A request with candidates of somebody else's is completed in the same way: `complete` gives it what `build` gives ours.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
import numpy as np

from encoders.events.entries import Event, item_key
from encoders.events.shown_lists import SeenList
from encoders.interest import Decay, Interest, Vector, empty, update_all
from ranker.recall.candidates import MergedProposals, RecalledCandidate, Source, given, proposals
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from ranker.recall.item_columns import ItemColumns
from ranker.recall.priorities import WIDER
from ranker.recall.trained import TrainedRecall, ready
from ranker.recall.user_view import UserView
from ranker.rules.item_table import ItemTable
from ranker.rules.rule import RuleSet
from streams.contracts import Candidate, Features, Feedback, RankRequest, Trigger
from streams.settings import Settings
from streams.state.decays import priorities_of
from streams.state.history import event_of, recent_history, recent_searches
from streams.state.knowledge_metrics import observe_searches
from streams.state.request_candidates import asked_for, described_candidates, pulled
from streams.state.request_features import features_of, features_of_given
from streams.state.request_rules import recall_under
from streams.state.request_wishes import NO_WISHES, RequestWishes
from streams.state.shown_items import marked

Encode = Callable[[Sequence[str]], Awaitable[Vector]]
"""Computes the vectors of texts, (n, dim) float32, outside the event loop."""


class RequestBuilder:
    """Recalls candidates, and builds requests from them.

    Parameters
    ----------
    settings : Settings
        How many candidates a request has, and which model ranks which user's.
    catalogue : Catalogue
        The items.
    counts : Counts
        Co-visits and trends.
    sources : sequence of Source
        Where candidates come from, beside the learnt sources of the models.
    decay : Decay
        Settings of the interest state.
    trained : sequence of TrainedRecall
        See the attribute.

    Attributes
    ----------
    trained : list of TrainedRecall
        What the models brought along, by variant; the only one serves all users. A request is built with one of them
        from beginning to end.
    rules : ItemTable
        The team's rules that apply now.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        counts: Counts,
        sources: Sequence[Source],
        decay: Decay,
        trained: Sequence[TrainedRecall],
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._counts = counts
        self._sources = sources
        self._decay = decay
        self._priorities = priorities_of(settings)
        self.trained = ready(trained, catalogue)
        self.rules = ItemTable(RuleSet())

    def replace(self, number: int, trained: TrainedRecall) -> Iterator[None]:
        """Make what a newer model brought along ready, in steps of milliseconds; the last one lets it serve a variant.

        Raises
        ------
        ModelUnsupported
            It was learnt with another encoder.
        """
        yield from trained.enter(self._catalogue)
        self.trained[number] = trained

    def shopper(
        self,
        interest: Interest,
        context: Mapping[str, str] = MappingProxyType({}),
        shown: Sequence[SeenList] = (),
        domain: str = "",
    ) -> UserView:
        """Give what the sources may look at: the user's interest, context and lists, the catalogue and the counts."""
        return UserView(interest, self._catalogue, self._counts, self._decay, context, shown, self._priorities, domain)

    def keep_rules(self, table: ItemTable, *_: object) -> None:
        """Recall no items from now on that these rules exclude from a request."""
        self.rules = table

    def recall(
        self,
        user_id: str,
        shopper: UserView,
        excluded: Sequence[int] = (),
        shown: Collection[int] = (),
        wishes: RequestWishes = NO_WISHES,
    ) -> list[RecalledCandidate]:
        """Recall the user's candidates, best first. See `recall_under`.

        Parameters
        ----------
        user_id, shopper
            The user.
        excluded : sequence of int
            Keys of items that may not be candidates, beside those that `recall` excludes by itself.
        shown : collection of int
            Hashes of items that the user was shown.
        wishes : RequestWishes
            The user's.
        """

        def find(count: int) -> list[RecalledCandidate]:
            wider = WIDER if shopper.priorities.reorder else 1
            return self.proposals(user_id, shopper, wider * count, excluded).best(count, shopper)

        return recall_under(self.rules, shopper, shown, wishes, find, self._settings.recalled)

    def proposals(self, user_id: str, shopper: UserView, limit: int, excluded: Sequence[int] = ()) -> MergedProposals:
        """Give all that the sources propose for a recall of `limit` candidates, merged. See `recall`."""
        trained = self.trained_for(user_id)
        sources, repeats = trained.sources(self._sources), self._priorities.repeats
        return proposals(shopper, sources, limit, repeats, excluded, trained.merge)

    def build(
        self,
        user_id: str,
        shopper: UserView,
        candidates: Sequence[RecalledCandidate],
        trigger: Trigger | None = None,
        arrived_ms: int | None = None,
        feedback: Sequence[Feedback] = (),
    ) -> RankRequest:
        """Build the request to rank these candidates for the user.

        Parameters
        ----------
        user_id : str
            The user.
        shopper : UserView
            The same user, as given to `recall`.
        candidates : sequence of RecalledCandidate
            In any order.
        trigger : Trigger, optional
            The event that caused the request.
        arrived_ms : int, optional
            When that event's record was written.
        feedback : sequence of Feedback
            The items that the user chose from lists since the last request.
        """
        interest = shopper.state
        columns = self._catalogue.columns(np.array([candidate.row for candidate in candidates], np.intp))
        walk = self.trained_for(user_id).walk(shopper)
        with_evidence = described_candidates(shopper, candidates, columns, walk, self.rules.reads_purchases)
        observe_searches(self._catalogue.knowledge)
        return RankRequest(
            request_id=uuid.uuid4().hex,
            user_id=user_id,
            as_of=interest.as_of_ms,
            history=recent_history(interest, self._catalogue, self._decay),
            candidates=with_evidence,
            features=self._features(user_id, shopper, columns, candidates),
            feedback=list(feedback),
            context=dict(shopper.context),
            searches=recent_searches(interest),
            domain=shopper.domain,
            placement=shopper.domain or None,
            state_version=interest.version,
            trigger=trigger,
            arrived_at=arrived_ms,
            satisfaction=shopper.satisfaction,
        )

    async def vectors_for(self, request: RankRequest, encode: Encode) -> dict[str, Vector]:
        """Give the vectors that `complete` needs: of the texts of the candidates whose items are unknown.

        While they are computed an item may leave the catalogue.
        """
        vectors: dict[str, Vector] = {}
        while texts := {c.text for c in request.candidates if c.text not in vectors and not self._knows(c)}:
            missing = list(texts)
            vectors |= zip(missing, await encode(missing), strict=True)
        return vectors

    def complete(
        self,
        request: RankRequest,
        stored: Interest,
        vectors: Mapping[str, Vector],
        shown: Sequence[SeenList] = (),
    ) -> RankRequest:
        """Give a request what it lacks of history, features and retrieval scores, as `build` computes them.

        Parameters
        ----------
        request : RankRequest
            With candidates of any origin. An item that the catalogue does not know is described by the candidate's text
            and categories, and has no events.
        stored : Interest
            The state of the user. If it is empty, the request's own history takes its place.
        vectors : mapping of str to numpy.ndarray
            See `vectors_for`; the catalogue must not have changed since.
        shown : sequence of SeenList
            The newest lists that the user was shown.
        """
        stored = stored if stored.version else self.folded(map(event_of, request.history))
        shopper = self.shopper(stored, request.context, shown, request.domain)
        if request.domain:
            return asked_for(request, self.build(request.user_id, shopper, self.recall(request.user_id, shopper)))
        known = [candidate for candidate in request.candidates if self._knows(candidate)]
        rows = self._catalogue.rows(item_key(candidate.item_id) for candidate in known)
        repeats, trained = self._priorities.repeats, self.trained_for(request.user_id)
        sources = trained.sources(self._sources)
        recalled = given(shopper, sources, self._settings.recalled, repeats, rows, trained.merge)
        recalled_of = {candidate.item_id: one for candidate, one in zip(known, recalled, strict=True)}
        candidates = request.candidates
        if not any(candidate.retrieval_score for candidate in candidates):
            scores = [one.retrieval_score if (one := recalled_of.get(c.item_id)) else 0.0 for c in candidates]
            candidates = [
                msgspec.structs.replace(candidate, retrieval_score=score)
                for candidate, score in zip(candidates, scores, strict=True)
            ]
        candidates = pulled(shopper, candidates)
        given_features = None
        if self._with_features(trained):
            given_features = features_of_given(trained, shopper, candidates, recalled_of, vectors)
        completed = msgspec.structs.replace(
            request,
            searches=request.searches or recent_searches(shopper.state),
            history=request.history or recent_history(shopper.state, self._catalogue, self._decay),
            candidates=candidates,
            features=given_features,
            satisfaction=shopper.satisfaction,
        )
        return marked(completed, (), shopper.unclicked)

    def folded(self, events: Iterable[Event]) -> Interest:
        """Give the interest state of a user with these events alone."""
        known = list(events)
        vectors = [self._catalogue.vector(event.item) for event in known]
        return update_all(empty(self._catalogue.dim), known, vectors, self._decay)

    def _knows(self, candidate: Candidate) -> bool:
        return item_key(candidate.item_id) in self._catalogue

    def trained_for(self, user_id: str) -> TrainedRecall:
        """Give what the model that ranks the user's lists brought along."""
        return self.trained[0 if len(self.trained) == 1 else self._settings.ranker.variant(user_id)]

    def _with_features(self, trained: TrainedRecall) -> bool:
        return trained.needs_features or self._settings.candidates.features == "always"

    def _features(
        self, user_id: str, shopper: UserView, columns: ItemColumns, candidates: Sequence[RecalledCandidate]
    ) -> Features | None:
        trained = self.trained_for(user_id)
        return features_of(trained, shopper, columns, candidates) if self._with_features(trained) else None
