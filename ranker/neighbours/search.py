"""The search for the settings of a table: one coordinate after the other, judged by NDCG@10 on newer events.

Each trial fits on the older events, with as many items as its share of the time allows; how the table is read is tried
on every fit, which costs little. Knows no log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ranker.neighbours.fit import fit
from ranker.neighbours.limits import Limits
from ranker.neighbours.settings import NeighbourEvents, NeighbourSettings
from ranker.neighbours.table import Keys, NeighbourTable
from ranker.progress import Progress

K = 10
MOST_CASES = 2_000
"""Cases that judge a trial: with them NDCG@10 about .08 has a standard error of .004. Chosen by us, for time."""
SERVED: Sequence[float] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
STEPS: Sequence[Sequence[dict[str, Any]]] = (
    ({},),
    ({"ridge": 1000.0}, {"ridge": 100.0}, {"ridge": 3000.0}, {"ridge": 30.0}),
    ({"past": 4.0, "future": 2.0}, {"past": 16.0, "future": 16.0}, {"past": 2.0, "future": 1.0}),
    ({"half_life_days": None},),
    ({"kind": "ease"}, {"kind": "slis"}),
    ({"predictors": 25}, {"predictors": 100}, {"predictors": None}),
)
"""Changes of the best settings so far, tried step by step."""
TRIALS = sum(map(len, STEPS))


class NeighbourCase(NamedTuple):
    """A user before a list, and what they chose from it.

    Attributes
    ----------
    recent : sequence of int
        Keys of the user's items, newest first, each once. They are not recommended.
    targets : frozenset of int
        Keys of the relevant items.
    """

    recent: Sequence[int]
    targets: frozenset[int]


@dataclass(frozen=True)
class FoundSettings:
    """The result of a search.

    Attributes
    ----------
    settings : NeighbourSettings
        The best.
    ndcg : float
        Its NDCG@10.
    tried : list of (NeighbourSettings, float)
        Every trial, with the best way to read it.
    """

    settings: NeighbourSettings
    ndcg: float
    tried: list[tuple[NeighbourSettings, float]]


def search(
    events: NeighbourEvents,
    keys: Keys,
    cases: Sequence[NeighbourCase],
    limits: Limits,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> FoundSettings:
    """Find the best settings within `limits.seconds`. At least the default is tried.

    Parameters
    ----------
    events : NeighbourEvents
        Older than every case.
    keys : (items,) uint64
        Of the items that the events name by index.
    cases : sequence of NeighbourCase
        At least one.
    limits : Limits
        For the whole search.
    progress : Progress
        In trials.
    clock : callable
        In seconds.
    """
    deadline = clock() + limits.seconds
    limits = replace(limits, seconds=limits.seconds / TRIALS)
    cases = cases[:: 1 + (len(cases) - 1) // MOST_CASES]
    best, best_ndcg, tried = NeighbourSettings(), -1.0, list[tuple[NeighbourSettings, float]]()
    for step in STEPS:
        base = best
        for change in step:
            if tried and clock() > deadline:
                break
            chosen = replace(base, **change)
            table = fit(events, keys, chosen, limits.items(len(events), chosen.predictors))
            trial, ndcg = _best_served(table, chosen, cases)
            tried.append((trial, ndcg))
            progress(len(tried), TRIALS)
            if ndcg > best_ndcg:
                best, best_ndcg = trial, ndcg
    return FoundSettings(best, best_ndcg, tried)


def ndcg(table: NeighbourTable, cases: Sequence[NeighbourCase]) -> float:
    """Mean NDCG@10 of lists by a table alone, over all its items but the user's own."""
    discounts = 1 / np.log2(np.arange(2, K + 2))
    total = 0.0
    for case in cases:
        scores = table.scores(case.recent).scores
        own = table.index(np.array(case.recent, np.uint64))
        scores[own[own >= 0]] = 0
        best = np.argpartition(-scores, min(K, len(scores) - 1))[:K] if len(scores) else np.empty(0, np.intp)
        best = best[np.argsort(-scores[best], kind="stable")]
        best = best[scores[best] > 0]
        hits = np.array([key in case.targets for key in table.keys[best].tolist()], bool)
        total += discounts[: len(best)][hits].sum() / discounts[: len(case.targets)].sum()
    return total / len(cases)


def _best_served(
    table: NeighbourTable, settings: NeighbourSettings, cases: Sequence[NeighbourCase]
) -> tuple[NeighbourSettings, float]:
    """The settings with the best way to read the table, and its NDCG@10."""
    figures = {served: ndcg(replace(table, decay=served), cases) for served in SERVED}
    served = max(figures, key=lambda one: figures[one])
    return replace(settings, served=served), figures[served]
