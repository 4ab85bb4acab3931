"""What behaviour says about a candidate, in numbers: computed at recall, learnt from by the fusion head.

All candidates of a list at once, from the state, the catalogue and everybody's counts as they are at that moment;
so a list that is built from a log in the order of time holds nothing that came later. Every number depends on the user
and that candidate, never on the rest of the list, and none on the size of the shop: counts are relative to the
catalogue's mean. Knows no model; called by `streams.state.tier`, read by `ranker.fusion.head`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoders.interest import TYPES, Vector
from ranker.recall.candidates import Merged, Shopper
from ranker.recall.catalogue import NOTHING

Features = npt.NDArray[np.float16]
"""(n, len(NAMES)): half precision tells numbers 0.1% apart, and a request carries 100 rows of them."""

SCHEMA = 1
"""Changes with `NAMES` and with what they mean: a head reads only what it was trained on."""
NAMES = (
    "session_cosine",  # to the decayed mean of the session
    "long_cosine",  # to the decayed mean of the season
    "prototype_cosine",  # to the nearest of the user's interests
    "newest_cosine",  # to the newest item
    "nearest_cosine",  # to the nearest item of the history
    "co_visited",  # with the recent items: log2 of the summed similarities
    "co_visited_newest",  # with the newest item alone: log2 of the similarity
    "co_visit_links",  # log2 of 1 + the recent items that it was visited with
    "popularity",  # log2 of events over the mean item's
    "trend",  # log2 of events lately over the mean item's
    "rise",  # trend less popularity
    "age",  # log2 of 1 + days in the catalogue at the user's newest event
    "price_difference",  # natural logarithm of the price over the user's usual one
    "price_distance",  # its absolute value
    "same_category",  # share of the history in the item's category
    "same_brand",  # share of the history of the item's brand
    "newest_category",  # 1 if the newest item is of its category
    "seen",  # log2 of 1 + the user's events about it that the state remembers
    "bought",  # 1 if the state remembers that the user bought it
    "co_visited_place",  # 1 / (1 + place / 10) in each source's order, 0 where it did not propose the item
    "nearest_place",
    "trending_place",
    "newest_place",
    "history",  # log2 of 1 + the user's events; of the user alone: what the others mean depends on it
)
_PLACES = ("co-visited", "nearest", "trending", "newest")
_PLACE_SCALE = 10
"""A list's first ten places differ by as much as all that follow; chosen by us."""
_LEAST = 2.0**-10
"""Added below a logarithm of similarities: what is less than a thousandth is nothing."""
_LEAST_SHARE = 2.0**-4
"""Added to a count over the mean one: an item without events reads -4."""
_DAY_MS = 86_400_000


def features(shopper: Shopper, candidates: Sequence[Merged]) -> Features:
    """One row of `NAMES` for each candidate; what is not known of it or of the user reads 0."""
    rows = np.array([candidate.row for candidate in candidates], np.intp)
    catalogue, state = shopper.catalogue, shopper.state
    found = np.zeros((len(rows), len(NAMES)), np.float32)
    column = {name: found[:, place] for place, name in enumerate(NAMES)}
    keys = catalogue.keys[rows]
    history = catalogue.rows(state.history["item"].tolist())
    history = history[history >= 0]
    _cosines(column, catalogue.vectors(rows), shopper, catalogue.vectors(history))
    _co_visits(column, keys, shopper)
    popularity, trend = shopper.counts.relative(keys)
    column["popularity"][:] = np.log2(popularity + _LEAST_SHARE)
    column["trend"][:] = np.log2(trend + _LEAST_SHARE)
    column["rise"][:] = column["trend"] - column["popularity"]
    column["age"][:] = np.log2(1 + np.maximum(0, state.as_of_ms - catalogue.time_ms[rows]) / _DAY_MS)
    _prices(column, catalogue.log_price[rows], catalogue.log_price[history])
    for name, of_item in (("same_category", catalogue.category), ("same_brand", catalogue.brand)):
        column[name][:] = _shares(of_item[rows], of_item[history])
    if len(history):
        category = catalogue.category[history[-1]]
        column["newest_category"][:] = (catalogue.category[rows] == category) & (category != NOTHING)
    column["seen"][:] = np.log2(1 + _counted(keys, state.history["item"]))
    is_purchase = state.history["type"] == TYPES.index("purchase")
    column["bought"][:] = np.isin(keys, np.concatenate([state.bought["item"], state.history["item"][is_purchase]]))
    for name in _PLACES:
        places = np.array([candidate.places.get(name, np.inf) for candidate in candidates])
        column[f"{name.replace('-', '_')}_place"][:] = 1 / (1 + places / _PLACE_SCALE)
    column["history"][:] = np.log2(1 + state.version)
    return found.astype(np.float16)


def read(schema: int, values: bytes, candidates: int) -> Features | None:
    """The features of so many candidates, as `tobytes` wrote them; None if they are of another schema or number."""
    if schema != SCHEMA or len(values) != candidates * len(NAMES) * 2:
        return None
    return np.frombuffer(values, "<f2").reshape(candidates, len(NAMES))


def _cosines(column: dict[str, Vector], vectors: Vector, shopper: Shopper, history: Vector) -> None:
    interests = shopper.interests
    if not len(history):
        return
    prototypes = len(interests.prototypes)
    cosines = vectors @ np.concatenate([interests.queries, history]).T
    means = prototypes
    for name, mean in (("session_cosine", interests.session), ("long_cosine", interests.long)):
        if mean is not None:
            column[name][:] = cosines[:, means]
            means += 1
    column["prototype_cosine"][:] = cosines[:, :prototypes].max(axis=1)
    column["newest_cosine"][:] = cosines[:, -1]
    column["nearest_cosine"][:] = cosines[:, means:].max(axis=1)


def _co_visits(column: dict[str, Vector], keys: npt.NDArray[np.uint64], shopper: Shopper) -> None:
    related = shopper.related
    total, newest, links = (np.zeros(len(keys)) for _ in range(3))
    if len(related.keys):
        place = np.minimum(np.searchsorted(related.keys, keys), len(related.keys) - 1)
        known = related.keys[place] == keys
        for of_candidate, of_related in ((total, related.total), (newest, related.newest), (links, related.links)):
            of_candidate[known] = of_related[place[known]]
    column["co_visited"][:] = np.log2(total + _LEAST) - np.log2(_LEAST)
    column["co_visited_newest"][:] = np.log2(newest + _LEAST) - np.log2(_LEAST)
    column["co_visit_links"][:] = np.log2(1 + links)


def _prices(column: dict[str, Vector], prices: Vector, usual: Vector) -> None:
    usual = usual[np.isfinite(usual)]
    if len(usual):
        column["price_difference"][:] = np.nan_to_num(prices - usual.mean())
        column["price_distance"][:] = np.abs(column["price_difference"])


def _shares(of_candidates: npt.NDArray[np.int32], of_history: npt.NDArray[np.int32]) -> Vector:
    """The share of the history that has each candidate's number; `NOTHING` is shared by none."""
    if not len(of_history):
        return np.zeros(len(of_candidates), np.float32)
    shares = (of_candidates[:, None] == of_history).mean(axis=1, dtype=np.float32)
    shares[of_candidates == NOTHING] = 0
    return np.asarray(shares, np.float32)


def _counted(keys: npt.NDArray[np.uint64], among: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    counted: npt.NDArray[np.intp] = (keys[:, None] == among).sum(axis=1)
    return counted
