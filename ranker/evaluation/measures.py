"""How good a list is: NDCG, hit rate, MRR, recall and AUC; and a prequential judge of a stream of events.

Item ids in, numbers out. Knows no transport, no model and no clock.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

K = 10
COLD_EVENTS = 5
"""An item with fewer events is cold."""

Floats = npt.NDArray[np.float64]


@lru_cache
def discounts(k: int) -> Floats:
    """The discount `1 / log2(rank + 1)` of the ranks 1 to `k`: (k,) float64, read-only."""
    weights: Floats = 1 / np.log2(np.arange(2, k + 2))
    weights.flags.writeable = False
    return weights


def ndcg(labels: npt.NDArray[np.bool_], relevant_counts: npt.NDArray[np.integer[Any]], k: int) -> Floats:
    """Normalised discounted cumulative gain of the first `k` items of each list, each relevant item worth 1.

    `DCG@k = sum over ranks r = 1..k of rel(r) / log2(r + 1)`, over the DCG of the best possible order (Järvelin and
    Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002, with the usual discount
    `log2(r + 1)`).

    Parameters
    ----------
    labels : (n, items) bool
        Whether the item at each rank is relevant, best rank first. `items` may be smaller than `k`.
    relevant_counts : (n,) int
        How many items are relevant, in the list or not.
    k : int
        At least 1.

    Returns
    -------
    (n,) float64
        0 to 1; 0 where nothing is relevant.

    Examples
    --------
    >>> ndcg(np.array([[True, False], [False, True]]), np.array([1, 1]), k=10).round(3).tolist()
    [1.0, 0.631]
    """
    weights = discounts(k)
    gains = labels[:, :k] @ weights[: labels.shape[1]]
    ideal = np.cumsum(weights)[np.clip(relevant_counts, 1, k) - 1]
    values: Floats = np.where(relevant_counts > 0, gains / ideal, 0.0)
    return values


def ndcg_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """`ndcg` of one list of item ids. An item that stands twice in the list counts at its first rank.

    Parameters
    ----------
    ranked : sequence of hashable
        Item ids, best first; may be shorter than `k`.
    relevant : collection of hashable
        What the user wanted.
    k : int
        At least 1.

    Returns
    -------
    float
        0 to 1; 0 if nothing is relevant.

    Examples
    --------
    >>> ndcg_at(["lamp", "mug", "rug"], {"lamp"}, k=10)
    1.0
    >>> round(ndcg_at(["lamp", "mug", "rug"], {"rug"}, k=10), 3), ndcg_at(["lamp", "mug", "rug"], {"rug"}, k=2)
    (0.5, 0.0)
    """
    return float(ndcg_of_lists([ranked], [relevant], k)[0])


def ndcg_of_lists(
    lists: Sequence[Sequence[Hashable]], relevant: Sequence[Collection[Hashable]], k: int
) -> npt.NDArray[np.float64]:
    """`ndcg_at` of many lists at once: (n,) float64."""
    labels = np.zeros((len(lists), k), np.bool_)
    for row, ranked, items in zip(labels, lists, relevant, strict=True):
        top = ranked[:k]
        row[: len(top)] = [item in items and item not in top[:index] for index, item in enumerate(top)]
    return ndcg(labels, np.array([len(set(items)) for items in relevant], np.intp), k)


def hit_rate_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Tell whether the first `k` hold anything relevant: 1 or 0, so that the mean over lists is the hit rate.

    `HR@k = lists with a relevant item among their first k / all lists` (Deshpande and Karypis, "Item-based top-N
    recommendation algorithms", ACM TOIS 22(1), 2004).

    >>> hit_rate_at(["lamp", "mug"], {"mug"}, k=2), hit_rate_at(["lamp", "mug"], {"mug"}, k=1)
    (1.0, 0.0)
    """
    return float(any(item in relevant for item in ranked[:k]))


def reciprocal_rank(ranked: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    """One over the rank of the first relevant item, 0 without one; its mean over lists is the MRR.

    Voorhees, "The TREC-8 question answering track report" (1999).

    >>> reciprocal_rank(["lamp", "mug", "rug"], {"rug", "mug"})
    0.5
    """
    return next((1 / rank for rank, item in enumerate(ranked, 1) if item in relevant), 0.0)


def recall_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """The share of the relevant items that are among the first `k`; 0 if nothing is relevant.

    >>> recall_at(["lamp", "mug", "rug"], {"rug", "mug"}, k=2)
    0.5
    """
    hits = {item for item in ranked[:k] if item in relevant}
    return len(hits) / len(set(relevant)) if relevant else 0.0


def auc(ranked: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    """The share of the pairs of a relevant and an irrelevant item in which the relevant one stands first.

    The area under the ROC curve (Hanley and McNeil, Radiology 143, 1982). NaN if there is no such pair. `ranked` holds
    every item that was shown, once.

    >>> auc(["lamp", "mug", "rug"], {"lamp"}), auc(["lamp", "mug", "rug"], {"mug"})
    (1.0, 0.5)
    """
    ordered_pairs, relevant_above = 0, 0
    for item in ranked:
        if item in relevant:
            relevant_above += 1
        else:
            ordered_pairs += relevant_above
    pairs = relevant_above * (len(ranked) - relevant_above)
    return ordered_pairs / pairs if pairs else math.nan


@dataclass
class Tally:
    """Running sums of one ranker's judged lists, and each user's latest one."""

    k: int = K
    judged: int = 0
    _ndcg: float = 0.0
    _hits: float = 0.0
    _latest: dict[str, list[str]] = field(default_factory=dict)

    def judge(self, user: str, ranked: Sequence[str], item: str) -> None:
        """Count one list of a user against the one item that followed it."""
        self.judged += 1
        self._ndcg += ndcg_at(ranked, {item}, self.k)
        self._hits += hit_rate_at(ranked, {item}, self.k)
        self._latest[user] = list(ranked[: self.k])

    @property
    def ndcg(self) -> float | None:
        """Mean NDCG@k; None before anything was judged."""
        return self._ndcg / self.judged if self.judged else None

    @property
    def hit_rate(self) -> float | None:
        """Mean hit rate@k; None before anything was judged."""
        return self._hits / self.judged if self.judged else None

    @property
    def distinct(self) -> int:
        """How many different items all users' latest lists hold. A ranker that shows everybody the same list has k."""
        return len({item for ranked in self._latest.values() for item in ranked})


class Prequential:
    """Judge lists by what their users did next, beside lists by popularity and by chance: test, then learn.

    Prequential, or progressive, evaluation (Dawid, "Statistical theory: the prequential approach", JRSS A 147, 1984).
    Only an event about another item than the user's last one is judged: guessing "the same again" is no skill.

    Parameters
    ----------
    available : sequence of str
        Item ids from which the random list is drawn.
    seed : int
        Of that draw.
    k : int
        Length of the judged lists.

    Examples
    --------
    >>> judge = Prequential(["lamp", "mug", "rug"], seed=1, k=2)
    >>> judge.event("ada", "lamp", None)
    >>> judge.event("ada", "mug", ["rug", "mug"])
    >>> judge.afterclick.hit_rate, judge.popularity.hit_rate
    (1.0, 0.0)
    """

    def __init__(self, available: Sequence[str], seed: int, k: int = K) -> None:
        self.afterclick, self.popularity, self.random = Tally(k), Tally(k), Tally(k)
        self._k = k
        self._available = available
        self._draw = random.Random(seed)
        self._events: Counter[str] = Counter()
        self._last: dict[str, str] = {}

    def event(self, user: str, item: str, ranked: Sequence[str] | None) -> None:
        """Judge the list that the user had before this event (None: the user had none), then learn the event."""
        last = self._last.get(user)
        if ranked is not None and item != last:
            popular = [other for other, _ in self._events.most_common(self._k + 1) if other != last]
            chance = self._draw.sample(self._available, min(self._k, len(self._available)))
            self.afterclick.judge(user, ranked, item)
            self.popularity.judge(user, popular, item)
            self.random.judge(user, chance, item)
        self._events[item] += 1
        self._last[user] = item
