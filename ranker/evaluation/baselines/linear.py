"""Linear models over items in closed form: SLIT, and the similarity models SLIS and EASE by the same fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores, recent
from ranker.neighbours.fit import fit, fitted_items
from ranker.neighbours.limits import Limits, matmul_rate
from ranker.neighbours.settings import NeighbourEvents, NeighbourSettings
from ranker.neighbours.table import MAX_HISTORY

MAX_BYTES = 4e9
"""Memory of a fit."""


class _Linear(Method):
    """A table of item-to-item weights (`ranker.neighbours.fit`), read from the user's newest items.

    An item that the table does not reach scores 0.
    """

    kinds: ClassVar[dict[str, Any]]
    staleness = 0.25

    def fit(self, events: Events) -> None:
        chosen = NeighbourSettings(**self.kinds | dict(self.setting))
        columns = NeighbourEvents(events.user, events.item, events.time_ms)
        seconds = self.budget.seconds * len(events) / self.budget.events
        most = Limits(MAX_BYTES, seconds, matmul_rate()).items(len(events), chosen.predictors)
        items = self.corpus.items
        self._table = fit(columns, np.arange(items, dtype=np.uint64), chosen, most)
        self._left_out = len(fitted_items(columns, items)) - len(self._table)

    def scores(self, queries: Sequence[Query]) -> Scores:
        scores = np.zeros((len(queries), self.corpus.items), np.float32)
        for row, query in zip(scores, queries, strict=True):
            row[self._table.keys.astype(np.intp)] = self._table.scores(recent(query, MAX_HISTORY).tolist()).scores
        return scores

    def account(self) -> str:
        if not self._left_out:
            return ""
        return f"{self._left_out:,} items with the fewest events left out, for time or memory"


class Slit(_Linear):
    """From the decayed past to the decayed future (Choi et al., WWW 2021)."""

    name = "slit"
    kinds: ClassVar[dict[str, Any]] = {"kind": "slit"}
    grid: ClassVar[Grid] = {
        "ridge": (300.0, 1000.0, 100.0, 30.0),
        "past": (8.0, 4.0, 16.0, 2.0),
        "future": (4.0, 2.0, 16.0, 1.0),
        "served": (64.0, 16.0, 4.0),
        "half_life_days": (90.0, None),
        "predictors": (50, 25, None),
    }


class Ease(_Linear):
    """From a user's items to the same items: with a diagonal of 0 EASE (Steck, WWW 2019), without SLIS."""

    name = "ease"
    kinds: ClassVar[dict[str, Any]] = {}
    grid: ClassVar[Grid] = {
        "kind": ("ease", "slis"),
        "ridge": (300.0, 1000.0, 100.0, 30.0),
        "served": (64.0, 16.0, 4.0),
        "half_life_days": (90.0, None),
        "predictors": (50, 25, None),
    }
