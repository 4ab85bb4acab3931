"""What a message says about a user's interest: its type, and how much of the type's weight counts. Knows no state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from encoders.event_time import milliseconds
from encoders.events.entries import Event, SearchQuery, item_key, query_key
from encoders.events.types import FULL_DWELL_S, of_dwell, of_rating, of_share, satisfied
from encoders.text.sentiment import LEAST_BAD, PLAINLY_BAD, Sentiment
from streams.contracts import Click, Purchase, Search, UserEvent

SKIP = "skip"
LOOKS = ("click", "view")
"""Types whose events last as long as the user looks at the item."""
SENTENCE_WORDS = 5
"""Chosen by us: few queries are as long."""


def type_of(message: Click | Search) -> str:
    """Give the type of an event."""
    if isinstance(message, Search):
        return "search"
    if isinstance(message, UserEvent):
        return message.type
    if isinstance(message, Purchase):
        return "purchase" if message.takes_back is None else "return"
    return "click"


class Dwell(NamedTuple):
    """What the duration of a look says.

    Attributes
    ----------
    full_s : float
        From here on a look counts with its whole weight.
    skip_s : float
        A look that ended sooner is a skip.
    """

    full_s: float = FULL_DWELL_S
    skip_s: float = 0


USUAL = Dwell()


def event_of(
    message: Click | Search,
    weights: Mapping[str, float],
    sentiment: Sentiment | None = None,
    dwell: Dwell = USUAL,
) -> Event:
    """Give what the state keeps of a message.

    Parameters
    ----------
    message : Click or Search
        A click, a purchase, an event of any other type, or a search.
    weights : mapping of str to float
        Of the types, see `InterestSettings.weights`.
    sentiment : callable, optional
        Judges the texts that users write about items; None: no text is judged.
    dwell : Dwell
        What the duration of a look says.
    """
    if isinstance(message, Search):
        query = SearchQuery(message.text, tuple(map(item_key, message.results)))
        return Event(query_key(message.text), milliseconds(message.timestamp), "search", query=query)
    type_, share, rating, is_bad = type_of(message), 1.0, None, False
    if isinstance(message, Purchase) and message.takes_back is not None:
        share = 0.0  # the purchase loses its weight; the return has none of its own
    if isinstance(message, UserEvent) and message.rating is not None:
        share = rating = of_rating(message.rating, message.best_rating)
    look = None
    if message.dwell_ms is not None and type_ in LOOKS:
        look = satisfied(message.dwell_ms, dwell.full_s)
        if message.dwell_ms < dwell.skip_s * 1000:
            return Event(item_key(message.item_id), milliseconds(message.timestamp), SKIP, dwell=look)
        share *= of_dwell(message.dwell_ms, dwell.full_s)
    if message.text and sentiment and share * weights.get(type_, 0.0) > 0:
        of_review = _of_review(message.text, type_, sentiment)
        share, is_bad = share * of_review, of_review < 1
    return Event(
        item_key(message.item_id),
        milliseconds(message.timestamp),
        type_,
        of_share(share),
        dwell=look,
        rating=rating,
        is_bad_review=is_bad,
    )


def _of_review(text: str, type_: str, sentiment: Sentiment) -> float:
    """The share of a sign of interest that a text leaves: all, unless it is bad; of a plainly bad one, its opposite.

    The text of a look may be a query, and a query is no sentence.
    """
    if type_ in LOOKS and len(text.split()) < SENTENCE_WORDS:
        return 1.0
    score = sentiment(text)
    return max(-1.0, 1 - 2 * score / PLAINLY_BAD) if score <= LEAST_BAD else 1.0
