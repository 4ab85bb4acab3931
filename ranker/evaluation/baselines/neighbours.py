"""Collaborative filtering by neighbours: of the user, and of the user's items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores, decayed, recent
from ranker.evaluation.extra import evaluate_extra

with evaluate_extra():
    import scipy.sparse as sp


class UserKnn(Method):
    """The items of the users most similar to this one (Resnick et al., CSCW 1994), by the cosine of their item sets.

    With `idf`, an item that many users chose counts less (Breese et al., UAI 1998). `amplify` raises similarities to a
    power, so that the nearest users count for more.
    """

    name = "user-knn"
    grid: ClassVar[Grid] = {"neighbours": (100, 30, 300, 1000), "idf": (True, False), "amplify": (1.0, 2.0, 3.0)}
    staleness = 0.1

    def fit(self, events: Events) -> None:
        item_sets = sp.csr_matrix(
            (np.ones(len(events), np.float32), (events.user, events.item)), (self.corpus.users, self.corpus.items)
        )
        item_sets.sum_duplicates()
        item_sets.data[:] = 1
        self._item_sets = item_sets
        users = np.asarray((item_sets > 0).sum(0)).ravel()
        active = np.count_nonzero(np.diff(item_sets.indptr))
        self._weight = np.log1p(active / (1 + users)).astype(np.float32) if self.setting["idf"] else np.ones(len(users))
        weighted = item_sets.multiply(self._weight).tocsr()
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
        self._unit = sp.diags(1 / np.maximum(norms, 1e-9)) @ weighted

    def scores(self, queries: Sequence[Query]) -> Scores:
        scores = np.zeros((len(queries), self.corpus.items), np.float32)
        for row, query in enumerate(queries):
            own = np.zeros(self.corpus.items, np.float32)
            own[query.history.item] = self._weight[query.history.item]
            similarity = self._unit @ own / max(np.linalg.norm(own), 1e-9)
            similarity[query.user] = 0
            count = min(self.setting["neighbours"], np.count_nonzero(similarity > 0))
            nearest = np.argpartition(similarity, -count)[-count:] if count else np.empty(0, np.intp)
            scores[row] = (similarity[nearest] ** self.setting["amplify"]) @ self._item_sets[nearest]
        return scores


class ItemKnn(Method):
    """Items that share baskets, or users, with the user's last items (Deshpande and Karypis, TOIS 2004).

    An item i scores `sum over the last `window` items j of order_decay^r(j) c(i, j) / (n(j)^a n(i)^(1 - a))`, where
    r(j) is 0 for the newest item, c counts the baskets with both items, and n those with the one item. a = 1/2 is the
    cosine, a = 1 a conditional probability.
    """

    name = "item-knn"
    grid: ClassVar[Grid] = {
        "over": ("baskets", "users"),
        "order_decay": (0.97, 0.9, 0.99, 1.0),
        "window": (40, 10, 100, 400),
        "norm": (0.5, 0.7, 0.3, 1.0),
        "half_life_days": (None, 90.0, 180.0),
    }
    staleness = 0.1

    def fit(self, events: Events) -> None:
        over = events.basket if self.setting["over"] == "baskets" else events.user
        _, row = np.unique(over, return_inverse=True)
        shape = (row.max(initial=-1) + 1, self.corpus.items)
        decayed_counts = sp.csr_matrix((decayed(events, self.setting["half_life_days"]), (row, events.item)), shape)
        counts = sp.csr_matrix((np.ones(len(events)), (row, events.item)), shape)
        decayed_counts.sum_duplicates()
        counts.sum_duplicates()
        weights = decayed_counts.data / counts.data  # a basket counts once, however often it holds the item
        once = counts.copy()
        once.data[:] = 1
        weighted = once.copy()
        weighted.data = weights
        together = (weighted.T @ once).tocsr()
        alone = np.asarray(weighted.sum(0)).ravel()
        together.setdiag(0)
        a = self.setting["norm"]
        scale = np.maximum(alone, 1e-9)
        self._similar = (sp.diags(scale**-a) @ together @ sp.diags(scale ** (a - 1))).tocsr().astype(np.float32)

    def scores(self, queries: Sequence[Query]) -> Scores:
        rows = [recent(query, self.setting["window"]) for query in queries]
        lengths = np.array([len(row) for row in rows])
        weights = np.concatenate([self.setting["order_decay"] ** np.arange(length) for length in lengths])
        recent_items = sp.csr_matrix(
            (weights.astype(np.float32), np.concatenate(rows), np.concatenate([[0], np.cumsum(lengths)])),
            (len(queries), self.corpus.items),
        )
        return np.asarray((recent_items @ self._similar).todense(), np.float32)
