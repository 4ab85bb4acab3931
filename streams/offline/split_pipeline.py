"""Run the pipeline over a split log: the state tier takes in the events, the rank tier orders candidates for the cases.

At a case, the state tier is as after every event before it and none from then on; an item with a time of its own
appears at that time. A wish holds for lists that are asked for, not for one that was shown. In a leaky split, the state
tier takes in all learnable events first. Knows no measure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from encoders.events.entries import item_key
from encoders.events.shown_lists import read
from encoders.text.vector_store import Encoder
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.protocols import Case, RankedList, Split
from ranker.evaluation.recall import DEPTHS, RecallTally
from ranker.progress import Progress
from ranker.recall.candidates import MergedProposals, RecalledCandidate
from ranker.recall.merge import NOT_PROPOSED
from ranker.recall.trained import TrainedRecall
from ranker.recall.user_view import UserView
from ranker.rules.item_table import ItemTable
from ranker.score import Scorer
from streams.contracts import Item, RankRequest, Triple
from streams.offline.log_feed import LogFeed
from streams.offline.pipeline import Pipeline
from streams.rank.tier import RankTier
from streams.settings import Settings
from streams.state.impressions import shown_to
from streams.state.request_rules import recall_under
from streams.state.request_wishes import RequestWishes
from streams.state.shown_items import marked

REPORT_CASES = 50


@dataclass(frozen=True)
class RankedLists:
    """The lists of a rank tier.

    Attributes
    ----------
    lists : list of RankedList
        One a case, in their order.
    seconds : float
        For requests and ranking.
    ranking_seconds : float
        For ranking alone.
    degraded : int
        How many lists were made without the model.
    """

    lists: list[RankedList]
    seconds: float
    ranking_seconds: float
    degraded: int


class AskedCase(NamedTuple):
    """A case, and what the state tier gave for it.

    Attributes
    ----------
    case : Case
    shopper : UserView
        The user as recall saw them, with what their wishes ask for.
    excluded : sequence of int
        Keys of the items that were not to be candidates.
    proposals : MergedProposals
        What the sources proposed.
    candidates : list of RecalledCandidate
        The candidates of the request.
    request : RankRequest
    seconds : float
        What all this took, beside reading the log as far as the case.
    """

    case: Case
    shopper: UserView
    excluded: Sequence[int]
    proposals: MergedProposals
    candidates: list[RecalledCandidate]
    request: RankRequest
    seconds: float

    def ranks(self, candidate: RecalledCandidate) -> list[int]:
        """The rank of a candidate in each source's order; `NOT_PROPOSED` where the source did not propose it."""
        return [candidate.ranks.get(source, NOT_PROPOSED) for source in self.proposals.sources]


class SplitPipeline:
    """The pipeline over one split: it makes the requests once, and ranks them with any scorer.

    Parameters
    ----------
    settings : Settings
        Of production; but a list that was shown is ordered whole, however long.
    encoder : Encoder
    items : sequence of Item
        The catalogue; an item's index in the lists is its index here.
    split : Split
    trained : TrainedRecall, optional
        As for `Pipeline`.
    triples : sequence of Triple
        What the knowledge graph has from the beginning on.

    Attributes
    ----------
    recall : RecallTally
        What recall found for the cases of `all_requests`.
    """

    def __init__(
        self,
        settings: Settings,
        encoder: Encoder,
        items: Sequence[Item],
        split: Split,
        trained: TrainedRecall | None = None,
        triples: Sequence[Triple] = (),
    ) -> None:
        longest = max((len(case.shown_items) for case in split.cases), default=0)
        at_least = {
            "list_size": max(settings.ranker.list_size, longest),
            "max_candidates": max(settings.ranker.max_candidates, longest),
        }
        ranker = settings.ranker.model_copy(update=at_least)
        candidates = settings.candidates.model_copy(update={"features": "always"})  # whichever model will rank them
        self._settings = settings.model_copy(update={"ranker": ranker, "candidates": candidates})
        self._pipeline = Pipeline(self._settings, encoder, None, trained)
        self._pipeline.put_triples(triples)
        self._split = split
        self._first_ms, self._last_ms = int(split.log.time_ms[0]), int(split.log.time_ms[-1])
        self._item_index = index_by_id(item.item_id for item in items)
        self._feed = LogFeed(self._pipeline.state, self._settings, encoder, items, split)
        self._request_seconds = 0.0
        self.recall = RecallTally()

    def use(self, trained: TrainedRecall) -> None:
        """Make the next requests with what a model brought along for the recall."""
        self._pipeline.state.requests.trained[:] = [trained]

    def all_requests(self, leaky: bool, progress: Progress) -> list[RankRequest]:
        """The request of each case; their time counts in what `rank` measures. Notes what recall finds."""
        requests, tally_seconds = [], 0.0
        started = time.perf_counter()
        for asked in self.asked(leaky, progress):
            requests.append(asked.request)
            tally_started = time.perf_counter()
            self._tally(asked)
            tally_seconds += time.perf_counter() - tally_started
        self._request_seconds = time.perf_counter() - started - tally_seconds
        return requests

    def asked(
        self,
        leaky: bool,
        progress: Progress,
        exclude_history: bool = True,
        whole: bool = False,
        cases: Iterable[Case] | None = None,
    ) -> Iterator[AskedCase]:
        """Yield each case with its request, when the log is read as far as the case.

        Parameters
        ----------
        leaky : bool
            Take in all learnable events before the first case.
        progress : Progress
            In items that are encoded and learnable events that are taken in.
        exclude_history : bool
            Leave the items of the user's history out of the candidates; production does not.
        whole : bool
            Have a candidate of every proposal, in the order of their rows, instead of the best ones alone.
        cases : iterable of Case, optional
            Of the split, in order, each taken when it is its turn; None: all of them.
        """
        feed = self._feed
        feed.encode_items(progress)
        feed.take_items(self._last_ms if leaky else self._first_ms)
        for number, case in enumerate(self._split.cases if cases is None else cases):
            feed.take_events(feed.events if leaky else self._split.learnable_before(case.log_index), progress)
            feed.take_items(case.as_of_ms)
            feed.take_signs(case.as_of_ms)
            yield self._ask(case, exclude_history, whole)
            if number % REPORT_CASES == 0:
                feed.report(progress)

    def rank(
        self, requests: Sequence[RankRequest], scorer: Scorer | None, progress: Progress, rules: ItemTable | None = None
    ) -> RankedLists:
        """Rank the requests in batches, as the rank tier receives them; under the team's rules, if there are any."""
        started = time.perf_counter()
        tier, step = RankTier(self._settings, scorer), self._settings.ranker.batch_lists
        if rules is not None:
            tier.rules.keep(rules)
        lists: list[RankedList] = []
        degraded = 0
        for begin in range(0, len(requests), step):
            batch = requests[begin : begin + step]
            for request, list_ in zip(batch, tier.rank(batch, self._first_ms), strict=True):
                degraded += list_.degraded is not None
                lists.append(
                    RankedList(
                        [self._item_index[item.item_id] for item in list_.items],
                        [self._item_index[candidate.item_id] for candidate in request.candidates],
                    )
                )
            progress(len(lists), len(requests))
        ranking_seconds = time.perf_counter() - started
        return RankedLists(lists, self._request_seconds + ranking_seconds, ranking_seconds, degraded)

    def _ask(self, case: Case, exclude_history: bool, whole: bool) -> AskedCase:
        started = time.perf_counter()
        excluded = exclude_history and not case.shown_items
        met = [item_key(item) for item in {event.item for event in self._split.history(case)}] if excluded else []
        requests, catalogue = self._pipeline.state.requests, self._pipeline.state.catalogue
        record = self._pipeline.state.users.get(case.user)
        interest = record.interest
        context = self._split.log.contexts.get((case.user, interest.as_of_ms), {})
        lists, limit = read(record.shown), self._settings.recalled
        shopper = requests.shopper(interest, context, lists)
        wishes = RequestWishes(self._pipeline.state.users.wishes.holding(case.user, case.as_of_ms))
        seeking = requests.shopper(wishes.seeking(interest), context, lists) if wishes else shopper
        proposals = requests.proposals(case.user, seeking, limit, met)
        if whole:
            candidates = [one for one in proposals.candidates() if not wishes.hide(catalogue.at(one.row))]
        else:

            def find(count: int) -> list[RecalledCandidate]:
                found = proposals if count == limit else requests.proposals(case.user, seeking, count, met)
                return found.best(count)

            candidates = recall_under(requests.rules, seeking, (), wishes, find, limit)
        if case.shown_items:
            recalled = {candidate.row: candidate for candidate in candidates}
            rows = catalogue.rows(map(item_key, dict.fromkeys(case.shown_items))).tolist()
            candidates = [recalled.get(row) or RecalledCandidate(row, 0.0, {}, None) for row in rows if row >= 0]
        request = requests.build(case.user, shopper, candidates)
        shown = shown_to(record, self._pipeline.state.visit_ms)
        request = marked(request, () if case.shown_items else shown, shopper.unclicked)
        if not case.shown_items:
            request = wishes.mark(request, catalogue)
        return AskedCase(case, seeking, met, proposals, candidates, request, time.perf_counter() - started)

    def _tally(self, asked: AskedCase) -> None:
        """Count what recall finds of the case's targets; of a list that was shown nothing was to be found."""
        case, tier = asked.case, self._pipeline.state
        if case.shown_items:
            return
        rows = tier.catalogue.rows(map(item_key, case.targets))
        for depth in DEPTHS:
            proposals = asked.proposals
            if depth != self._settings.recalled:
                proposals = tier.requests.proposals(case.user, asked.shopper, depth, asked.excluded)
            self.recall.note(depth, proposals, rows[rows >= 0], len(case.targets))
