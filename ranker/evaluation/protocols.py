"""Protocols of evaluation: what a system may learn from a log, for which users it ranks items, and what is relevant.

A protocol is a pure function from an ordered log to a `Split`. Each test case has an index in the log. A system knows
only the events below that index, so it sees no event before its time. The validation part, for tuning, is the same
protocol applied to the training part. The targets of a case are items that are new to the user; items that the user
has met are neither targets nor to be recommended.

Knows no system, file or catalogue.
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
"""A click that names no list belongs to a list that was shown at most so long before, unless another came between."""


class Interaction(NamedTuple):
    """A click or purchase.

    Attributes
    ----------
    user, item : str
    time_ms : int
        Milliseconds since the epoch.
    kind : EventType
    basket : str or None
        The invoice or session that it belongs to; None where the log names none.
    list_id : str or None
        The shown list that it names, for the protocol `impressions`.
    """

    user: str
    item: str
    time_ms: int
    kind: EventType = "click"
    basket: str | None = None
    list_id: str | None = None


class ShownList(NamedTuple):
    """A list that was shown to a user: an impression."""

    list_id: str
    user: str
    items: tuple[str, ...]
    time_ms: int


class Case(NamedTuple):
    """A test case: a list to be ranked for a user at a moment, and what is relevant in it.

    Attributes
    ----------
    user : str
    log_index : int
        The events of the log from this index on are unknown, whichever user they belong to.
    as_of_ms : int
        The moment, milliseconds since the epoch.
    targets : frozenset of str
        The relevant items: what the user chose then.
    shown_items : tuple of str
        The items to be ranked; empty: the whole catalogue but the items of the user's history.
    """

    user: str
    log_index: int
    as_of_ms: int
    targets: frozenset[str]
    shown_items: tuple[str, ...] = ()


class RankedList(NamedTuple):
    """A system's answer to a case, as indices of items.

    Attributes
    ----------
    ranked : list of int
        Best first; of a list that was shown, all its items.
    candidates : list of int
        The items that it was chosen from, in the order of retrieval.
    """

    ranked: list[int]
    candidates: list[int]


class Split:
    """A log split into events to learn from and test cases.

    Attributes
    ----------
    log : list of Interaction
        Every event, in order.
    learnable : list of int
        Indices of the events that systems may learn from, ascending; at a case, only those below its index.
    fit_until : int
        Events below this index may be trained and tuned on. For `prequential` and `impressions` the first case comes
        then; for protocols with a case at the end of each user's own log, it is the log's end.
    cases : list of Case
        By index, then user.
    """

    def __init__(self, log: Sequence[Interaction], learnable: list[int], fit_until: int, cases: list[Case]) -> None:
        self.log = list(log)
        self.learnable = learnable
        self.fit_until = fit_until
        self.cases = sorted(cases, key=lambda case: (case.log_index, case.user))
        self._by_user: defaultdict[str, list[int]] = defaultdict(list)
        for index in learnable:
            self._by_user[log[index].user].append(index)

    @property
    def training(self) -> list[Interaction]:
        """What may be used to train, in order: learnable, and before `fit_until`."""
        return self.before(self.fit_until)

    def before(self, index: int) -> list[Interaction]:
        """All events that may be known at an index of the log, in order."""
        return [self.log[earlier] for earlier in self.learnable[: bisect_left(self.learnable, index)]]

    def history(self, case: Case) -> list[Interaction]:
        """The user's own events before the case, oldest first."""
        return [self.log[index] for index in self.history_indices(case)]

    def history_indices(self, case: Case) -> list[int]:
        """Indices in `log` of the events of `history`."""
        indices = self._by_user.get(case.user, [])
        return indices[: bisect_left(indices, case.log_index)]


def ordered(events: Iterable[Interaction], seed: int, line_order: bool = False) -> list[Interaction]:
    """Sort events by time; events of the same time in random order, or as they came if `line_order`.

    Lines of one invoice share a minute. In the order of the file, neighbours in the catalogue often follow each other,
    so that guessing the neighbour predicts 'the next line'; this says nothing about a recommender.
    """
    shuffled = list(events)
    if not line_order:
        shuffled.sort(key=repr)  # the result then depends on the events alone, whatever order they came in
        random.Random(seed).shuffle(shuffled)
    return sorted(shuffled, key=lambda event: event.time_ms)


def leave_one_out(log: Sequence[Interaction]) -> Split:
    """One case a user: the user's last first-time item, given all events before it.

    Events that follow the target are in neither part.
    """
    last: dict[str, int] = {}
    met: set[tuple[str, str]] = set()
    for index, event in enumerate(log):
        if (event.user, event.item) not in met:
            met.add((event.user, event.item))
            last[event.user] = index
    return _split_at_last(log, {user: (index, [index]) for user, index in last.items()})


def next_basket(log: Sequence[Interaction]) -> Split:
    """One case a user: the first-time items of the user's last basket, given the events before it began.

    A basket is an invoice or a session (`Interaction.basket`); events without one are split where `SESSION_GAP_MS`
    pass. The last basket is the one that began last. A user whose last basket holds nothing new has no case.
    """
    times = [event.time_ms for event in log]
    last: dict[str, tuple[int, list[int]]] = {}
    for user, baskets in _baskets(log).items():
        newest = max(baskets, key=lambda basket: basket[0])
        last[user] = bisect_left(times, log[newest[0]].time_ms), newest
    return _split_at_last(log, last)


def time_split(log: Sequence[Interaction], cut_ms: int) -> Split:
    """One case for each user who was seen before `cut_ms`: every first-time item from then on."""
    index = bisect_left([event.time_ms for event in log], cut_ms)
    earlier = _items_by_user(log[:index])
    later = _items_by_user(log[index:])
    cases = [
        Case(user, index, cut_ms, frozenset(items - earlier[user]))
        for user, items in later.items()
        if user in earlier and items - earlier[user]
    ]
    return Split(log, list(range(index)), index, cases)


def prequential(log: Sequence[Interaction], start: int) -> Split:
    """Test, then train: from the event of index `start` on, each first-time event is a case, then learnt.

    A user's very first event is no case: there was no list.
    """
    met = _items_by_user(log[:start])
    cases = []
    for index, event in enumerate(log[start:], start):
        if met[event.user] and event.item not in met[event.user]:
            cases.append(Case(event.user, index, event.time_ms, frozenset([event.item])))
        met[event.user].add(event.item)
    return Split(log, list(range(len(log))), start, cases)


def impressions(log: Sequence[Interaction], shown_lists: Iterable[ShownList], start: int) -> Split:
    """One case for each list that was shown from the event of index `start` on; all events are learnt in time.

    The targets are the list's items in the user's events that name the list, or that name none and fall within
    `ANSWER_MS` after it and before the user's next list. Lists without a target, or with targets only, are no case.
    Here a target may be an item of the user's history, because it was shown.
    """
    times = [event.time_ms for event in log]
    by_user: defaultdict[str, list[Interaction]] = defaultdict(list)
    for event in log:
        by_user[event.user].append(event)
    lists: defaultdict[str, list[ShownList]] = defaultdict(list)
    for shown in sorted(shown_lists, key=lambda shown: (shown.time_ms, shown.list_id)):
        lists[shown.user].append(shown)
    cases = []
    for user, of_user in lists.items():
        ends_ms = [shown.time_ms for shown in of_user[1:]] + [of_user[-1].time_ms + ANSWER_MS]
        for shown, end_ms in zip(of_user, ends_ms, strict=True):
            index = bisect_left(times, shown.time_ms)
            answered_until_ms = min(end_ms, shown.time_ms + ANSWER_MS)
            chosen = {event.item for event in by_user[user] if _answers(event, shown, answered_until_ms)}
            targets = chosen.intersection(shown.items)
            if index >= start and targets and len(targets) < len(set(shown.items)):
                cases.append(Case(user, index, shown.time_ms, frozenset(targets), shown.items))
    return Split(log, list(range(len(log))), start, cases)


def index_of_share(log: Sequence[Interaction], share: float) -> int:
    """Index of the first event after the first `share` of the log, moved up to where a new time begins."""
    index = round(len(log) * share)
    while 0 < index < len(log) and log[index].time_ms == log[index - 1].time_ms:
        index += 1
    return index


def _split_at_last(log: Sequence[Interaction], last: dict[str, tuple[int, list[int]]]) -> Split:
    """Split each user's events at an index: those before it are learnable, and given ones hold the targets."""
    by_user: defaultdict[str, list[int]] = defaultdict(list)
    for index, event in enumerate(log):
        by_user[event.user].append(index)
    learnable: list[int] = []
    cases: list[Case] = []
    for user, (begin, held_out) in last.items():
        before = [index for index in by_user[user] if index < begin]
        targets = {log[index].item for index in held_out}.difference(log[index].item for index in before)
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
    """The number of each event's basket. Two events have the same number exactly if they are of one basket."""
    numbers = [0] * len(log)
    every = (basket for of_user in _baskets(log).values() for basket in of_user)
    for number, basket in enumerate(every):
        for index in basket:
            numbers[index] = number
    return numbers


def _baskets(log: Sequence[Interaction]) -> dict[str, list[list[int]]]:
    """Each user's baskets, as ascending indices in the log."""
    named: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
    unnamed: defaultdict[str, list[list[int]]] = defaultdict(list)
    for index, event in enumerate(log):
        if event.basket is not None:
            named[event.user].setdefault(event.basket, []).append(index)
            continue
        of_user = unnamed[event.user]
        if of_user and event.time_ms - log[of_user[-1][-1]].time_ms <= SESSION_GAP_MS:
            of_user[-1].append(index)
        else:
            of_user.append([index])
    return {user: [*named.get(user, {}).values(), *unnamed.get(user, [])] for user in {**named, **unnamed}}


def _answers(event: Interaction, shown: ShownList, end_ms: int) -> bool:
    if event.time_ms < shown.time_ms:
        return False
    return event.list_id == shown.list_id if event.list_id is not None else event.time_ms < end_ms
