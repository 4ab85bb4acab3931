"""What the user's and all users' events say about each candidate, in numbers: the inputs of the fusion head.

Computed for all candidates of a list at once, from the state, the catalogue and the counts as they are at that moment.
A list that is built from a log in the order of time therefore holds nothing that came later. Every number depends on
the user and that candidate, never on the rest of the list, nor on the size of the shop: counts are relative to the
catalogue's mean. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from encoders.events.types import PURCHASE
from encoders.interest import Vector
from ranker.recall.item_columns import NO_NUMBER, ItemColumns
from ranker.recall.nearest_items import index_in
from ranker.recall.trained import LearntSource
from ranker.recall.user_view import UserView
from ranker.score import FeatureSet

Features = npt.NDArray[np.float16]
"""(n, columns): `NAMES`, then the columns of the learnt sources. Half precision resolves 0.1%."""

SCHEMA = 1
"""Changes with `NAMES` and with their meaning: a head reads only the features that it was trained on."""
NEWNESS = "newness"
"""No head learns from it: one that does ranks items without events lower than recall does. It is what a head is lifted
by (`ranker.train.cold_items`). With it as an input, NDCG@10 of cold items fell from .022 to .010 on Online Retail."""
NAMES = (
    "session_cosine",  # cosine with the decayed mean of the session
    "long_cosine",  # with the decayed mean of the long term
    "prototype_cosine",  # with the nearest of the user's prototypes
    "newest_cosine",  # with the newest item of the history, or the newest search
    "nearest_cosine",  # with the nearest item of the history, or search
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
    NEWNESS,  # 1 / (1 + its decayed events): how little its counts can be trusted
    "history",  # log2 of 1 + the user's events
    "related",  # log2 of 1 + the items that others visited with the recent ones
    "text_in_history",  # how much nearer the texts of successive items of the history are than those of any two items
    "text_in_co_visits",  # the same of the recent items and the items that others visited with them
)
OF_THE_USER = ("history", "related", "text_in_history", "text_in_co_visits")
"""The same for all candidates: they say how much the other columns are worth for this user and in this shop."""
PLACE = "_place"
"""Ending of the columns with a rank in a source's order."""
_RANKED_SOURCES = ("co-visited", "nearest", "trending", "newest")
_RANK_SCALE = 10
"""The first ten ranks differ by as much as all that follow; chosen by us."""
_MIN_SIMILARITY = 2.0**-10
"""Added to similarities before the logarithm: less than a thousandth counts as nothing."""
_MIN_SHARE = 2.0**-4
"""Added to a count over the mean count before the logarithm: an item without events reads -4."""
_DAY_MS = 86_400_000


def place(source: str) -> str:
    """Name the column with the rank in a source's order."""
    return f"{source.replace('-', '_')}{PLACE}"


def names(learnt: Iterable[LearntSource]) -> tuple[str, ...]:
    """Name the columns of the features where these learnt sources are beside the built-in ones."""
    return (*NAMES, *(column for source in learnt for column in (place(source.name), *source.columns)))


def features(
    user: UserView,
    items: ItemColumns,
    ranks: Sequence[Mapping[str, int]],
    learnt: Sequence[LearntSource] = (),
) -> Features:
    """Return one row of `names(learnt)` for each candidate; a number that is unknown for it or for the user reads 0.

    Parameters
    ----------
    user : UserView
        The user.
    items : ItemColumns
        The candidates: items of the catalogue, or items that it does not have.
    ranks : sequence of mapping of str to int
        For each candidate, its rank by source; see `RecalledCandidate`.
    learnt : sequence of LearntSource
        The sources in the model's folder.
    """
    catalogue, state = user.catalogue, user.state
    columns = names(learnt)
    values = np.zeros((len(ranks), len(columns)), np.float32)
    column = {name: values[:, index] for index, name in enumerate(columns)}
    history = user.known_history.rows
    _cosines(column, items, user)
    _co_visits(column, items.keys, user)
    counts = user.counts.of_items(items.keys, state.as_of_ms)
    column["popularity"][:] = np.log2(counts.popularity + _MIN_SHARE)
    column["trend"][:] = np.log2(counts.trend + _MIN_SHARE)
    column["rise"][:] = column["trend"] - column["popularity"]
    column[NEWNESS][:] = 1 / (1 + counts.events)
    column["age"][:] = np.log2(1 + np.maximum(0, state.as_of_ms - items.time_ms) / _DAY_MS)
    _prices(column, items.log_price, catalogue.log_price[history])
    column["same_category"][:] = _shares(items.category, catalogue.category[history])
    column["same_brand"][:] = _shares(items.brand, catalogue.brand[history])
    if len(history):
        category = catalogue.category[history[-1]]
        column["newest_category"][:] = (items.category == category) & (category != NO_NUMBER)
    column["seen"][:] = np.log2(1 + _occurrences(items.keys, state.history["item"]))
    is_purchase = state.history["type"] == PURCHASE
    bought = np.concatenate([state.kept_purchases["item"], state.history["item"][is_purchase]])
    column["bought"][:] = _occurrences(items.keys, bought) > 0
    for name in (*_RANKED_SOURCES, *(source.name for source in learnt)):
        ranks_there = np.array([ranks_of_item.get(name, np.inf) for ranks_of_item in ranks])
        column[place(name)][:] = 1 / (1 + ranks_there / _RANK_SCALE)
    for source in learnt:
        for name, of_items in zip(source.columns, source.features(user, items).T, strict=True):
            column[name][:] = of_items
    column["history"][:] = np.log2(1 + state.version)
    column["related"][:] = np.log2(1 + len(user.related_by_others))
    column["text_in_history"][:] = user.text_in_history
    column["text_in_co_visits"][:] = user.text_in_co_visits
    return values.astype(np.float16)


def read(schema: int, version: str, values: bytes, candidates: int, expected: FeatureSet) -> Features | None:
    """Read the features that `tobytes` wrote.

    Parameters
    ----------
    schema : int
        The `SCHEMA` that they were computed with.
    version : str
        Of the learnt sources that they were computed with.
    values : bytes
    candidates : int
        Expected number of rows.
    expected : FeatureSet
        What the head was trained on.

    Returns
    -------
    ndarray of float16, (candidates, len(expected.names)), or None
        None if they are others than expected, or have another number of rows.
    """
    shape = candidates, len(expected.names)
    if schema != SCHEMA or version != expected.version or len(values) != shape[0] * shape[1] * 2:
        return None
    return np.frombuffer(values, "<f2").reshape(shape)


def _cosines(column: dict[str, Vector], items: ItemColumns, user: UserView) -> None:
    interests, texts = user.interests, user.texts.vectors
    if not len(texts):
        return
    of_interests = items.vectors @ interests.queries.T
    column["prototype_cosine"][:] = of_interests[:, : len(interests.prototypes)].max(axis=1)
    means = of_interests[:, len(interests.prototypes) :].T
    known = (("session_cosine", interests.session), ("long_cosine", interests.long))
    for name, cosines in zip((name for name, mean in known if mean is not None), means, strict=True):
        column[name][:] = cosines
    of_texts = items.vectors @ texts.T if user.recent_searches else user.cosines(items)
    column["newest_cosine"][:] = of_texts[:, -1]
    column["nearest_cosine"][:] = of_texts.max(axis=1)


def _co_visits(column: dict[str, Vector], keys: npt.NDArray[np.uint64], user: UserView) -> None:
    related = user.related
    total, newest, links = (np.zeros(len(keys)) for _ in range(3))
    index = index_in(related.keys, keys)
    is_related = index >= 0
    index = index[is_related]
    for of_candidate, of_related in ((total, related.total), (newest, related.newest), (links, related.links)):
        of_candidate[is_related] = of_related[index]
    column["co_visited"][:] = np.log2(total + _MIN_SIMILARITY) - np.log2(_MIN_SIMILARITY)
    column["co_visited_newest"][:] = np.log2(newest + _MIN_SIMILARITY) - np.log2(_MIN_SIMILARITY)
    column["co_visit_links"][:] = np.log2(1 + links)


def _prices(column: dict[str, Vector], prices: Vector, usual: Vector) -> None:
    usual = usual[np.isfinite(usual)]
    if len(usual):
        difference = prices - usual.mean()
        difference[np.isnan(difference)] = 0
        column["price_difference"][:] = difference
        column["price_distance"][:] = np.abs(difference)


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
