"""The items that others visited together with a user's recent ones, each once. Knows no user and no count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranker.recall.count_tables import CoVisits, is_first
from ranker.recall.counts import DISTANCE_DECAY


class RelatedItems(NamedTuple):
    """Items that were visited together with a user's recent items.

    Attributes
    ----------
    keys : (n,) uint64
        Ascending.
    total : (n,) float64
        Similarities summed over the recent items; each step back in time is weighted by `DISTANCE_DECAY`.
    newest : (n,) float64
        Similarity to the newest item alone.
    links : (n,) intp
        The number of recent items that it was visited with, counted once per shard of the counts.
    because : (n,) uint64
        The key of the recent item with the largest share.
    """

    keys: npt.NDArray[np.uint64]
    total: npt.NDArray[np.float64]
    newest: npt.NDArray[np.float64]
    links: npt.NDArray[np.intp]
    because: npt.NDArray[np.uint64]

    @staticmethod
    def of(recent: Sequence[int], visits: CoVisits) -> RelatedItems:
        """Return the items of some co-visits.

        Parameters
        ----------
        recent : sequence of int
            Keys of the user's items, newest first, each once.
        visits : CoVisits
            Of these items.
        """
        shares = (DISTANCE_DECAY ** np.arange(len(recent)))[visits.query_indices] * visits.similarities
        by_key = np.argsort(visits.items)
        keys, shares, query = visits.items[by_key], shares[by_key], visits.query_indices[by_key]
        begins = np.flatnonzero(begins_key := is_first(keys))
        key_of = np.cumsum(begins_key) - 1
        is_strongest = shares == np.maximum.reduceat(shares, begins)[key_of] if len(keys) else begins_key
        strongest = np.zeros(len(begins), np.intp)
        strongest[key_of[is_strongest]] = query[is_strongest]
        return RelatedItems(
            keys=keys[begins],
            total=np.asarray(np.bincount(key_of, shares, len(begins)), np.float64),
            newest=np.asarray(np.bincount(key_of, visits.similarities[by_key] * (query == 0), len(begins)), np.float64),
            links=np.bincount(key_of, minlength=len(begins)),
            because=np.array(recent, np.uint64)[strongest],
        )
