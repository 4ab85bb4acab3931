"""Step 3, candidates: recall from several sources, merged into one list that says where each item came from.

A source is a class with a name and one method (`Source`); a user adds one by its import path in a setting. Knows no
transport.
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

RECENT = 25
"""The newest items of the history whose neighbours are candidates."""
FADED = np.float32(1e-15)
"""Largest component of a mean below which its squares come near to the smallest float32."""
_RANK_OFFSET = 60
"""k of reciprocal rank fusion, as in Cormack, Clarke and Büttcher (SIGIR 2009)."""
_WEIGHT = {"co-visited": 1.0, "nearest": 0.6, "trending": 0.15, "newest": 0.05}
"""Weight of a source's order in the retrieval score; chosen by us: what users did, then text, then popularity."""
_OTHER_WEIGHT = 0.5
"""The same for a user's own source."""


@dataclass(frozen=True)
class UserView:
    """What a source may read: one user's state, the catalogue, and the counts of all users."""

    state: Interest
    catalogue: Catalogue
    counts: Counts
    decay: Decay

    def recent_items(self) -> list[int]:
        """Return the keys of the items in the user's history, newest first, each once."""
        return list(dict.fromkeys(reversed(self.state.history["item"].tolist())))

    @cached_property
    def interests(self) -> InterestDirections:
        """The user's interests as directions in the space of texts."""
        state, catalogue = self.state, self.catalogue
        rows = catalogue.rows(state.history["item"].tolist())
        return InterestDirections(
            prototypes(state.history[rows >= 0], catalogue.vectors(rows[rows >= 0]), self.decay),
            _direction(state.session),
            _direction(state.long),
        )

    @cached_property
    def related(self) -> RelatedItems:
        """The items that others visited together with the user's `RECENT` newest items."""
        recent = self.recent_items()[:RECENT]
        visits = self.counts.co_visited(recent)
        shares = (DISTANCE_DECAY ** np.arange(RECENT))[visits.query_indices] * visits.similarities
        keys, key_of_visit = np.unique(visits.items, return_inverse=True)
        strongest = np.zeros(len(keys), np.intp)
        by_share = np.argsort(shares)
        strongest[key_of_visit[by_share]] = visits.query_indices[by_share]  # the last one written is the largest
        with_newest = visits.similarities * (visits.query_indices == 0)
        return RelatedItems(
            keys=keys,
            total=np.asarray(np.bincount(key_of_visit, shares, len(keys)), np.float64),
            newest=np.asarray(np.bincount(key_of_visit, with_newest, len(keys)), np.float64),
            links=np.bincount(key_of_visit, minlength=len(keys)),
            because=np.array(recent, np.uint64)[strongest],
        )


def _direction(mean: Vector) -> Vector | None:
    """The mean at unit length; None if it has faded to nothing."""
    largest = np.abs(mean).max(initial=0.0)
    if largest < np.finfo(np.float32).tiny:
        return None
    scaled: Vector = mean if largest > FADED else mean / largest
    return scaled / np.linalg.norm(scaled)


class InterestDirections(NamedTuple):
    """A user's interests, each of unit length.

    Attributes
    ----------
    prototypes : (k, dim) float32
        The heaviest first.
    session, long : (dim,) float32, or None
        The means of the session and of the long term; None without events.
    """

    prototypes: Vector
    session: Vector | None
    long: Vector | None

    @property
    def queries(self) -> Vector:
        """(k, dim) float32: all of them; no rows for a user without a known item."""
        means = [mean for mean in (self.session, self.long) if mean is not None]
        return np.concatenate([self.prototypes, np.array(means, np.float32).reshape(-1, self.prototypes.shape[1])])


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


class Proposals(NamedTuple):
    """Items that a source proposes, best first.

    Attributes
    ----------
    rows : (n,) intp
        Rows of the catalogue, each once.
    because : (n,) uint64, optional
        The key of the item in the user's history that led to each item; None where the source does not know.
    """

    rows: Rows
    because: npt.NDArray[np.uint64] | None = None


class Source(Protocol):
    """A source of candidates. Its `name` appears in the `sources` of a recommended item."""

    name: str

    def find(self, user: UserView, limit: int) -> Proposals:
        """Propose at most `limit` items; none for a user for whom the source has none."""
        ...


class RecalledCandidate(NamedTuple):
    """A candidate after the merge.

    Attributes
    ----------
    row : int
        The item's row of the catalogue.
    retrieval_score : float
        Comparable between the candidates of one user; higher is better.
    ranks : dict of str to int
        For the name of each source that proposed the item, its rank there; 0 is the best.
    because : int, optional
        The key of the item in the user's history that led to it.
    """

    row: int
    retrieval_score: float
    ranks: dict[str, int]
    because: int | None


class Nearest:
    """Items whose text is nearest to one of the user's interests: prototypes, session, long term."""

    name = "nearest"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        queries = user.interests.queries
        return Proposals(user.catalogue.nearest(queries, limit)[0] if len(queries) else np.empty(0, np.intp))


class CoVisited:
    """Items that others visited together with the user's recent items: the item-based collaborative filter."""

    name = "co-visited"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        related = user.related
        for count in (2 * limit, len(related.keys)):  # half of the best are available, as a rule
            best = top(related.total, count)
            indices, rows = user.catalogue.recommendable(related.keys[best].tolist())
            if len(indices) >= limit:
                break
        return Proposals(rows[:limit], related.because[best[indices[:limit]]])


class Trending:
    """Items with the most events lately, the same for every user."""

    name = "trending"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        keys = user.counts.trending()[: 3 * limit]  # some of them are not available
        return Proposals(user.catalogue.recommendable(keys)[1][:limit])


class Newest:
    """Items that entered the catalogue last: they have no events that could lead to them."""

    name = "newest"

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        return Proposals(user.catalogue.newest(limit))


BUILT_IN: tuple[Source, ...] = (CoVisited(), Nearest(), Trending(), Newest())


def recall(
    user: UserView, sources: Sequence[Source], limit: int, repeat_purchases: bool, leave_out: Sequence[int] = ()
) -> list[RecalledCandidate]:
    """Ask every source and merge the proposals by weighted reciprocal rank fusion.

    Left out are unavailable items, the item that the user looked at or bought last, the purchases that the state
    remembers unless `repeat_purchases`, and the items of the keys in `leave_out`.

    Returns
    -------
    list of RecalledCandidate
        At most `limit`, by retrieval score, best first; ties by row.
    """
    catalogue = user.catalogue
    excluded = catalogue.rows([*_excluded(user, repeat_purchases), *leave_out])
    proposals = [source.find(user, limit + len(excluded)) for source in sources]
    all_rows = np.concatenate([*(proposed for proposed, _ in proposals), excluded[excluded >= 0]])
    rows, index_of = np.unique(all_rows, return_inverse=True)
    retrieval_score, because = np.zeros(len(rows)), np.zeros(len(rows), np.uint64)
    source_ranks = np.full((len(rows), len(sources)), -1)
    begin = 0
    for number, (source, (proposed, proposed_because)) in enumerate(zip(sources, proposals, strict=True)):
        indices = index_of[begin : begin + len(proposed)]
        begin += len(proposed)
        ranks = np.arange(len(proposed))
        source_ranks[indices, number] = ranks
        retrieval_score[indices] += _WEIGHT.get(source.name, _OTHER_WEIGHT) / (_RANK_OFFSET + 1 + ranks)
        if proposed_because is not None:  # 0 is no item's key
            because[indices] = np.where(because[indices], because[indices], proposed_because)
    retrieval_score[~catalogue.available[rows]] = -np.inf
    retrieval_score[index_of[begin:]] = -np.inf
    best = top(retrieval_score, limit)
    names = [source.name for source in sources]
    return [
        RecalledCandidate(
            row, score, {name: rank for name, rank in zip(names, ranks, strict=True) if rank >= 0}, key or None
        )
        for row, score, ranks, key in zip(
            rows[best].tolist(),
            retrieval_score[best].tolist(),
            source_ranks[best].tolist(),
            because[best].tolist(),
            strict=True,
        )
    ]


def _excluded(user: UserView, repeat_purchases: bool) -> list[int]:
    """Keys of the items that must not be recommended to the user."""
    history = user.state.history
    keys: list[int] = history["item"][-1:].tolist()
    if not repeat_purchases:
        keys += user.state.bought["item"].tolist()
        keys += history["item"][history["type"] == TYPES.index("purchase")].tolist()
    return keys
