"""Content-based ranking: the cosine between items' texts and the texts of what the user chose.

Called through `method.Method`.
"""

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
        vectors = self.shop.vectors
        out = np.zeros((len(queries), self.shop.items), np.float32)
        for place, query in enumerate(queries):
            items = recent(query, self.setting["window"])
            weights = (self.setting["order_decay"] ** np.arange(len(items))).astype(np.float32)
            if self.setting["pool"] == "mean":
                out[place] = vectors @ (weights @ vectors[items])
            elif len(items):
                out[place] = (vectors @ vectors[items].T * weights).max(1)
        return out
