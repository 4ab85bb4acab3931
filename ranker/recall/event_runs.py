"""Runs of events of one user each, and the co-visits in them.

Knows no decay and no table: item keys and positions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from encoders.events.entries import Event
from ranker.recall.count_tables import Slots, is_first


class EarlierEvents(NamedTuple):
    """What the user of an event did about the same item earlier.

    Attributes
    ----------
    since_ms : float
        Time since the newest of the earlier events: 0 or less if that one is newer than the event itself, `inf` if
        there is none.
    events : float
        The number of earlier events.
    weight : float
        How much of an event the event itself is, above 0 to 1.
    """

    since_ms: float
    events: float
    weight: float = 1.0


NO_EARLIER_EVENTS = EarlierEvents(inf, 0)
NOT_COUNTED = EarlierEvents(0.0, inf)
"""For an event that must add nothing to any count."""


class EventRun(NamedTuple):
    """Consecutive events of one user.

    Attributes
    ----------
    events : sequence of Event
        In the user's order.
    preceding : sequence of int
        Item keys of the user's events before the first of them, newest last.
    earlier : sequence of EarlierEvents
        One for each event.
    """

    events: Sequence[Event]
    preceding: Sequence[int]
    earlier: Sequence[EarlierEvents]


class EventPairs(NamedTuple):
    """The co-visits in some runs, the runs' events numbered one after the other.

    Attributes
    ----------
    own : (events,) intp
        The slot of each event's item.
    others : (n,) intp
        For each co-visit, the slot of the other item.
    distances : (n,) intp
        For each co-visit, the number of events in between.
    event_of : (n,) intp
        For each co-visit, the number of the event.
    """

    own: Slots
    others: Slots
    distances: Slots
    event_of: Slots


def pair(runs: Sequence[EventRun], window: int, slots_of: Callable[[Sequence[int]], Slots]) -> EventPairs:
    """Pair each event with the events before it in its run.

    If an item occurs several times before an event, the nearest occurrence counts. An item is not paired with itself.

    Parameters
    ----------
    runs : sequence of EventRun
    window : int
        The number of preceding events that an event is paired with.
    slots_of : callable
        Returns the slots of item keys.
    """
    lengths = np.array([len(run.events) for run in runs])
    preceding = np.array([len(run.preceding) for run in runs])
    sequence = slots_of([key for run in runs for key in (*run.preceding, *(event.item for event in run.events))])
    run_starts = np.cumsum(preceding + lengths) - preceding - lengths
    index_in_run = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - preceding, lengths)
    own_index = np.repeat(run_starts, lengths) + index_in_run
    own = sequence[own_index]
    pairs_of_event = np.minimum(index_in_run, window)
    event_of = np.repeat(np.arange(len(own)), pairs_of_event)
    distances = np.arange(pairs_of_event.sum()) - np.repeat(np.cumsum(pairs_of_event) - pairs_of_event, pairs_of_event)
    return co_visits(own, sequence[own_index[event_of] - 1 - distances], distances, event_of)


def co_visits(own: Slots, others: Slots, distances: Slots, event_of: Slots) -> EventPairs:
    """Keep the nearest occurrence of each other item, and no item beside itself. The arguments are as in the result."""
    pairs = event_of << 32 | others
    order = np.argsort(pairs, kind="stable")
    nearest = order[is_first(pairs[order])]
    nearest = nearest[others[nearest] != own[event_of[nearest]]]
    return EventPairs(own, others[nearest], distances[nearest], event_of[nearest])
