"""Protocols of evaluation: what a system may learn from a log, for which users it ranks items, and what is relevant.

A protocol is a pure function from an ordered log to a `Split`. Each test case has an index in the log. A system knows
only the events below that index, so it sees no event before its time. The validation part, for tuning, is the same
protocol applied to the training part. The targets of a case are items that are new to the user; items that the user
has met are neither targets nor to be recommended.

Knows no system, file or catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ranker.evaluation.interactions import NONE, Indices, Interaction, Interactions

SESSION_GAP_MS = 30 * 60_000
"""Events without a session id this far apart begin a new one: the half hour of web analytics."""


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

    Parameters
    ----------
    log, learnable, cases
        See the attributes; in any sequence.

    Attributes
    ----------
    log : Interactions
        Every event, in order.
    learnable : (n,) int64
        Indices of the events that systems may learn from, ascending; at a case, only those below its index.
    fit_until : int
        Events below this index may be trained and tuned on. For `prequential` and `impressions` the first case comes
        then; for protocols with a case at the end of each user's own log, it is the log's end.
    cases : list of Case
        By index, then user.
    """

    def __init__(
        self, log: Sequence[Interaction], learnable: Sequence[int] | Indices, fit_until: int, cases: Iterable[Case]
    ) -> None:
        self.log = Interactions.of(log)
        self.learnable = np.asarray(learnable, np.int64)
        self.fit_until = fit_until
        self.cases = sorted(cases, key=lambda case: (case.log_index, case.user))

    @property
    def training(self) -> Interactions:
        """What may be used to train, in order: learnable, and before `fit_until`."""
        return self.before(self.fit_until)

    @cached_property
    def learnt(self) -> Interactions:
        """The events to learn from, in order."""
        return self.log if len(self.learnable) == len(self.log) else self.log[self.learnable]

    def learnable_before(self, index: int) -> int:
        """How many events before an index of the log are learnable."""
        return int(np.searchsorted(self.learnable, index))

    def before(self, index: int) -> Interactions:
        """All events that may be known at an index of the log, in order."""
        return self.learnt[: self.learnable_before(index)]

    def history(self, case: Case) -> list[Interaction]:
        """The user's own events before the case, oldest first."""
        return [self.log[index] for index in self.history_indices(case).tolist()]

    def history_indices(self, case: Case) -> Indices:
        """Indices in `log` of the events of `history`."""
        code = self.log.user_codes.get(case.user)
        if code is None:
            return np.empty(0, np.int64)
        order, begins = self.learnt.by_user
        indices = self.learnable[order[begins[code] : begins[code + 1]]]
        return indices[: np.searchsorted(indices, case.log_index)]


def leave_one_out(log: Sequence[Interaction]) -> Split:
    """One case a user: the user's last first-time item, given all events before it.

    Events that follow the target are in neither part.
    """
    log = Interactions.of(log)
    first = np.flatnonzero(_first_meetings(log) == np.arange(len(log)))
    cuts = np.full(len(log.names.users), NONE, np.int64)
    cuts[log.user[first]] = first  # the last one written is the newest
    return _split_at_last(log, cuts[cuts != NONE], cuts)


def next_basket(log: Sequence[Interaction]) -> Split:
    """One case a user: the first-time items of the user's last basket, given the events before it began.

    A basket is an invoice or a session (`Interaction.basket`); events without one are split where `SESSION_GAP_MS`
    pass. The last basket is the one that began last. A user whose last basket holds nothing new has no case.
    """
    log = Interactions.of(log)
    numbers = basket_numbers(log)
    begins = np.unique(numbers, return_index=True)[1][numbers]
    newest = np.full(len(log.names.users), NONE, np.int64)
    np.maximum.at(newest, log.user, begins)
    of_newest = np.flatnonzero(begins == newest[log.user])
    return _split_at_last(log, of_newest, np.searchsorted(log.time_ms, log.time_ms[newest]) if len(log) else newest)


def time_split(log: Sequence[Interaction], cut_ms: int) -> Split:
    """One case for each user who was seen before `cut_ms`: every first-time item from then on."""
    log = Interactions.of(log)
    cut = int(np.searchsorted(log.time_ms, cut_ms))
    targets = np.flatnonzero(_first_meetings(log)[cut:] >= cut) + cut
    cases = _cases(log, *_with_past(log, targets, np.full(len(targets), cut)))
    return Split(log, np.arange(cut), cut, [case._replace(as_of_ms=cut_ms) for case in cases])


def prequential(log: Sequence[Interaction], start: int) -> Split:
    """Test, then train: from the event of index `start` on, each first-time event is a case, then learnt.

    A user's very first event is no case: there was no list.
    """
    log = Interactions.of(log)
    new = np.flatnonzero(_first_meetings(log) == np.arange(len(log)))
    new = new[new >= start]
    return Split(log, np.arange(len(log)), start, _cases(log, *_with_past(log, new, new)))


def index_of_share(log: Sequence[Interaction], share: float) -> int:
    """Index of the first event after the first `share` of the log, moved up to where a new time begins."""
    times, index = Interactions.of(log).time_ms, round(len(log) * share)
    return int(np.searchsorted(times, times[index - 1], "right")) if 0 < index < len(log) else index


def basket_numbers(log: Sequence[Interaction]) -> Indices:
    """The number of each event's basket, (n,) from 0 on. Events have the same number if they are of one basket."""
    log = Interactions.of(log)
    numbers = np.empty(len(log), np.int64)
    named = np.flatnonzero(log.basket != NONE)
    pairs = log.user[named].astype(np.int64) * max(1, len(log.names.baskets)) + log.basket[named]
    distinct, numbers[named] = np.unique(pairs, return_inverse=True)
    order, _ = log.by_user
    unnamed = order[log.basket[order] == NONE]
    begins = np.diff(log.user[unnamed], prepend=NONE) != 0
    begins |= np.diff(log.time_ms[unnamed], prepend=0) > SESSION_GAP_MS
    numbers[unnamed] = len(distinct) + np.cumsum(begins) - 1
    return numbers


def _split_at_last(log: Interactions, held_out: Indices, cuts: Indices) -> Split:
    """Split each user's events at an index: those before it are learnable, and the held-out events hold the targets.

    A user whose held-out items were all met before, or who has no event before, has no case.

    Parameters
    ----------
    log : Interactions
    held_out : (n,) int64
        Indices in the log.
    cuts : (users,) int64
        Of each user with held-out events.
    """
    targets = held_out[_first_meetings(log)[held_out] >= cuts[log.user[held_out]]]
    targets, cuts_of_targets = _with_past(log, targets, cuts[log.user[targets]])
    until = np.full(len(log.names.users), len(log), np.int64)
    until[log.user[targets]] = cuts_of_targets
    learnable = np.flatnonzero(np.arange(len(log)) < until[log.user])
    return Split(log, learnable, len(log), _cases(log, targets, cuts_of_targets))


def _cases(log: Interactions, targets: Indices, cuts: Indices) -> list[Case]:
    """A case for each user and cut: the items of the target events.

    Parameters
    ----------
    log : Interactions
    targets : (n,) int64
        Indices of events.
    cuts : (n,) int64
        The index of the log at which the case of each of them is.
    """
    order = np.lexsort((log.user[targets], cuts))
    targets, cuts = targets[order], cuts[order]
    users = log.user[targets]
    begins = np.flatnonzero((np.diff(users, prepend=NONE) != 0) | (np.diff(cuts, prepend=NONE) != 0))
    ends = np.append(begins, len(targets))[1:]
    columns = users[begins], cuts[begins], log.time_ms[cuts[begins]], begins, ends
    names, items = log.names, log.item[targets].tolist()
    return [
        Case(names.users[user], cut, time_ms, frozenset(map(names.items.__getitem__, items[begin:end])))
        for user, cut, time_ms, begin, end in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _with_past(log: Interactions, events: Indices, cuts: Indices) -> tuple[Indices, Indices]:
    """The events whose users have an event before the cut that belongs to each event, and their cuts."""
    order, begins = log.by_user
    known = order[begins[log.user[events]]] < cuts
    return events[known], cuts[known]


def _first_meetings(log: Interactions) -> Indices:
    """For each event, the index of the first event of its user about its item."""
    pairs = log.user.astype(np.int64) * max(1, len(log.names.items)) + log.item
    _, first, pair_of_event = np.unique(pairs, return_index=True, return_inverse=True)
    return np.asarray(first[pair_of_event], np.int64)
