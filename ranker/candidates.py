"""Step 3, candidates: recall from several sources, merged into one list with where each item came from.

A source is one class with one method (`Source`); a user adds one by its import path in a setting. Knows no transport;
called by `streams.pipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from encoders.interest import TYPES, Decay, Interest, Vector
from encoders.prototypes import prototypes
from ranker.catalogue import Catalogue, top
from ranker.counts import DISTANCE_DECAY, Counts


@dataclass(frozen=True)
class Shopper:
    """What a source may look at: one user's state beside the catalogue and everybody's counts."""

    state: Interest
    catalogue: Catalogue
    counts: Counts
    decay: Decay

    def recent_items(self) -> list[int]:
        """Keys of the items in the user's history, newest first, each once."""
        return list(dict.fromkeys(int(key) for key in self.state.history["item"][::-1]))


class Found(NamedTuple):
    """One item that a source proposes.

    `score` orders within its source only; `because`, where the source knows it, is the key of the item in the user's
    history that led to this one.
    """

    row: int
    score: float
    because: int | None = None


class Source(Protocol):
    """Where candidates come from. `name` appears in the list's `sources`."""

    name: str

    def find(self, shopper: Shopper, limit: int) -> Sequence[Found]:
        """At most `limit` items, best first; rows of the catalogue."""
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

    def find(self, shopper: Shopper, limit: int) -> Sequence[Found]:
        queries = interests(shopper)
        if not len(queries):
            return []
        rows, similarities = shopper.catalogue.nearest(queries, limit)
        return [Found(row, score) for row, score in zip(rows.tolist(), similarities.tolist(), strict=True)]


class CoVisited:
    """Items that others visited together with the user's recent ones: the item-based collaborative filter."""

    name = "co-visited"
    recent = 25

    def find(self, shopper: Shopper, limit: int) -> Sequence[Found]:
        total: dict[int, float] = {}
        strongest: dict[int, tuple[float, int]] = {}
        for place, key in enumerate(shopper.recent_items()[: self.recent]):
            weight = DISTANCE_DECAY**place
            for other, similarity in shopper.counts.co_visited(key).items():
                share = weight * similarity
                total[other] = total.get(other, 0.0) + share
                if other not in strongest or share > strongest[other][0]:
                    strongest[other] = (share, key)
        found = []
        for key in sorted(total, key=lambda key: (-total[key], key)):
            row = shopper.catalogue.row(key)
            if row is not None:
                found.append(Found(row, total[key], strongest[key][1]))
                if len(found) == limit:
                    break
        return found


class Trending:
    """Items with the most events lately, whoever the user is."""

    name = "trending"

    def find(self, shopper: Shopper, limit: int) -> Sequence[Found]:
        rows = ((shopper.catalogue.row(key), score) for key, score in shopper.counts.trending())
        known = (Found(row, score) for row, score in rows if row is not None and shopper.catalogue.available[row])
        return list(islice(known, limit))


class Newest:
    """Items that came into the catalogue last: they have no events to be found by."""

    name = "newest"

    def find(self, shopper: Shopper, limit: int) -> Sequence[Found]:
        catalogue = shopper.catalogue
        times = np.where(catalogue.available, catalogue.time_ms, -np.inf)
        return [Found(row, float(times[row])) for row in top(times, limit).tolist()]


BUILT_IN: tuple[Source, ...] = (CoVisited(), Nearest(), Trending(), Newest())
_RANK_OFFSET = 60
"""k of reciprocal rank fusion, as in Cormack, Clarke and Büttcher (SIGIR 2009)."""
_WEIGHT = {"co-visited": 1.0, "nearest": 0.6, "trending": 0.15, "newest": 0.05}
"""How much a source's order counts in the prior; chosen by us: behaviour, then text, then what everybody sees."""
_OTHER_WEIGHT = 0.5


def recall(shopper: Shopper, sources: Sequence[Source], limit: int, repeat_purchases: bool) -> list[Merged]:
    """Ask every source and merge by weighted reciprocal rank fusion.

    Left out: what is unavailable, the item that the user looked at or bought last, and what the state remembers as
    bought unless `repeat_purchases`.

    Returns
    -------
    At most `limit` candidates, by prior, best first; ties by item id.
    """
    excluded = _excluded(shopper, repeat_purchases)
    prior: dict[int, float] = {}
    found_by: dict[int, list[str]] = {}
    because: dict[int, int] = {}
    for source in sources:
        weight = _WEIGHT.get(source.name, _OTHER_WEIGHT)
        rank = 0
        for found in source.find(shopper, limit + len(excluded)):
            if found.row in excluded or not shopper.catalogue.available[found.row]:
                continue
            rank += 1
            prior[found.row] = prior.get(found.row, 0.0) + weight / (_RANK_OFFSET + rank)
            found_by.setdefault(found.row, []).append(source.name)
            if found.because is not None:
                because.setdefault(found.row, found.because)
    order = sorted(prior, key=lambda row: (-prior[row], shopper.catalogue.at(row).item_id))[:limit]
    return [Merged(row, prior[row], tuple(found_by[row]), because.get(row)) for row in order]


def interests(shopper: Shopper) -> Vector:
    """The user's interests as queries: prototypes of the history, the session's and the long-term mean.

    Returns
    -------
    (k, dim) float32, unit length; no rows for a user without a known item.
    """
    state, catalogue = shopper.state, shopper.catalogue
    known = [(entry, vector) for entry in state.history if (vector := catalogue.vector(int(entry["item"]))) is not None]
    means = [mean / norm for mean in (state.session, state.long) if (norm := np.linalg.norm(mean)) > 0]
    if not known:
        return np.array(means, np.float32).reshape(-1, catalogue.dim)
    history = np.array([entry for entry, _ in known], state.history.dtype)
    return np.concatenate(
        [
            prototypes(history, np.stack([vector for _, vector in known]), shopper.decay),
            *([means] if means else []),
        ]
    )


def _excluded(shopper: Shopper, repeat_purchases: bool) -> set[int]:
    keys = {int(key) for key in shopper.state.history["item"][-1:]}
    if not repeat_purchases:
        keys.update(int(key) for key in shopper.state.bought["item"])
        purchased = shopper.state.history["type"] == TYPES.index("purchase")
        keys.update(int(key) for key in shopper.state.history["item"][purchased])
    return {row for key in keys if (row := shopper.catalogue.row(key)) is not None}
