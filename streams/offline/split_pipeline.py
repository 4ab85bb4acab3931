"""Run the pipeline over a split log: the state tier takes in the events, the rank tier orders candidates for the cases.

At a case, the state tier has taken in every event before it and none from then on; an item with a time of its own
appears at that time. In a leaky split, the state tier takes in all learnable events first. Knows no measure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from encoders.event_time import milliseconds
from encoders.interest import item_key
from encoders.text.encoder import TextEncoder
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.protocols import Case, Interaction, RankedList, Split
from ranker.progress import Progress
from ranker.recall.candidates import RecalledCandidate
from ranker.score import Scorer
from streams.contracts import Click, Item, Purchase, RankRequest
from streams.offline.pipeline import Pipeline
from streams.rank.tier import RankTier
from streams.settings import Settings

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
    degraded : int
        How many lists were made without the model.
    """

    lists: list[RankedList]
    seconds: float
    degraded: int


class SplitPipeline:
    """The pipeline over one split: it makes the requests once, and ranks them with any scorer.

    Parameters
    ----------
    settings : Settings
        Of production; but a list that was shown is ordered whole, however long.
    encoder : TextEncoder
    items : sequence of Item
        The catalogue; an item's index in the lists is its index here.
    split : Split
    """

    def __init__(self, settings: Settings, encoder: TextEncoder, items: Sequence[Item], split: Split) -> None:
        longest = max((len(case.shown_items) for case in split.cases), default=0)
        at_least = {
            "list_size": max(settings.ranker.list_size, longest),
            "max_candidates": max(settings.ranker.max_candidates, longest),
        }
        ranker = settings.ranker.model_copy(update=at_least)
        candidates = settings.candidates.model_copy(update={"features": "always"})  # whichever model will rank them
        self._settings = settings.model_copy(update={"ranker": ranker, "candidates": candidates})
        self._pipeline = Pipeline(self._settings, encoder, None)
        self._split = split
        self._first_ms = split.log[0].time_ms
        self._item_index = index_by_id(item.item_id for item in items)
        by_time = sorted(items, key=lambda item: (self._appeared_ms(item), item.item_id))
        self._pending = by_time[::-1]
        self._request_seconds = 0.0

    def all_requests(self, leaky: bool, progress: Progress) -> list[RankRequest]:
        """The request of each case; their time counts in what `rank` measures."""
        started = time.perf_counter()
        requests = list(self.requests(leaky, progress))
        self._request_seconds = time.perf_counter() - started
        return requests

    def requests(self, leaky: bool, progress: Progress, exclude_history: bool = True) -> Iterator[RankRequest]:
        """Yield the request of each case, when the log is read as far as the case.

        Parameters
        ----------
        leaky : bool
            Take in all learnable events before the first case.
        progress : Progress
            In learnable events.
        exclude_history : bool
            Leave the items of the user's history out of the candidates; production does not.
        """
        learnable, fed = self._split.learnable, 0
        self._take_items(self._split.log[-1].time_ms if leaky else self._first_ms)
        for number, case in enumerate(self._split.cases):
            while fed < len(learnable) and (leaky or learnable[fed] < case.log_index):
                self._feed(learnable[fed])
                fed += 1
            self._take_items(case.as_of_ms)
            yield self._request(case, exclude_history)
            if number % REPORT_CASES == 0:
                progress(fed, len(learnable))

    def rank(self, requests: Sequence[RankRequest], scorer: Scorer | None, progress: Progress) -> RankedLists:
        """Rank the requests in batches, as the rank tier receives them."""
        started = time.perf_counter()
        tier, step = RankTier(self._settings, scorer), self._settings.ranker.batch_lists
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
        return RankedLists(lists, self._request_seconds + time.perf_counter() - started, degraded)

    def _feed(self, index: int) -> None:
        event = self._split.log[index]
        self._take_items(event.time_ms)
        click = message_of(event, f"{index}")
        self._pipeline.state.accept(click.user_id, [click])

    def _take_items(self, until_ms: int) -> None:
        appeared = []
        while self._pending and self._appeared_ms(self._pending[-1]) <= until_ms:
            appeared.append(self._pending.pop())
        if appeared:
            self._pipeline.put_items(appeared, self._first_ms)

    def _appeared_ms(self, item: Item) -> int:
        return 0 if item.timestamp is None else milliseconds(item.timestamp)

    def _request(self, case: Case, exclude_history: bool) -> RankRequest:
        excluded = exclude_history and not case.shown_items
        met = list({event.item for event in self._split.history(case)}) if excluded else []
        tier = self._pipeline.state
        shopper = tier.requests.shopper(tier.users.get(case.user).interest)
        candidates = tier.requests.recall(shopper, [item_key(item) for item in met])
        if case.shown_items:
            recalled = {candidate.row: candidate for candidate in candidates}
            rows = tier.catalogue.rows(map(item_key, dict.fromkeys(case.shown_items))).tolist()
            candidates = [recalled.get(row) or RecalledCandidate(row, 0.0, {}, None) for row in rows if row >= 0]
        return tier.requests.build(case.user, shopper, candidates)


def message_of(event: Interaction, event_id: str) -> Click:
    """The message that a producer would have sent."""
    kind = Purchase if event.kind == "purchase" else Click
    return kind(
        event_id=event_id,
        user_id=event.user,
        item_id=event.item,
        timestamp=event.time_ms,
        session_id=event.basket,
        list_id=event.list_id,
    )
