"""Protocols of evaluation: what a system may learn from a log, what it is asked, and what the answer is.

A protocol is a pure function from an ordered log to a `Split`. Lists are asked for at a place in that order, and only
what stands before the place is known there; so no event is seen before its time. The validation part, for tuning, is
the same protocol applied to the training part. Every question is about items that are new to the user: what they know
already is neither asked for nor to be recommended.

Knows no system, file or catalogue. Called by `afterclick evaluate`, and by training, which leaves out what is asked.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from encoders.interest import EventType

SESSION_GAP_MS = 30 * 60_000
"""Events without a session id this far apart begin a new one: the half hour of web analytics."""
ANSWER_MS = 30 * 60_000
"""A click so long after a list was shown, and before the user's next list, answers it if it names no list itself."""


class Interaction(NamedTuple):
    """A click or purchase. `basket`: the invoice or session that it belongs to; None where the log names none.

    `shown_in`: the `list_id` that it names, for the impressions' protocol.
    """

    user: str
    item: str
    time_ms: int
    kind: EventType = "click"
    basket: str | None = None
    shown_in: str | None = None


class Shown(NamedTuple):
    """A list that was shown: an impression."""

    list_id: str
    user: str
    items: tuple[str, ...]
    time_ms: int


class Case(NamedTuple):
    """A question.

    Attributes
    ----------
    user : whose list is asked for.
    place : it is asked before the log's event of this index: events from there on are unknown, whoever's they are.
    as_of_ms : when, milliseconds since the epoch.
    targets : what the user chose then.
    shown : the items among which to choose; empty: the whole catalogue but for what the user knows.
    """

    user: str
    place: int
    as_of_ms: int
    targets: frozenset[str]
    shown: tuple[str, ...] = ()


class Split:
    """A log taken apart.

    Attributes
    ----------
    log : every event, in order.
    learnable : indices of the events of `log` that systems may learn from, ascending; at a case, those below its place.
    fit_until : events below it may be trained and tuned on. For `prequential` and `impressions` the first question
        comes then; where each user is asked at the end of their own log, it is the log's end.
    cases : by `place`, then user.
    """

    def __init__(self, log: Sequence[Interaction], learnable: list[int], fit_until: int, cases: list[Case]) -> None:
        self.log = list(log)
        self.learnable = learnable
        self.fit_until = fit_until
        self.cases = sorted(cases, key=lambda case: (case.place, case.user))
        self._of_user: defaultdict[str, list[int]] = defaultdict(list)
        for place in learnable:
            self._of_user[log[place].user].append(place)

    @property
    def training(self) -> list[Interaction]:
        """What may be used to train, in order: learnable, and before `fit_until`."""
        return self.before(self.fit_until)

    def before(self, place: int) -> list[Interaction]:
        """All that may be known at a place of the log, in order."""
        return [self.log[known] for known in self.learnable[: bisect_left(self.learnable, place)]]

    def known(self, case: Case) -> list[Interaction]:
        """The user's own events before the question, oldest first."""
        return [self.log[place] for place in self.known_places(case)]

    def known_places(self, case: Case) -> list[int]:
        """Indices in `log` of what `known` gives."""
        places = self._of_user.get(case.user, [])
        return places[: bisect_left(places, case.place)]


def ordered(events: Iterable[Interaction], seed: int, line_order: bool = False) -> list[Interaction]:
    """The log in the order of time; events of the same time in random order, or as they came if `line_order`.

    Lines of one invoice share a minute: in the order of the file 'the next line' is guessed by its neighbour in the
    catalogue, which says nothing about a recommender.
    """
    shuffled = list(events)
    if not line_order:
        shuffled.sort(key=repr)  # the result then depends on the events alone, not on the order in which they came
        random.Random(seed).shuffle(shuffled)
    return sorted(shuffled, key=lambda event: event.time_ms)


def leave_one_out(log: Sequence[Interaction]) -> Split:
    """Ask for each user's last first-time item, given all before it; what they did after it is in neither part."""
    asked: dict[str, int] = {}
    met: set[tuple[str, str]] = set()
    for place, event in enumerate(log):
        if (event.user, event.item) not in met:
            met.add((event.user, event.item))
            asked[event.user] = place
    return _last_of_each(log, {user: (place, [place]) for user, place in asked.items()})


def next_basket(log: Sequence[Interaction]) -> Split:
    """Ask for the first-time items of each user's last basket, given what they did before it began.

    A basket is an invoice or a session (`Interaction.basket`); events without one are parted where `SESSION_GAP_MS`
    pass. The last is the one that began last. A user whose last basket holds nothing new is not asked.
    """
    times = [event.time_ms for event in log]
    last: dict[str, tuple[int, list[int]]] = {}
    for user, baskets in _baskets(log).items():
        newest = max(baskets, key=lambda basket: basket[0])
        last[user] = bisect_left(times, log[newest[0]].time_ms), newest
    return _last_of_each(log, last)


def time_split(log: Sequence[Interaction], cut_ms: int) -> Split:
    """Ask once, at `cut_ms`, for every first-time item from then on of each user who was seen before."""
    place = bisect_left([event.time_ms for event in log], cut_ms)
    known = _items_by_user(log[:place])
    later = _items_by_user(log[place:])
    cases = [
        Case(user, place, cut_ms, frozenset(items - known[user]))
        for user, items in later.items()
        if user in known and items - known[user]
    ]
    return Split(log, list(range(place)), place, cases)


def prequential(log: Sequence[Interaction], start: int) -> Split:
    """Test, then train: from the event of index `start` on, each first-time event is asked for, then learned.

    A user's very first event is not asked for: there was no list.
    """
    known = _items_by_user(log[:start])
    cases = []
    for place, event in enumerate(log[start:], start):
        if known[event.user] and event.item not in known[event.user]:
            cases.append(Case(event.user, place, event.time_ms, frozenset([event.item])))
        known[event.user].add(event.item)
    return Split(log, list(range(len(log))), start, cases)


def impressions(log: Sequence[Interaction], shown: Iterable[Shown], start: int) -> Split:
    """Ask for an order of each list that was shown from the event of index `start` on; all events are learned in time.

    The answer: the list's items in the user's events that name the list, or that name none and fall within `ANSWER_MS`
    after it and before the user's next list. Lists without an answer, or of items that were all chosen, are not asked.
    Here an item that the user knew may be asked for: it was shown.
    """
    times = [event.time_ms for event in log]
    by_user: defaultdict[str, list[Interaction]] = defaultdict(list)
    for event in log:
        by_user[event.user].append(event)
    lists: defaultdict[str, list[Shown]] = defaultdict(list)
    for one in sorted(shown, key=lambda one: (one.time_ms, one.list_id)):
        lists[one.user].append(one)
    cases = []
    for user, theirs in lists.items():
        ends_ms = [one.time_ms for one in theirs[1:]] + [theirs[-1].time_ms + ANSWER_MS]
        for one, end_ms in zip(theirs, ends_ms, strict=True):
            place = bisect_left(times, one.time_ms)
            answered_until_ms = min(end_ms, one.time_ms + ANSWER_MS)
            chosen = {event.item for event in by_user[user] if _answers(event, one, answered_until_ms)}
            targets = chosen.intersection(one.items)
            if place >= start and targets and len(targets) < len(set(one.items)):
                cases.append(Case(user, place, one.time_ms, frozenset(targets), one.items))
    return Split(log, list(range(len(log))), start, cases)


def place_of_share(log: Sequence[Interaction], share: float) -> int:
    """Index of the first event after the first `share` of the log, moved up to where a new time begins."""
    place = round(len(log) * share)
    while 0 < place < len(log) and log[place].time_ms == log[place - 1].time_ms:
        place += 1
    return place


def _last_of_each(log: Sequence[Interaction], last: dict[str, tuple[int, list[int]]]) -> Split:
    """Ask each user at a place for the new items of the events given; of the others, those before it are learnable."""
    by_user: defaultdict[str, list[int]] = defaultdict(list)
    for place, event in enumerate(log):
        by_user[event.user].append(place)
    learnable: list[int] = []
    cases: list[Case] = []
    for user, (begin, asked) in last.items():
        before = [place for place in by_user[user] if place < begin]
        targets = {log[place].item for place in asked}.difference(log[place].item for place in before)
        if before and targets:
            cases.append(Case(user, begin, log[begin].time_ms, frozenset(targets)))
        learnable.extend(before if before and targets else by_user[user])
    return Split(log, sorted(learnable), len(log), cases)


def _items_by_user(log: Iterable[Interaction]) -> defaultdict[str, set[str]]:
    items: defaultdict[str, set[str]] = defaultdict(set)
    for event in log:
        items[event.user].add(event.item)
    return items


def basket_numbers(log: Sequence[Interaction]) -> list[int]:
    """For each event the number of its basket; events of one basket have the same, and only they."""
    numbers = [0] * len(log)
    every = (basket for of_user in _baskets(log).values() for basket in of_user)
    for number, basket in enumerate(every):
        for place in basket:
            numbers[place] = number
    return numbers


def _baskets(log: Sequence[Interaction]) -> dict[str, list[list[int]]]:
    """Each user's baskets as places in the log, ascending."""
    named: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
    unnamed: defaultdict[str, list[list[int]]] = defaultdict(list)
    for place, event in enumerate(log):
        if event.basket is not None:
            named[event.user].setdefault(event.basket, []).append(place)
            continue
        of_user = unnamed[event.user]
        if of_user and event.time_ms - log[of_user[-1][-1]].time_ms <= SESSION_GAP_MS:
            of_user[-1].append(place)
        else:
            of_user.append([place])
    return {user: [*named.get(user, {}).values(), *unnamed.get(user, [])] for user in {**named, **unnamed}}


def _answers(event: Interaction, shown: Shown, end_ms: int) -> bool:
    if event.time_ms < shown.time_ms:
        return False
    return event.shown_in == shown.list_id if event.shown_in is not None else event.time_ms < end_ms
