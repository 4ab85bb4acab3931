"""Collaborative filtering by neighbours: of the user, and of the items that they chose.

Called through `method.Method`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from ranker.evaluation.baselines.method import Events, Grid, Method, Query, Scores, decayed, recent


class UserKnn(Method):
    """What the users most like this one chose (Resnick et al., CSCW 1994; cosine of the items chosen, all of 1).

    With `idf`, an item that many chose says less (Breese et al., UAI 1998). `amplify` raises similarities to a power,
    so that the nearest count for more.
    """

    name = "user-knn"
    grid: ClassVar[Grid] = {"neighbours": (100, 30, 300, 1000), "idf": (True, False), "amplify": (1.0, 2.0, 3.0)}
    staleness = 0.1

    def fit(self, events: Events) -> None:
        chosen = sp.csr_matrix(
            (np.ones(len(events), np.float32), (events.user, events.item)), (self.shop.users, self.shop.items)
        )
        chosen.sum_duplicates()
        chosen.data[:] = 1
        self._chosen = chosen
        users = np.asarray((chosen > 0).sum(0)).ravel()
        seen = np.count_nonzero(np.diff(chosen.indptr))
        self._weight = np.log1p(seen / (1 + users)).astype(np.float32) if self.setting["idf"] else np.ones(len(users))
        weighted = chosen.multiply(self._weight).tocsr()
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
        self._unit = sp.diags(1 / np.maximum(norms, 1e-9)) @ weighted

    def scores(self, queries: Sequence[Query]) -> Scores:
        out = np.zeros((len(queries), self.shop.items), np.float32)
        for place, query in enumerate(queries):
            own = np.zeros(self.shop.items, np.float32)
            own[query.history.item] = self._weight[query.history.item]
            alike = self._unit @ own / max(np.linalg.norm(own), 1e-9)
            alike[query.user] = 0
            count = min(self.setting["neighbours"], np.count_nonzero(alike > 0))
            nearest = np.argpartition(alike, -count)[-count:] if count else np.empty(0, np.intp)
            out[place] = (alike[nearest] ** self.setting["amplify"]) @ self._chosen[nearest]
        return out


class ItemKnn(Method):
    """Items that were in one basket, or with one user, with the user's last ones (Deshpande and Karypis, TOIS 2004).

    `sum over the last `window` items j, newest first, of order_decay^place(j) c(i, j) / (n(j)^a n(i)^(1 - a))`, where c
    counts the baskets that hold both and n those that hold one: a = 1/2 is the cosine, a = 1 a conditional probability.
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
        shape = (row.max(initial=-1) + 1, self.shop.items)
        held = sp.csr_matrix((decayed(events, self.setting["half_life_days"]), (row, events.item)), shape)
        often = sp.csr_matrix((np.ones(len(events)), (row, events.item)), shape)
        held.sum_duplicates()
        often.sum_duplicates()
        weights = held.data / often.data  # a basket counts once, however often it holds the item
        once = often.copy()
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
        asked = sp.csr_matrix(
            (weights.astype(np.float32), np.concatenate(rows), np.concatenate([[0], np.cumsum(lengths)])),
            (len(queries), self.shop.items),
        )
        return np.asarray((asked @ self._similar).todense(), np.float32)
