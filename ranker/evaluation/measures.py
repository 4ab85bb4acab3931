"""How good a list is: NDCG, hit rate, MRR, recall, AUC; and a prequential judge that asks a list before it learns.

Item ids in, numbers out: knows no transport, no model and no clock. Called by the demo and by the evaluation.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field

K = 10


def ndcg_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Normalised discounted cumulative gain of the first `k`, each relevant item worth 1.

    `DCG@k = sum over places p = 1..k of rel(p) / log2(p + 1)`, over the DCG of the best order there could be
    (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002, with the usual
    discount `log2(p + 1)`). An item that stands twice in the list counts at its first place.

    Parameters
    ----------
    ranked : item ids, best first; may be shorter than `k`.
    relevant : what the user wanted.
    k : at least 1.

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
    first_places = {item: place for place, item in reversed(list(enumerate(ranked[:k], 1)))}
    gain = sum(1 / math.log2(place + 1) for item, place in first_places.items() if item in relevant)
    best = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(set(relevant))) + 1))
    return gain / best if best else 0.0


def hit_rate_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Tell whether the first `k` hold anything relevant: 1 or 0, so that the mean over lists is the hit rate.

    `HR@k = lists with a relevant item among their first k / all lists` (Deshpande and Karypis, "Item-based top-N
    recommendation algorithms", ACM TOIS 22(1), 2004).

    >>> hit_rate_at(["lamp", "mug"], {"mug"}, k=2), hit_rate_at(["lamp", "mug"], {"mug"}, k=1)
    (1.0, 0.0)
    """
    return float(any(item in relevant for item in ranked[:k]))


def reciprocal_rank(ranked: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    """One over the place of the first relevant item, 0 without one; its mean over lists is the MRR.

    Voorhees, "The TREC-8 question answering track report" (1999).

    >>> reciprocal_rank(["lamp", "mug", "rug"], {"rug", "mug"})
    0.5
    """
    return next((1 / place for place, item in enumerate(ranked, 1) if item in relevant), 0.0)


def recall_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """The share of the relevant items that are among the first `k`; 0 if nothing is relevant.

    >>> recall_at(["lamp", "mug", "rug"], {"rug", "mug"}, k=2)
    0.5
    """
    found = {item for item in ranked[:k] if item in relevant}
    return len(found) / len(set(relevant)) if relevant else 0.0


def auc(ranked: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    """The share of pairs, one relevant and one not, that stand in the right order; NaN if there is no such pair.

    The area under the ROC curve (Hanley and McNeil, Radiology 143, 1982). `ranked`: every item that was shown, once.

    >>> auc(["lamp", "mug", "rug"], {"lamp"}), auc(["lamp", "mug", "rug"], {"mug"})
    (1.0, 0.5)
    """
    right, above = 0, 0
    for item in ranked:
        if item in relevant:
            above += 1
        else:
            right += above
    pairs = above * (len(ranked) - above)
    return right / pairs if pairs else math.nan


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
        """How many different items stand in all users' latest lists: a ranker that shows everybody the same has k."""
        return len({item for ranked in self._latest.values() for item in ranked})


class Prequential:
    """Judge lists by what their users did next, beside popularity and chance, each event first a question, then known.

    Prequential, or progressive, evaluation (Dawid, "Statistical theory: the prequential approach", JRSS A 147, 1984).
    Only events about another item than the user's last one are asked: guessing "the same again" is no skill.

    Parameters
    ----------
    available : item ids from which the random list is drawn.
    seed : of that draw.
    k : length of the judged lists.

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
        """Take the next event: judge the list that its user had before it (None: they had none), then learn it."""
        last = self._last.get(user)
        if ranked is not None and item != last:
            popular = [other for other, _ in self._events.most_common(self._k + 1) if other != last]
            chance = self._draw.sample(self._available, min(self._k, len(self._available)))
            self.afterclick.judge(user, ranked, item)
            self.popularity.judge(user, popular, item)
            self.random.judge(user, chance, item)
        self._events[item] += 1
        self._last[user] = item
