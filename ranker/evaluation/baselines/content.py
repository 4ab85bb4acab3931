"""Content-based ranking: the cosine between an item's text and the texts of the user's items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores, recent


class Content(Method):
    """Nearest by text to the user's last items: to their decayed mean (Rocchio), or to whichever is nearest."""

    name = "content"
    grid: ClassVar[Grid] = {"order_decay": (0.9, 0.7, 0.97, 1.0), "window": (10, 1, 3, 40), "pool": ("mean", "max")}
    staleness = np.inf

    def fit(self, events: Events) -> None:
        pass

    def scores(self, queries: Sequence[Query]) -> Scores:
        vectors = self.corpus.vectors
        scores = np.zeros((len(queries), self.corpus.items), np.float32)
        for row, query in enumerate(queries):
            items = recent(query, self.setting["window"])
            weights = (self.setting["order_decay"] ** np.arange(len(items))).astype(np.float32)
            if self.setting["pool"] == "mean":
                scores[row] = vectors @ (weights @ vectors[items])
            elif len(items):
                scores[row] = (vectors @ vectors[items].T * weights).max(1)
        return scores
