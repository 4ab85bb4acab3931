"""Of step 2: returns find the purchases that they take back, whichever of both arrives first.

A purchase that neither the user's memory has nor arrives later cannot be taken back. Both name the same user: so where
that user is a visitor who was merged into another one, both come to the same state. Knows no vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from encoders.events.entries import Event
from encoders.events.types import TAKEN_BACK
from encoders.interest import Decay, Interest, Vector
from encoders.signals.returns import take_back
from streams.contracts import Click, Purchase, Search
from streams.state import signal_metrics
from streams.state.event_memory import RETURNED, EventMemory, SeenEvent, seen_of, seen_return


class Arrival(NamedTuple):
    """An event as the interest state takes it.

    Attributes
    ----------
    event : Event
    taken_back : Event or None
        The purchase that it takes back, its time exact to a second.
    """

    event: Event
    taken_back: Event | None = None


def seen_as(message: Click | Search, event: Event) -> SeenEvent:
    """Give an event, or a return, in the memory's form."""
    if isinstance(message, Purchase) and message.takes_back is not None:
        return seen_return(message.user_id, message.takes_back, event)
    return seen_of(message.user_id, message.event_id, event)


def arrival(message: Click | Search, event: Event, seen: SeenEvent, memory: EventMemory) -> Arrival:
    """Give what a new event does to the interest state. The memory has all events before it.

    A purchase that was returned before it arrived counts as `TAKEN_BACK`: it is in the lists, and not in the sums.
    """
    if not isinstance(message, Purchase):
        return Arrival(event)
    other = memory.second_of(seen.id ^ RETURNED)
    if message.takes_back is None:
        if other is None:
            return Arrival(event)
        signal_metrics.returns.labels("late-purchase").inc()
        return Arrival(replace(event, type=TAKEN_BACK))
    signal_metrics.returns.labels("no-purchase" if other is None else "taken-back").inc()
    return Arrival(event, None if other is None else Event(event.item, other * 1000, "purchase"))


def without(interest: Interest, purchase: Event, vector: Vector | None, decay: Decay) -> Interest:
    """Give the state without the effect of a purchase; see `take_back`.

    Where the purchase's item is not in the catalogue any more, the purchase's part of the interest stays, and fades.
    """
    if vector is None and purchase.item not in interest.waiting["item"]:
        signal_metrics.returns.labels("no-item").inc()
    return take_back(interest, purchase, vector, decay)
