"""Fit a table of neighbours in closed form: SLIT, SLIS or EASE, one ridge regression each.

| kind | minimises | B |
|---|---|---|
| `slit` | `W |T - S B|^2 + ridge |B|^2`, S the past and T the future of each split | `(S'WS + ridge I)^-1 S'WT` |
| `slis` | `W |X - X B|^2 + ridge |B|^2`, X the users' item sets | `I - ridge P`, `P = (X'WX + ridge I)^-1` |
| `ease` | the same, with a diagonal of 0 | `I - P diag(1 / diag P)` |

SLIT and SLIS: Choi, Kim, Lee, Shim and Lee, "Session-aware linear item-item models for session-based recommendation"
(WWW 2021). EASE: Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019). W holds a weight for each
split or user. An item's weight to itself is not kept in any of them: lists show other items than the user's own.

`ranker.neighbours.local` solves for the best predictors of each item, `ranker.neighbours.dense` for all pairs of items.
Memory and time bound the number of items (`ranker.neighbours.limits`): those with the most events are kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranker.neighbours import dense, local
from ranker.neighbours.sequences import LEFT_OUT, sequences
from ranker.neighbours.settings import NeighbourEvents, NeighbourSettings
from ranker.neighbours.table import Keys, NeighbourTable
from ranker.progress import Progress, silent

MIN_EVENTS = 2
"""Items with fewer events take no part: no second user could confirm what one event says."""


def fitted_items(events: NeighbourEvents, items: int, most: int | None = None) -> npt.NDArray[np.intp]:
    """Return the items that take part in a fit, ascending: all with enough events, or `most` with the most events."""
    counts = np.bincount(events.item, minlength=items)
    frequent = np.flatnonzero(counts >= MIN_EVENTS)
    if most is not None and len(frequent) > most:
        frequent = np.sort(frequent[np.argsort(-counts[frequent], kind="stable")[:most]])
    return frequent


def fit(
    events: NeighbourEvents,
    keys: Keys,
    settings: NeighbourSettings,
    most: int | None = None,
    progress: Progress = silent,
) -> NeighbourTable:
    """Fit a table.

    Parameters
    ----------
    events : NeighbourEvents
    keys : (items,) uint64
        Of the items that the events name by index.
    settings : NeighbourSettings
    most : int, optional
        Items of the fit, at most; see `Limits.items`.
    progress : Progress
        In items.
    """
    items = fitted_items(events, len(keys), most)
    items = items[np.argsort(keys[items], kind="stable")]
    number = np.full(len(keys), LEFT_OUT, np.int64)
    number[items] = np.arange(len(items))
    rows = sequences(
        events.user,
        number[events.item],
        events.time_ms,
        len(items),
        settings.half_life_days,
        distinct=settings.kind != "slit",
    )
    if settings.predictors is None:
        weights = dense.solve(rows, settings, progress)
    else:
        weights = local.solve(rows, settings, settings.predictors, progress)
    return NeighbourTable(keys[items].astype(np.uint64), *weights, settings.served)
