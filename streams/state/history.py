"""The history of a rank request: what a state remembers of its newest events, in the words of the catalogue."""

from __future__ import annotations

from encoders.event_time import milliseconds
from encoders.events.entries import Event, item_key
from encoders.events.types import FULL, of_share
from encoders.interest import Decay, Interest
from ranker.recall.catalogue import Catalogue
from streams.contracts import HistoryEvent, SearchedText

HISTORY_STEP = 10
"""Number of events by which the beginning of a long history moves at a time. Chosen by us: at most a fifth of it."""


def recent_history(interest: Interest, catalogue: Catalogue, decay: Decay) -> list[HistoryEvent]:
    """Give the newest events about items of the catalogue, oldest first.

    Of a full history the oldest few events are omitted, so that it begins with the same event for `HISTORY_STEP` events
    in a row. A decoder reuses its work on a history as long as the beginning does not move.
    """
    is_full = len(interest.history) >= decay.history
    omitted = -interest.version % HISTORY_STEP if is_full else 0
    newest = interest.history[omitted:].tolist()
    entries = (
        (catalogue.get(key), time_ms, decay.types.get(code), strength) for time_ms, key, code, strength in newest
    )
    return [
        HistoryEvent(
            item_id=item.item_id,
            type=type_,
            timestamp=time_ms,
            strength=share / FULL,
            title=item.title,
            brand=item.brand,
            categories=list(item.categories),
            price=item.price,
            currency=item.currency,
        )
        for item, time_ms, type_, share in entries
        if item is not None and type_ is not None
    ]


def event_of(event: HistoryEvent) -> Event:
    """Give an event of a history as the interest state takes it."""
    return Event(item_key(event.item_id), milliseconds(event.timestamp), event.type, of_share(event.strength))


def recent_searches(interest: Interest) -> list[SearchedText]:
    """Give the newest searches, oldest first."""
    return [SearchedText(text=search.text, timestamp=search.time_ms) for search in interest.searches]
