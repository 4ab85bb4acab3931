"""Mixtures of other baselines, each with the settings chosen for it: the weighted hybrid, and SASRec with item-kNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores


class Hybrid(Method):
    """A weighted hybrid (Burke, UMUAI 2002): the weighted sum of the scores of item-kNN, popularity and text.

    Each part's scores are standardised first, to mean 0 and standard deviation 1 over the catalogue.
    """

    name = "hybrid"
    parts = ("item-knn", "popularity-recent", "content")
    grid: ClassVar[Grid] = {"popularity": (0.1, 0.0, 0.3, 1.0), "content": (0.3, 0.1, 0.0, 1.0)}
    staleness = np.inf

    def fit(self, events: Events) -> None:
        pass

    def scores(self, queries: Sequence[Query]) -> Scores:
        neighbours, popularity, content = (_standard(part.scores(queries)) for part in self.fitted_parts)
        mixed: Scores = neighbours + self.setting["popularity"] * popularity + self.setting["content"] * content
        return mixed


class SasRecAndCounter(Method):
    """The log-probability of SASRec plus `weight` times the logarithm of the co-visitation counter (item-kNN).

    An item that the counter never saw together with the user's items gets a tenth of the smallest score above 0.
    """

    name = "sasrec+item-knn"
    parts = ("sasrec", "item-knn")
    grid: ClassVar[Grid] = {"weight": (2.0, 0.5, 1.0, 4.0, 0.25, 8.0, 0.1, 16.0)}
    staleness = np.inf

    def fit(self, events: Events) -> None:
        pass

    def scores(self, queries: Sequence[Query]) -> Scores:
        log_probability, counter = (part.scores(queries) for part in self.fitted_parts)
        seen = counter > 0
        least = np.where(seen, counter, np.inf).min(1, keepdims=True)
        floor = np.where(np.isfinite(least), least, 1) / 10
        together: Scores = log_probability + self.setting["weight"] * np.log(np.maximum(counter, floor))
        return together


def _standard(scores: Scores) -> Scores:
    spread = scores.std(1, keepdims=True)
    standard: Scores = (scores - scores.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)
    return standard
