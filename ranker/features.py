"""What the user's and all users' events say about each candidate, in numbers: the inputs of the fusion head.

Computed for all candidates of a list at once, from the state, the catalogue and the counts as they are at that moment.
A list that is built from a log in the order of time therefore holds nothing that came later. Every number depends on
the user and that candidate, never on the rest of the list, nor on the size of the shop: counts are relative to the
catalogue's mean. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoders.interest import TYPES, Vector
from ranker.recall.candidates import RecalledCandidate, UserView
from ranker.recall.catalogue import NO_NUMBER

Features = npt.NDArray[np.float16]
"""(n, len(NAMES)). Half precision resolves 0.1%, and a request carries 100 rows."""

SCHEMA = 1
"""Changes with `NAMES` and with their meaning: a head reads only the features that it was trained on."""
NAMES = (
    "session_cosine",  # cosine with the decayed mean of the session
    "long_cosine",  # with the decayed mean of the long term
    "prototype_cosine",  # with the nearest of the user's prototypes
    "newest_cosine",  # with the newest item of the history
    "nearest_cosine",  # with the nearest item of the history
    "co_visited",  # log2 of the summed co-visit similarities to the recent items
    "co_visited_newest",  # log2 of the co-visit similarity to the newest item
    "co_visit_links",  # log2 of 1 + the recent items that it was visited with
    "popularity",  # log2 of its events over those of the mean item
    "trend",  # the same with the half-life of the trend
    "rise",  # trend minus popularity
    "age",  # log2 of 1 + days in the catalogue at the user's newest event
    "price_difference",  # natural logarithm of its price over the user's usual price
    "price_distance",  # its absolute value
    "same_category",  # share of the history in the item's category
    "same_brand",  # share of the history of the item's brand
    "newest_category",  # 1 if the newest item is in its category
    "seen",  # log2 of 1 + its events in the user's history
    "bought",  # 1 if the state remembers that the user bought it
    "co_visited_place",  # 1 / (1 + rank / 10) in each source's order, 0 where the source did not propose it
    "nearest_place",
    "trending_place",
    "newest_place",
    "history",  # log2 of 1 + the user's events: the meaning of the others depends on it
)
_RANKED_SOURCES = ("co-visited", "nearest", "trending", "newest")
_RANK_SCALE = 10
"""The first ten ranks differ by as much as all that follow; chosen by us."""
_MIN_SIMILARITY = 2.0**-10
"""Added to similarities before the logarithm: less than a thousandth counts as nothing."""
_MIN_SHARE = 2.0**-4
"""Added to a count over the mean count before the logarithm: an item without events reads -4."""
_DAY_MS = 86_400_000


def features(user: UserView, candidates: Sequence[RecalledCandidate]) -> Features:
    """Return one row of `NAMES` for each candidate; a number that is unknown for it or for the user reads 0."""
    rows = np.array([candidate.row for candidate in candidates], np.intp)
    catalogue, state = user.catalogue, user.state
    values = np.zeros((len(rows), len(NAMES)), np.float32)
    column = {name: values[:, index] for index, name in enumerate(NAMES)}
    keys = catalogue.keys[rows]
    history = catalogue.rows(state.history["item"].tolist())
    history = history[history >= 0]
    _cosines(column, catalogue.vectors(rows), user, catalogue.vectors(history))
    _co_visits(column, keys, user)
    popularity, trend = user.counts.relative(keys)
    column["popularity"][:] = np.log2(popularity + _MIN_SHARE)
    column["trend"][:] = np.log2(trend + _MIN_SHARE)
    column["rise"][:] = column["trend"] - column["popularity"]
    column["age"][:] = np.log2(1 + np.maximum(0, state.as_of_ms - catalogue.time_ms[rows]) / _DAY_MS)
    _prices(column, catalogue.log_price[rows], catalogue.log_price[history])
    for name, of_item in (("same_category", catalogue.category), ("same_brand", catalogue.brand)):
        column[name][:] = _shares(of_item[rows], of_item[history])
    if len(history):
        category = catalogue.category[history[-1]]
        column["newest_category"][:] = (catalogue.category[rows] == category) & (category != NO_NUMBER)
    column["seen"][:] = np.log2(1 + _occurrences(keys, state.history["item"]))
    is_purchase = state.history["type"] == TYPES.index("purchase")
    column["bought"][:] = np.isin(keys, np.concatenate([state.bought["item"], state.history["item"][is_purchase]]))
    for name in _RANKED_SOURCES:
        ranks = np.array([candidate.ranks.get(name, np.inf) for candidate in candidates])
        column[f"{name.replace('-', '_')}_place"][:] = 1 / (1 + ranks / _RANK_SCALE)
    column["history"][:] = np.log2(1 + state.version)
    return values.astype(np.float16)


def read(schema: int, values: bytes, candidates: int) -> Features | None:
    """Read the features that `tobytes` wrote.

    Parameters
    ----------
    schema : int
        The `SCHEMA` that they were computed with.
    values : bytes
    candidates : int
        Expected number of rows.

    Returns
    -------
    ndarray of float16, (candidates, len(NAMES)), or None
        None if they have another schema or another number of rows.
    """
    if schema != SCHEMA or len(values) != candidates * len(NAMES) * 2:
        return None
    return np.frombuffer(values, "<f2").reshape(candidates, len(NAMES))


def _cosines(column: dict[str, Vector], vectors: Vector, user: UserView, history: Vector) -> None:
    interests = user.interests
    if not len(history):
        return
    prototypes = len(interests.prototypes)
    cosines = vectors @ np.concatenate([interests.queries, history]).T
    first_of_history = prototypes
    for name, mean in (("session_cosine", interests.session), ("long_cosine", interests.long)):
        if mean is not None:
            column[name][:] = cosines[:, first_of_history]
            first_of_history += 1
    column["prototype_cosine"][:] = cosines[:, :prototypes].max(axis=1)
    column["newest_cosine"][:] = cosines[:, -1]
    column["nearest_cosine"][:] = cosines[:, first_of_history:].max(axis=1)


def _co_visits(column: dict[str, Vector], keys: npt.NDArray[np.uint64], user: UserView) -> None:
    related = user.related
    total, newest, links = (np.zeros(len(keys)) for _ in range(3))
    if len(related.keys):
        index = np.minimum(np.searchsorted(related.keys, keys), len(related.keys) - 1)
        is_related = related.keys[index] == keys
        for of_candidate, of_related in ((total, related.total), (newest, related.newest), (links, related.links)):
            of_candidate[is_related] = of_related[index[is_related]]
    column["co_visited"][:] = np.log2(total + _MIN_SIMILARITY) - np.log2(_MIN_SIMILARITY)
    column["co_visited_newest"][:] = np.log2(newest + _MIN_SIMILARITY) - np.log2(_MIN_SIMILARITY)
    column["co_visit_links"][:] = np.log2(1 + links)


def _prices(column: dict[str, Vector], prices: Vector, usual: Vector) -> None:
    usual = usual[np.isfinite(usual)]
    if len(usual):
        column["price_difference"][:] = np.nan_to_num(prices - usual.mean())
        column["price_distance"][:] = np.abs(column["price_difference"])


def _shares(of_candidates: npt.NDArray[np.int32], of_history: npt.NDArray[np.int32]) -> Vector:
    """The share of the history with the same number as each candidate; 0 for `NO_NUMBER`."""
    if not len(of_history):
        return np.zeros(len(of_candidates), np.float32)
    shares = (of_candidates[:, None] == of_history).mean(axis=1, dtype=np.float32)
    shares[of_candidates == NO_NUMBER] = 0
    return np.asarray(shares, np.float32)


def _occurrences(keys: npt.NDArray[np.uint64], among: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """How often each key occurs among the others."""
    counts: npt.NDArray[np.intp] = (keys[:, None] == among).sum(axis=1)
    return counts
