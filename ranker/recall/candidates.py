"""Step 3, candidates: recall from several sources, merged into one list with where each item came from.

A source is one class with one method (`Source`); a user adds one by its import path in a setting. Knows no transport;
called by `streams.state.tier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from encoders.interest import TYPES, Decay, Interest, Vector
from encoders.prototypes import prototypes
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import DISTANCE_DECAY, Counts
from ranker.recall.nearest_items import Rows, top

FADED = np.float32(1e-15)
"""Of a mean's largest component; the squares of a smaller one come near to what a float32 cannot hold."""


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

    @cached_property
    def interests(self) -> Interests:
        """The user's interests as directions in the space of texts."""
        state, catalogue = self.state, self.catalogue
        rows = catalogue.rows(state.history["item"].tolist())
        return Interests(
            prototypes(state.history[rows >= 0], catalogue.vectors(rows[rows >= 0]), self.decay),
            _direction(state.session),
            _direction(state.long),
        )

    @cached_property
    def related(self) -> Related:
        """What others visited together with the user's `RECENT` newest items."""
        recent = self.recent_items()[:RECENT]
        visits = self.counts.co_visited(recent)
        shares = (DISTANCE_DECAY ** np.arange(RECENT))[visits.places] * visits.similarities
        keys, which = np.unique(visits.items, return_inverse=True)
        strongest = np.zeros(len(keys), np.intp)
        by_share = np.argsort(shares)
        strongest[which[by_share]] = visits.places[by_share]  # the last one written is the largest
        return Related(
            keys=keys,
            total=np.asarray(np.bincount(which, shares, len(keys)), np.float64),
            newest=np.asarray(np.bincount(which, visits.similarities * (visits.places == 0), len(keys)), np.float64),
            links=np.bincount(which, minlength=len(keys)),
            because=np.array(recent, np.uint64)[strongest],
        )


def _direction(mean: Vector) -> Vector | None:
    """The mean at unit length; None if nothing is left of it."""
    largest = np.abs(mean).max(initial=0.0)
    if largest < np.finfo(np.float32).tiny:
        return None
    near: Vector = mean if largest > FADED else mean / largest
    return near / np.linalg.norm(near)


class Interests(NamedTuple):
    """Directions of unit length: (k, dim) float32 prototypes, the heaviest first; the means, or None without events."""

    prototypes: Vector
    session: Vector | None
    long: Vector | None

    @property
    def queries(self) -> Vector:
        """(k, dim) float32: all of them; no rows for a user without a known item."""
        means = [mean for mean in (self.session, self.long) if mean is not None]
        return np.concatenate([self.prototypes, np.array(means, np.float32).reshape(-1, self.prototypes.shape[1])])


class Related(NamedTuple):
    """Items that were visited together with a user's recent ones.

    Attributes
    ----------
    keys : (n,) uint64, ascending.
    total : (n,) float64, similarities summed over the recent items, each step back in time weighing `DISTANCE_DECAY`.
    newest : (n,) float64, similarity to the newest item alone.
    links : (n,) intp, with how many of the recent items; once per shard of the counts.
    because : (n,) uint64, the key of the recent item that weighs most.
    """

    keys: npt.NDArray[np.uint64]
    total: npt.NDArray[np.float64]
    newest: npt.NDArray[np.float64]
    links: npt.NDArray[np.intp]
    because: npt.NDArray[np.uint64]


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
    """A candidate after the merge. `prior` is comparable between candidates of one user, higher is better.

    `places`: by the name of each source that proposed it, its place there, 0 the best.
    """

    row: int
    retrieval_score: float
    places: dict[str, int]
    because: int | None


class Nearest:
    """Items whose text is nearest to each of the user's interests: prototypes, session, long term."""

    name = "nearest"

    def find(self, shopper: Shopper, limit: int) -> Found:
        queries = shopper.interests.queries
        return Found(shopper.catalogue.nearest(queries, limit)[0] if len(queries) else np.empty(0, np.intp))


class CoVisited:
    """Items that others visited together with the user's recent ones: the item-based collaborative filter."""

    name = "co-visited"

    def find(self, shopper: Shopper, limit: int) -> Found:
        related = shopper.related
        for many in (2 * limit, len(related.keys)):  # as a rule, most of the best are to be had
            best = top(related.total, many)
            places, rows = shopper.catalogue.recommendable(related.keys[best].tolist())
            if len(places) >= limit:
                break
        return Found(rows[:limit], related.because[best[places[:limit]]])


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


RECENT = 25
"""Items of the history whose neighbours are candidates, the newest."""
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
    retrieval_score, because = np.zeros(len(rows)), np.zeros(len(rows), np.uint64)
    placed = np.full((len(rows), len(sources)), -1)
    begin = 0
    for number, (source, (proposed, led_by)) in enumerate(zip(sources, found, strict=True)):
        which_here = which[begin : begin + len(proposed)]
        begin += len(proposed)
        places = np.arange(len(proposed))
        placed[which_here, number] = places
        retrieval_score[which_here] += _WEIGHT.get(source.name, _OTHER_WEIGHT) / (_RANK_OFFSET + 1 + places)
        if led_by is not None:
            because[which_here] = np.where(because[which_here], because[which_here], led_by)  # 0: no item's key
    retrieval_score[~catalogue.available[rows]] = -np.inf
    retrieval_score[which[begin:]] = -np.inf
    best = top(retrieval_score, limit)
    names = [source.name for source in sources]
    return [
        Merged(row, share, {name: at for name, at in zip(names, places_of, strict=True) if at >= 0}, led_by or None)
        for row, share, places_of, led_by in zip(
            rows[best].tolist(),
            retrieval_score[best].tolist(),
            placed[best].tolist(),
            because[best].tolist(),
            strict=True,
        )
    ]


def _excluded(shopper: Shopper, repeat_purchases: bool) -> list[int]:
    """Keys of items."""
    history = shopper.state.history
    keys: list[int] = history["item"][-1:].tolist()
    if not repeat_purchases:
        keys += shopper.state.bought["item"].tolist()
        keys += history["item"][history["type"] == TYPES.index("purchase")].tolist()
    return keys
