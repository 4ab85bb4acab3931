"""The protocol `impressions`: the lists that were shown to users, and what the users chose from each.

Knows no system, file or catalogue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ranker.evaluation.interactions import NONE, Interaction, Interactions
from ranker.evaluation.protocols import Case, Split

ANSWER_MS = 30 * 60_000
"""A click that names no list belongs to a list that was shown at most so long before, unless another came between."""


class ShownList(NamedTuple):
    """A list that was shown to a user: an impression. `propensities` are those of its items, or there are none."""

    list_id: str
    user: str
    items: tuple[str, ...]
    time_ms: int
    propensities: tuple[float, ...] = ()


class AnsweredList(NamedTuple):
    """A list that was shown, and what became of it.

    Attributes
    ----------
    shown : ShownList
    log_index : int
        Of the first event that is not before it.
    chosen : frozenset of str
        Its items that the user chose.
    """

    shown: ShownList
    log_index: int
    chosen: frozenset[str]


def impressions(log: Sequence[Interaction], shown_lists: Iterable[ShownList], start: int) -> Split:
    """One case for each list that was shown from the event of index `start` on; all events are learnt in time.

    The targets are the list's items in the user's events that name the list, or that name none and fall within
    `ANSWER_MS` after it and before the user's next list. Lists without a target, or with targets only, are no case.
    Here a target may be an item of the user's history, because it was shown.
    """
    log = Interactions.of(log)
    cases = [
        Case(shown.user, index, shown.time_ms, chosen, shown.items)
        for shown, index, chosen in answered(log, shown_lists)
        if index >= start and chosen and len(chosen) < len(set(shown.items))
    ]
    return Split(log, np.arange(len(log)), start, cases)


def answered(log: Interactions, shown_lists: Iterable[ShownList]) -> Iterator[AnsweredList]:
    """Yield every list, those of a user after each other, with what the user chose from it; see `impressions`."""
    answers = _Answers(log)
    lists: defaultdict[str, list[ShownList]] = defaultdict(list)
    for shown in sorted(shown_lists, key=lambda shown: (shown.time_ms, shown.list_id)):
        lists[shown.user].append(shown)
    for of_user in lists.values():
        ends_ms = [shown.time_ms for shown in of_user[1:]] + [of_user[-1].time_ms + ANSWER_MS]
        for shown, end_ms in zip(of_user, ends_ms, strict=True):
            index = int(np.searchsorted(log.time_ms, shown.time_ms))
            chosen = answers.items(shown, min(end_ms, shown.time_ms + ANSWER_MS)).intersection(shown.items)
            yield AnsweredList(shown, index, frozenset(chosen))


class _Answers:
    """The events that answer a shown list."""

    def __init__(self, log: Interactions) -> None:
        self._log = log
        self._list_codes = {list_id: code for code, list_id in enumerate(log.names.lists)}
        self._by_list = np.argsort(log.list_id, kind="stable")
        self._begins = np.searchsorted(log.list_id[self._by_list], np.arange(len(self._list_codes) + 1))

    def items(self, shown: ShownList, until_ms: int) -> set[str]:
        """The items of the user's events that name the list, and of those until a time that name none."""
        log, user = self._log, self._log.user_codes.get(shown.user)
        if user is None:
            return set()
        order, begins = log.by_user
        own = order[begins[user] : begins[user + 1]]
        begin, end = np.searchsorted(log.time_ms[own], [shown.time_ms, until_ms])
        events = own[begin:end][log.list_id[own[begin:end]] == NONE].tolist()
        if (code := self._list_codes.get(shown.list_id)) is not None:
            naming = self._by_list[self._begins[code] : self._begins[code + 1]]
            events += naming[(log.user[naming] == user) & (log.time_ms[naming] >= shown.time_ms)].tolist()
        return {log.names.items[log.item[event]] for event in events}
