"""How users respond to items, beyond choosing them: how long they look, how they rate, what they write.

Decayed sums over all events of a user, as in the interest state: a function of the set of events. Knows no items.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events.entries import Event

Sums = npt.NDArray[np.float32]


class Responses(NamedTuple):
    """Sums over a user's events, each event weighted by `2^(-age / half-life)`.

    Attributes
    ----------
    looks : float
        The looks whose duration is known.
    dwell : float
        Of these, the sum of how satisfied each was, 0 to 1.
    ratings : float
        The ratings.
    rating : float
        Their sum, each 0 for the worst to 1 for the best.
    bad_reviews : float
        The texts that were bad reviews.
    """

    looks: float = 0.0
    dwell: float = 0.0
    ratings: float = 0.0
    rating: float = 0.0
    bad_reviews: float = 0.0


FIELDS = len(Responses._fields)
NO_SUMS: Sums = np.zeros(FIELDS, np.float32)


def with_responses(sums: Sums, events: Iterable[Event], as_of_ms: int, half_life_ms: float) -> Sums:
    """Return the sums with more events.

    Parameters
    ----------
    sums : (FIELDS,) float32
        As of `as_of_ms`.
    events : iterable of Event
    as_of_ms : int
        Not before any event.
    half_life_ms : float
    """
    changed = None
    for event in events:
        if event.dwell is None and event.rating is None and not event.is_bad_review:
            continue
        share = 2.0 ** (-(as_of_ms - event.time_ms) / half_life_ms)
        changed = sums.copy() if changed is None else changed
        changed += np.float32(share) * np.array(_row(event), np.float32)
    return sums if changed is None else changed


def _row(event: Event) -> Responses:
    """What one event adds."""
    return Responses(
        looks=float(event.dwell is not None),
        dwell=event.dwell or 0.0,
        ratings=float(event.rating is not None),
        rating=0.0 if event.rating is None else (1 + event.rating) / 2,
        bad_reviews=float(event.is_bad_review),
    )
