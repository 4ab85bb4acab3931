"""Matrix factorisation by the package `implicit`: ALS and BPR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores
from ranker.evaluation.extra import evaluate_extra

with evaluate_extra():
    import scipy.sparse as sp
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking


def _matrix(events: Events, shape: tuple[int, int], weight: float) -> sp.csr_matrix:
    matrix = sp.csr_matrix((np.full(len(events), weight, np.float32), (events.user, events.item)), shape)
    matrix.sum_duplicates()
    matrix.data = np.float32(weight) * np.log2(1 + matrix.data / np.float32(weight))
    return matrix


class Als(Method):
    """Implicit-feedback matrix factorisation (Hu, Koren and Volinsky, ICDM 2008), the user folded in at each query.

    Confidence: `alpha log2(1 + times chosen)`.
    """

    name = "als"
    grid: ClassVar[Grid] = {
        "factors": (64, 32, 128),
        "regularization": (0.1, 0.01, 1.0, 10.0),
        "alpha": (1.0, 5.0, 20.0),
    }
    staleness = 0.25

    def fit(self, events: Events) -> None:
        setting = {name: self.setting[name] for name in ("factors", "regularization")}
        with threadpool_limits(1, "blas"):  # implicit starts threads of its own, which would compete with those of BLAS
            self._model: Any = AlternatingLeastSquares(**setting, random_state=self.budget.seed)
            self._model.fit(
                _matrix(events, (self.corpus.users, self.corpus.items), self.setting["alpha"]), show_progress=False
            )

    def scores(self, queries: Sequence[Query]) -> Scores:
        rows = np.repeat(np.arange(len(queries)), [len(query.history) for query in queries])
        items = np.concatenate([query.history.item for query in queries])
        histories = Events(rows, items, rows, rows)
        with threadpool_limits(1, "blas"):
            matrix = _matrix(histories, (len(queries), self.corpus.items), self.setting["alpha"])
            users = self._model.recalculate_user(np.arange(len(queries)), matrix)
            return np.asarray(users @ self._model.item_factors.T, np.float32)


class Bpr(Method):
    """Bayesian personalised ranking (Rendle et al., UAI 2009).

    A user without an event at the fit is represented by the mean of their items since.
    """

    name = "bpr"
    grid: ClassVar[Grid] = {
        "factors": (64, 32, 128),
        "learning_rate": (0.05, 0.02, 0.1),
        "regularization": (0.01, 0.001, 0.05),
        "iterations": (50, 25),
    }
    staleness = 0.25

    def fit(self, events: Events) -> None:
        with threadpool_limits(1, "blas"):
            self._model: Any = BayesianPersonalizedRanking(**self.setting, random_state=self.budget.seed)
            matrix = _matrix(events, (self.corpus.users, self.corpus.items), 1.0)
            self._model.fit(matrix, show_progress=False)
        self._has_factors = np.diff(matrix.indptr) > 0

    def scores(self, queries: Sequence[Query]) -> Scores:
        items = self._model.item_factors
        users = np.array(
            [
                self._model.user_factors[query.user]
                if self._has_factors[query.user]
                else np.append(items[query.history.item, :-1].mean(0), 1)  # the last one is the item's bias
                for query in queries
            ]
        )
        return np.asarray(users @ items.T, np.float32)
