"""Ask the pipeline of production: the state tier is fed the log event by event, the rank tier orders its candidates.

At a question the pipeline has taken in every event before it and none from then on, items too where they have a time of
their own. With `peek` it takes in all that may be learned first. Knows no measure; called by `command`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from encoders.event_time import milliseconds
from encoders.text.encoder import TextEncoder
from ranker.evaluation.judge import RankedList
from ranker.evaluation.protocols import Case, Interaction, Split
from ranker.score import Scorer
from streams.contracts import Click, Item, Purchase, RankRequest
from streams.offline.pipeline import Pipeline
from streams.rank.tier import RankTier
from streams.settings import Settings

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RankedLists:
    """What a rank tier answered, in the order of the questions, and the seconds that the whole took."""

    answers: list[RankedList]
    seconds: float
    degraded: int


class Production:
    """The pipeline, asked once; `rank` then orders the same candidates with and without a model.

    Parameters
    ----------
    settings : of production; a list that was shown is ordered whole, however long.
    items : the catalogue; in the answers, an item's number is its place here.
    """

    def __init__(self, settings: Settings, encoder: TextEncoder, items: Sequence[Item], split: Split) -> None:
        longest = max((len(case.shown) for case in split.cases), default=0)
        at_least = {
            "list_size": max(settings.ranker.list_size, longest),
            "max_candidates": max(settings.ranker.max_candidates, longest),
        }
        ranker = settings.ranker.model_copy(update=at_least)
        candidates = settings.candidates.model_copy(update={"features": "always"})  # whatever model will rank them
        self._settings = settings.model_copy(update={"ranker": ranker, "candidates": candidates})
        self._pipeline = Pipeline(self._settings, encoder, None)
        self._split = split
        self._first_ms = split.log[0].time_ms
        self._items = {item.item_id: item for item in items}
        self._number = {item_id: number for number, item_id in enumerate(self._items)}
        by_time = sorted(items, key=lambda item: (self._appeared_ms(item), item.item_id))
        self._pending = by_time[::-1]
        self.seconds = 0.0

    def ask(self, peek: bool, progress: Progress) -> list[RankRequest]:
        """The requests to the rank tier, one for each question."""
        started = time.perf_counter()
        requests = list(self.requests(peek, progress))
        self.seconds = time.perf_counter() - started
        return requests

    def requests(self, peek: bool, progress: Progress, leave_out_known: bool = True) -> Iterator[RankRequest]:
        """The same, one at a time: the log is read as far as the question.

        With `leave_out_known` no item is a candidate that the user did anything with; without, as in production.
        """
        places, fed = self._split.learnable, 0
        self._take_items(self._split.log[-1].time_ms if peek else self._first_ms)
        for number, case in enumerate(self._split.cases):
            while fed < len(places) and (peek or places[fed] < case.place):
                self._feed(places[fed])
                fed += 1
            self._take_items(case.as_of_ms)
            yield self._request(case, leave_out_known)
            if number % 50 == 0:
                progress(fed, len(places))

    def rank(self, requests: Sequence[RankRequest], scorer: Scorer | None, progress: Progress) -> RankedLists:
        """Have the requests ranked in batches, as the rank tier gets them."""
        started = time.perf_counter()
        tier, step = RankTier(self._settings, scorer), self._settings.ranker.batch_lists
        answers: list[RankedList] = []
        degraded = 0
        for begin in range(0, len(requests), step):
            batch = requests[begin : begin + step]
            for request, list_ in zip(batch, tier.rank(batch, self._first_ms), strict=True):
                degraded += list_.degraded is not None
                answers.append(
                    RankedList(
                        [self._number[item.item_id] for item in list_.items],
                        [self._number[candidate.item_id] for candidate in request.candidates],
                    )
                )
            progress(len(answers), len(requests))
        return RankedLists(answers, self.seconds + time.perf_counter() - started, degraded)

    def _feed(self, place: int) -> None:
        event = self._split.log[place]
        self._take_items(event.time_ms)
        click = message_of(event, f"{place}")
        self._pipeline.state.accept(click.user_id, [click])

    def _take_items(self, until_ms: int) -> None:
        taken = []
        while self._pending and self._appeared_ms(self._pending[-1]) <= until_ms:
            taken.append(self._pending.pop())
        if taken:
            self._pipeline.put_items(taken, self._first_ms)

    def _appeared_ms(self, item: Item) -> int:
        return 0 if item.timestamp is None else milliseconds(item.timestamp)

    def _request(self, case: Case, leave_out_known: bool) -> RankRequest:
        known = [] if case.shown or not leave_out_known else list({event.item for event in self._split.known(case)})
        return self._pipeline.state.request(case.user, None, None, leave_out=known, instead=case.shown)


def message_of(event: Interaction, event_id: str) -> Click:
    """The message that a producer would have sent."""
    kind = Purchase if event.kind == "purchase" else Click
    return kind(
        event_id=event_id,
        user_id=event.user,
        item_id=event.item,
        timestamp=event.time_ms,
        session_id=event.basket,
        list_id=event.shown_in,
    )
