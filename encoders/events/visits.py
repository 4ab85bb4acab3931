"""When a user came: events by the quarter of an hour, from which visits follow, their depth and the time between them.

The newest quarters are a function of the set of events. Knows no items.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.entries import Event

SLOT_MS = 15 * 60_000
GAP_SLOTS = 2
"""Slots from one event to the next of the same visit: half an hour, as in web analytics, give or take a slot."""
MAX_SLOTS = 24
"""Slots with events that are kept, the newest, 4 bytes each; chosen by us: a dozen visits or more."""
MAX_COUNT = 255
LAST_SLOT = (1 << 24) - 1
"""Later events, from the year 2448 on, count as of this quarter: 4 bytes have no more."""
Slots = npt.NDArray[np.uint32]
"""(n,) ascending: the number of the quarter since 1970 times 256, plus that of its events, at most `MAX_COUNT`."""
NO_SLOTS: Slots = np.empty(0, np.uint32)


class Visit(NamedTuple):
    """One visit, as far as its slots are kept.

    Attributes
    ----------
    first, last : int
        Its first and its last slot.
    events : int
        At least 1.
    """

    first: int
    last: int
    events: int


def with_events(slots: Slots, events: Iterable[Event]) -> Slots:
    """Return the slots with more events. A parcel that goes back is no visit.

    >>> slots = with_events(NO_SLOTS, [Event(1, time_ms, "click") for time_ms in (0, SLOT_MS, SLOT_MS + 1)])
    >>> [visit.events for visit in visits_of(slots)], [visit.events for visit in visits_of(joined(slots, slots))]
    ([3], [6])
    >>> visits_of(with_events(NO_SLOTS, [Event(1, 1 << 62, "click")]))[0].last == LAST_SLOT
    True
    """
    numbers = [min(max(0, event.time_ms) // SLOT_MS, LAST_SLOT) for event in events if event.type != "return"]
    if not numbers:
        return slots
    if len(numbers) == 1 and len(slots) and int(slots[-1]) >> 8 == numbers[0]:
        same = slots.copy()
        same[-1] += (int(slots[-1]) & MAX_COUNT) < MAX_COUNT
        return same
    return joined(slots, np.array([number << 8 | 1 for number in numbers], np.uint32))


def joined(one: Slots, other: Slots) -> Slots:
    """Return the slots of both."""
    both = np.concatenate([one, other])
    numbers, index = np.unique(both >> 8, return_inverse=True)
    counts = np.minimum(np.bincount(index, both & MAX_COUNT), MAX_COUNT).astype(np.uint32)
    return np.asarray((numbers << 8 | counts)[-MAX_SLOTS:], np.uint32)


def visits_of(slots: Slots) -> list[Visit]:
    """Return the visits, oldest first. Of the oldest one earlier slots may be missing."""
    found: list[Visit] = []
    for number, count in zip((slots >> 8).tolist(), (slots & MAX_COUNT).tolist(), strict=True):
        if found and number - found[-1].last <= GAP_SLOTS:
            found[-1] = Visit(found[-1].first, number, found[-1].events + count)
        else:
            found.append(Visit(number, number, count))
    return found


def hours_between(visits: list[Visit]) -> list[float]:
    """Return the time from the end of each visit to the begin of the next, in hours."""
    pairs = itertools.pairwise(visits)
    return [(later.first - earlier.last) * SLOT_MS / 3_600_000 for earlier, later in pairs]
