"""The baselines that ignore the user: chance, popularity and recency. They show how much of a figure is no skill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores, decayed


class Random(Method):
    """Random scores, determined by the seed and the query."""

    name = "random"
    staleness = np.inf

    def fit(self, events: Events) -> None:
        pass

    def scores(self, queries: Sequence[Query]) -> Scores:
        return np.array(
            [
                np.random.default_rng([self.budget.seed, q.user, q.as_of_ms, len(q.history)]).random(
                    self.corpus.items, np.float32
                )
                for q in queries
            ]
        )


class Popularity(Method):
    """The items with the most events of all time."""

    name = "popularity"

    def fit(self, events: Events) -> None:
        weights = decayed(events, self.setting.get("half_life_days"))
        self._counts = np.bincount(events.item, weights, self.corpus.items).astype(np.float32)

    def scores(self, queries: Sequence[Query]) -> Scores:
        return np.broadcast_to(self._counts, (len(queries), self.corpus.items))


class RecentPopularity(Popularity):
    """The items with the most events lately, decayed by event time."""

    name = "popularity-recent"
    grid: ClassVar[Grid] = {"half_life_days": (30, 3, 7, 14, 60, 120, 1, 240)}


class Recency(Method):
    """The newest items: by their appearance or first event, or by their latest event."""

    name = "recency"
    grid: ClassVar[Grid] = {"by": ("first", "last")}

    def fit(self, events: Events) -> None:
        self._time_ms = self.corpus.appeared_ms.astype(np.float64)
        if self.setting["by"] == "last":
            self._time_ms[events.item] = events.time_ms  # the last assignment wins, and it is the newest
        else:
            new = self._time_ms[events.item] == 0
            self._time_ms[events.item[new][::-1]] = events.time_ms[new][::-1]

    def scores(self, queries: Sequence[Query]) -> Scores:
        order = self._time_ms.argsort(kind="stable").argsort().astype(np.float32)  # a time in ms has too many digits
        return np.broadcast_to(order, (len(queries), self.corpus.items))
