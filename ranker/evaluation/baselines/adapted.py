"""Text that is adapted to the shop: the same fit as that of `afterclick train` (`ranker.spaces.fit`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores
from ranker.spaces.adapter import MAX_HISTORY
from ranker.spaces.fit import AdapterFit, SpaceEvents


class AdaptedContent(Method):
    """Nearest to what the user's events lead to, in the adapted space. A later fit learns the newer events only."""

    name = "adapted-text"
    grid: ClassVar[Grid] = {"epochs": (2, 1, 4)}
    staleness = 0.25

    def fit(self, events: Events) -> None:
        if not hasattr(self, "_fit"):
            self._fit, self._learnt = AdapterFit(self.corpus.vectors, 1.0, self.budget.seed), 0
        columns = SpaceEvents(events.user, events.item, np.zeros(len(events), bool))
        new = len(events) - self._learnt
        deadline = time.monotonic() + self.budget.seconds * new / self.budget.events
        self._is_whole = all(self._fit.epoch(columns, self._learnt, deadline) for _ in range(self.setting["epochs"]))
        self._learnt, self._adapter = len(events), self._fit.frozen()
        self._placed = self._adapter.place(self.corpus.vectors)

    def scores(self, queries: Sequence[Query]) -> Scores:
        scores = np.zeros((len(queries), self.corpus.items), np.float32)
        for row, query in zip(scores, queries, strict=True):
            history = query.history.item[::-1][:MAX_HISTORY]
            if len(history):
                is_purchase = np.zeros(len(history), bool)
                row[:] = self._placed @ self._adapter.query(self.corpus.vectors[history], is_purchase)
        return scores

    def account(self) -> str:
        return "" if self._is_whole else "its time was over before it had read all events"
