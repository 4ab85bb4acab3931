"""People live with the lists of one ranker: day by day they come, read, click, buy, and stay away or leave for good.

Every list goes through both tiers, as in a worker (`streams.offline.pipeline`): events change states, impressions say
what was in view, and the head learns from the clicks on lists, if the settings say so. Knows no measure of rankers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import nan
from statistics import fmean
from typing import NamedTuple

from msgspec import UNSET

from encoders.text.vector_store import Encoder
from ranker.progress import Progress
from ranker.recall.trained import TrainedRecall
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import read
from ranker.score import Scorer
from streams.contracts import Click, Feedback, Impression, Purchase, Recommendations, Trigger
from streams.datasets.month.assortment import CURRENCY, Assortment
from streams.datasets.month.person import GOES_ON, LISTS, PAST_DAYS, Choice, Person, Visit
from streams.datasets.worlds.steps import DAY_MS, HOUR_MS, SECOND_MS, START_MS
from streams.offline.pipeline import Pipeline
from streams.receive.user_events import type_of
from streams.settings import Settings
from streams.state.impressions import note_shown

IN_VIEW = 10
"""Places of a list that people are shown; chosen by us, as a page."""
SHOWN_AFTER_MS = 500
"""From an event to the list on the screen."""


class DayFigures(NamedTuple):
    """What a day was like.

    Attributes
    ----------
    people : int
        Who had not left for good by its end.
    visits, lists, clicks, purchases : int
        Clicks and purchases are those on lists.
    diversity : float
        Share of the pairs of items in view that are of different categories, mean of the lists: intra-list diversity
        (Ziegler et al., WWW 2005); NaN without lists.
    score : float
        Mean satisfaction of those who came, as their last list says it (`encoders.signals.satisfaction`); NaN if nobody
        came.
    """

    people: int
    visits: int
    lists: int
    clicks: int
    purchases: int
    diversity: float
    score: float


@dataclass
class Tally:
    """What came of a visit; `worth` is that of its clicks to the person."""

    lists: list[Recommendations] = field(default_factory=list)
    clicks: int = 0
    purchases: int = 0
    worth: float = 0.0


class Life:
    """A month of some people with the lists of one ranker.

    Parameters
    ----------
    settings : Settings
        Of a worker.
    encoder : Encoder
    scorer : Scorer or None
        The model of the settings. If it learns or explores, no other life may use it.
    goods : Assortment
    people : sequence of Person
        Those of no other life: it changes them.
    trained : TrainedRecall, optional
        As for `Pipeline`.

    Attributes
    ----------
    log : list of Click or Impression
        All that happened, in order; a purchase follows the click on the same item.
    """

    def __init__(
        self,
        settings: Settings,
        encoder: Encoder,
        scorer: Scorer | None,
        goods: Assortment,
        people: Sequence[Person],
        trained: TrainedRecall | None = None,
    ) -> None:
        self.log: list[Click | Impression] = []
        self._goods, self._people = goods, people
        self._pipeline = Pipeline(settings, encoder, scorer, trained)
        self._rules = ItemTable(read(settings.rules)) if settings.rules else None
        if self._rules is not None:
            self._pipeline.ranking.rules.keep(self._rules)
            self._pipeline.state.requests.keep_rules(self._rules)
        self._there = 0
        self._put_items(0)
        self._feedback: dict[str, list[Feedback]] = {}
        self._remember()

    def run(self, days: int, progress: Progress) -> list[DayFigures]:
        """Live the days from 1 to `days`, and report each."""
        figures = []
        for day in range(1, days + 1):
            self._put_items(day)
            for person in self._people:
                person.begin_day(day)
            visits = [(visit, person) for person in self._people if (visit := person.comes(day)) is not None]
            visits.sort(key=lambda pair: pair[0].hour)
            figures.append(self._figures([self._visit(visit, person, day) for visit, person in visits]))
            progress(day, days)
        return figures

    def _put_items(self, day: int) -> None:
        there = self._goods.there(day)
        items = self._goods.items[self._there : there]
        for item in items if self._rules is not None else ():
            self._rules.put(item)
        self._pipeline.put_items(items, START_MS + day * DAY_MS)
        self._pipeline.ranking.prepare(items)
        self._there = there

    def _remember(self) -> None:
        """Take in what people did before the first day."""
        for day in range(1 - PAST_DAYS, 1):
            for person in self._people:
                person.begin_day(day)
                visit = person.chance(day)
                self._take(person, person.find(visit, 0), _ms(day, visit.hour), f"{day}")

    def _visit(self, visit: Visit, person: Person, day: int) -> Tally:
        """One visit: something brings the person, each click brings a new list, and one without a click ends it."""
        tally, now_ms = Tally(), _ms(day, visit.hour)
        event = self._take(person, person.find(visit, day), now_ms, f"{day}")
        for number in range(LISTS):
            list_ = self._list(event)
            tally.lists.append(list_)
            shown = [self._goods.index[item.item_id] for item in list_.items[:IN_VIEW]]
            now_ms += SHOWN_AFTER_MS
            self._show(person, list_, now_ms, f"{day}-{number}")
            choices, worth = person.read(visit, number, shown)
            tally.worth += worth
            for choice in choices:
                now_ms += int(choice.dwell_s * SECOND_MS)
                event = self._take(person, choice, now_ms, f"{day}-{number}-{choice.item}", list_.list_id)
            tally.clicks += len(choices)
            tally.purchases += sum(choice.is_bought for choice in choices)
            if not choices or visit.goes_on[number] >= GOES_ON:
                break
        person.end_visit(tally.worth, len(tally.lists))
        return tally

    def _take(self, person: Person, choice: Choice, now_ms: int, name: str, list_id: str | None = None) -> Click:
        """Let the state tier take in a click, and the purchase after it. Returns the last of both."""
        item, dwell_ms = self._goods.items[choice.item], int(choice.dwell_s * SECOND_MS)
        common = {"user_id": person.user_id, "item_id": item.item_id, "list_id": list_id}
        events = [Click(event_id=name, timestamp=now_ms, dwell_ms=dwell_ms, **common)]
        if choice.is_bought:
            events.append(
                Purchase(event_id=f"{name}-buys", timestamp=now_ms + 1, price=item.price, currency=CURRENCY, **common)
            )
        self._pipeline.state.accept(person.user_id, events)
        self._feedback.setdefault(person.user_id, []).extend(filter(None, map(self._pipeline.state.choice, events)))
        self.log += events
        return events[-1]

    def _list(self, event: Click) -> Recommendations:
        """Make the list that an event causes."""
        trigger = Trigger(event_id=event.event_id, type=type_of(event))
        feedback = self._feedback.pop(event.user_id, [])
        request = self._pipeline.state.request(event.user_id, trigger, event.timestamp, feedback)
        return self._pipeline.ranking.rank([request], event.timestamp)[0]

    def _show(self, person: Person, list_: Recommendations, now_ms: int, name: str) -> None:
        """Say what was in view."""
        items = list_.items[:IN_VIEW]
        propensities = [item.propensity for item in items if item.propensity is not UNSET]
        shown = Impression(
            event_id=name,
            user_id=person.user_id,
            list_id=list_.list_id,
            items=[item.item_id for item in items],
            timestamp=now_ms,
            propensities=propensities or UNSET,
        )
        note_shown(self._pipeline.state.users, person.user_id, [shown], self._pipeline.state.decay)
        self.log.append(shown)

    def _figures(self, visits: Sequence[Tally]) -> DayFigures:
        lists = [list_ for visit in visits for list_ in visit.lists]
        scores = [score for visit in visits if (score := visit.lists[-1].satisfaction) is not UNSET]
        return DayFigures(
            people=sum(not person.is_gone for person in self._people),
            visits=len(visits),
            lists=len(lists),
            clicks=sum(visit.clicks for visit in visits),
            purchases=sum(visit.purchases for visit in visits),
            diversity=_mean([self._diversity(list_) for list_ in lists]),
            score=_mean(scores),
        )

    def _diversity(self, list_: Recommendations) -> float:
        topics = [self._goods.topic[self._goods.index[item.item_id]] for item in list_.items[:IN_VIEW]]
        return _mean([float(one != other) for one, other in combinations(topics, 2)])


def _ms(day: int, hour: float) -> int:
    return START_MS + day * DAY_MS + int(hour * HOUR_MS)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else nan
