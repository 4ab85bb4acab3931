"""What pulls a candidate up in a list or pushes it down: the user's searches, what the user disliked, and priorities.

A model may have seen neither searches nor negative events when it was trained, so both count beside it: `select`
divides or multiplies a candidate's rank by this. Knows no model.
"""

from __future__ import annotations

import numpy as np

from encoders.events.searches import vectors_of
from encoders.interest import Vector
from encoders.prototypes import SAME_INTEREST
from ranker.recall.item_columns import ItemColumns
from ranker.recall.priorities import MOST, priority
from ranker.recall.user_view import LEAST_SPREAD, UserView

FULL_AVERSION = 2.0
"""The weight from which an event says all that a bad sign can say, in clicks: that of a dislike."""
FIRST_MATCH, FULL_MATCH = 0.35, 0.65
"""From where to where a search and a text match, as the part of the way from the cosine of any two items to 1. Chosen
by us: with MiniLM the titles that have the words of a query lie above, other titles below."""


def pulls(user: UserView, candidates: ItemColumns) -> Vector:
    """Return a number for each candidate, (n,) float32: 1 for one that the user searches for, -1 for one like an item
    that the user disliked, 0 for any other. Priorities add to it.
    """
    pull = attraction(user, candidates) - aversion(user, candidates)
    if not user.priorities.reorder:
        return pull
    return (pull + priority(user, candidates.keys, candidates.time_ms, candidates.log_price)).clip(-MOST, MOST)


def attraction(user: UserView, candidates: ItemColumns) -> Vector:
    """How well each candidate matches a search of the session, (n,) float32, 0 to 1.

    A search fades with the half-life of the session.
    """
    searches = user.recent_searches
    if not searches:
        return np.zeros(len(candidates.keys), np.float32)
    matches = search_matches(user, candidates)
    age_ms = user.state.as_of_ms - np.array([search.time_ms for search in searches], np.float64)
    fresh = np.exp2(-age_ms / user.decay.session_half_life_ms)
    return np.asarray((matches * fresh).max(axis=1), np.float32)


def search_matches(user: UserView, candidates: ItemColumns) -> Vector:
    """How well each candidate matches each of `recent_searches`, (n, searches) float32, 0 to 1."""
    of_any_two = user.catalogue.mean_cosine
    cosines = candidates.vectors @ vectors_of(user.recent_searches, user.catalogue.dim).T
    nearness = (cosines - of_any_two) / max(1 - of_any_two, LEAST_SPREAD)
    return np.asarray(((nearness - FIRST_MATCH) / (FULL_MATCH - FIRST_MATCH)).clip(0, 1), np.float32)


def aversion(user: UserView, candidates: ItemColumns) -> Vector:
    """How much each candidate is like what the user disliked, (n,) float32, 0 to 1.

    Notes
    -----
    For each disliked item: its share of a dislike, which fades with the long-term half-life, times how much nearer the
    candidate's text is to it than to anything the user liked, where a cosine of `SAME_INTEREST` is not near. So one bad
    tent among good ones makes no other tent worse. The largest of these numbers counts.
    """
    values = np.zeros(len(candidates.keys), np.float32)
    rows = user.catalogue.rows(user.disliked.tolist())
    if not (rows >= 0).any():
        return values
    history, keys = user.state.history, user.disliked[rows >= 0]
    weights = -user.decay.entry_weights(history)
    newest = {int(entry["item"]): index for index, entry in enumerate(history)}
    entries = np.array([newest[key] for key in keys.tolist()])
    age_ms = user.state.as_of_ms - history["time_ms"][entries]
    shares = np.minimum(1, weights[entries] / FULL_AVERSION) * np.exp2(-age_ms / user.decay.long_half_life_ms)
    near = candidates.vectors @ user.catalogue.vectors(rows[rows >= 0]).T
    usual = np.full(len(near), SAME_INTEREST, np.float32)
    if len(user.known_history.events):
        usual = np.maximum(usual, user.cosines(candidates).max(axis=1))
    margin = np.maximum(0, near - usual[:, None]) / (1 - SAME_INTEREST)
    return np.asarray((margin * shares).max(axis=1).clip(0, 1), np.float32)
