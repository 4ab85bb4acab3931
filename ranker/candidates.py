"""Step 3, candidates: recall from several sources, merged into one list with where each item came from.

A source is one class with one method (`Source`); a user adds one by its import path in a setting. Knows no transport;
called by `streams.pipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from encoders.interest import TYPES, Decay, Interest, Vector
from encoders.prototypes import prototypes
from ranker.catalogue import Catalogue
from ranker.counts import DISTANCE_DECAY, Counts
from ranker.nearest_items import Rows, top


@dataclass(frozen=True)
class Shopper:
    """What a source may look at: one user's state beside the catalogue and everybody's counts."""

    state: Interest
    catalogue: Catalogue
    counts: Counts
    decay: Decay

    def recent_items(self) -> list[int]:
        """Keys of the items in the user's history, newest first, each once."""
        return list(dict.fromkeys(reversed(self.state.history["item"].tolist())))


class Found(NamedTuple):
    """Items that a source proposes, best first.

    Attributes
    ----------
    rows : (n,) intp, rows of the catalogue, each once.
    because : (n,) uint64, the key of the item in the user's history that led to each; None where the source knows none.
    """

    rows: Rows
    because: npt.NDArray[np.uint64] | None = None


class Source(Protocol):
    """Where candidates come from. `name` appears in the list's `sources`."""

    name: str

    def find(self, shopper: Shopper, limit: int) -> Found:
        """At most `limit` items."""
        ...


class Merged(NamedTuple):
    """A candidate after the merge. `prior` is comparable between candidates of one user, higher is better."""

    row: int
    prior: float
    sources: tuple[str, ...]
    because: int | None


class Nearest:
    """Items whose text is nearest to each of the user's interests: prototypes, session, long term."""

    name = "nearest"

    def find(self, shopper: Shopper, limit: int) -> Found:
        queries = interests(shopper)
        return Found(shopper.catalogue.nearest(queries, limit)[0] if len(queries) else np.empty(0, np.intp))


class CoVisited:
    """Items that others visited together with the user's recent ones: the item-based collaborative filter."""

    name = "co-visited"
    recent = 25

    def find(self, shopper: Shopper, limit: int) -> Found:
        recent = shopper.recent_items()[: self.recent]
        visits = shopper.counts.co_visited(recent)
        shares = (DISTANCE_DECAY ** np.arange(self.recent))[visits.places] * visits.similarities
        keys, which = np.unique(visits.items, return_inverse=True)
        total = np.bincount(which, shares, len(keys)).astype(np.float64, copy=False)
        strongest: Rows = np.zeros(len(keys), np.intp)
        by_share = np.argsort(shares)
        strongest[which[by_share]] = visits.places[by_share]  # the last one written is the largest
        places, rows = shopper.catalogue.recommendable(keys.tolist())
        best = top(total[places], limit)
        return Found(rows[best], np.array(recent, np.uint64)[strongest[places[best]]])


class Trending:
    """Items with the most events lately, whoever the user is."""

    name = "trending"

    def find(self, shopper: Shopper, limit: int) -> Found:
        enough = shopper.counts.trending()[: 3 * limit]  # of which some are not to be had
        return Found(shopper.catalogue.recommendable(enough)[1][:limit])


class Newest:
    """Items that came into the catalogue last: they have no events to be found by."""

    name = "newest"

    def find(self, shopper: Shopper, limit: int) -> Found:
        return Found(shopper.catalogue.newest(limit))


BUILT_IN: tuple[Source, ...] = (CoVisited(), Nearest(), Trending(), Newest())
_RANK_OFFSET = 60
"""k of reciprocal rank fusion, as in Cormack, Clarke and Büttcher (SIGIR 2009)."""
_WEIGHT = {"co-visited": 1.0, "nearest": 0.6, "trending": 0.15, "newest": 0.05}
"""How much a source's order counts in the prior; chosen by us: behaviour, then text, then what everybody sees."""
_OTHER_WEIGHT = 0.5


def recall(
    shopper: Shopper, sources: Sequence[Source], limit: int, repeat_purchases: bool, leave_out: Sequence[int] = ()
) -> list[Merged]:
    """Ask every source and merge by weighted reciprocal rank fusion.

    Left out: what is unavailable, the item that the user looked at or bought last, what the state remembers as
    bought unless `repeat_purchases`, and the items of the keys in `leave_out`.

    Returns
    -------
    At most `limit` candidates, by prior, best first; ties by row.
    """
    catalogue = shopper.catalogue
    excluded = catalogue.rows([*_excluded(shopper, repeat_purchases), *leave_out])
    found = [source.find(shopper, limit + len(excluded)) for source in sources]
    everything = np.concatenate([*(proposed for proposed, _ in found), excluded[excluded >= 0]])
    rows, which = np.unique(everything, return_inverse=True)
    prior, found_by, because = np.zeros(len(rows)), np.zeros(len(rows), np.int64), np.zeros(len(rows), np.uint64)
    begin = 0
    for number, (source, (proposed, led_by)) in enumerate(zip(sources, found, strict=True)):
        places = which[begin : begin + len(proposed)]
        begin += len(proposed)
        prior[places] += _WEIGHT.get(source.name, _OTHER_WEIGHT) / (_RANK_OFFSET + 1 + np.arange(len(proposed)))
        found_by[places] |= 1 << number
        if led_by is not None:
            because[places] = np.where(because[places], because[places], led_by)  # 0: no item's key
    prior[~catalogue.available[rows]] = -np.inf
    prior[which[begin:]] = -np.inf
    best = top(prior, limit)
    names = {bits: _names(sources, bits) for bits in set(found_by[best].tolist())}
    return [
        Merged(row, share, names[bits], led_by or None)
        for row, share, bits, led_by in zip(
            rows[best].tolist(), prior[best].tolist(), found_by[best].tolist(), because[best].tolist(), strict=True
        )
    ]


def _names(sources: Sequence[Source], bits: int) -> tuple[str, ...]:
    return tuple(source.name for number, source in enumerate(sources) if bits >> number & 1)


def interests(shopper: Shopper) -> Vector:
    """The user's interests as queries: prototypes of the history, the session's and the long-term mean.

    Returns
    -------
    (k, dim) float32, unit length; no rows for a user without a known item.
    """
    state, catalogue = shopper.state, shopper.catalogue
    rows = catalogue.rows(state.history["item"].tolist())
    means = [mean / norm for mean in (state.session, state.long) if (norm := np.linalg.norm(mean)) > 0]
    return np.concatenate(
        [
            prototypes(state.history[rows >= 0], catalogue.vectors(rows[rows >= 0]), shopper.decay),
            np.array(means, np.float32).reshape(-1, catalogue.dim),
        ]
    )


def _excluded(shopper: Shopper, repeat_purchases: bool) -> list[int]:
    """Keys of items."""
    history = shopper.state.history
    keys: list[int] = history["item"][-1:].tolist()
    if not repeat_purchases:
        keys += shopper.state.bought["item"].tolist()
        keys += history["item"][history["type"] == TYPES.index("purchase")].tolist()
    return keys
