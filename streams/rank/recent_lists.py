"""The lists published lately, so that a user's feedback on a list reaches the scorer that ranked it.

An item that a user chose counts once, even if Kafka delivers the feedback again, and only while its list is remembered.
Knows no Kafka.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cachetools import FIFOCache

from ranker.score import MAX_LISTS, ListFeedback, Scorer
from streams import metrics
from streams.contracts import Feedback, RankRequest
from streams.metric_labels import REPLACED_MODEL


@dataclass
class PublishedList:
    """A list that a model ranked.

    Attributes
    ----------
    scorer : Scorer, optional
        The scorer that ranked it; None if that does not serve any more.
    user_id : str
        The user whom the list is for.
    items : list of str
        Item ids, rank 1 first.
    positions : list of int
        The position of each item among the candidates that were scored.
    chosen : set of str
        Ids of the items that the user chose until now.
    """

    scorer: Scorer | None
    user_id: str
    items: list[str]
    positions: list[int]
    chosen: set[str] = field(default_factory=set)


class RecentLists:
    """The newest `MAX_LISTS` lists, by list id. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: FIFOCache[str, PublishedList] = FIFOCache(MAX_LISTS)

    def remember(self, list_id: str, published: PublishedList) -> None:
        """Add a list; the oldest one goes when there are too many."""
        with self._lock:
            self._lists[list_id] = published

    def feedback(self, requests: Sequence[RankRequest]) -> dict[Scorer, list[ListFeedback]]:
        """Count the users' feedback.

        Parameters
        ----------
        requests : sequence of RankRequest
            Their field `feedback` names the lists and the items.

        Returns
        -------
        dict
            Scorer -> the new feedback on lists that it ranked, in the order of the requests.
        """
        by_scorer: defaultdict[Scorer, list[ListFeedback]] = defaultdict(list)
        for request in requests:
            for feedback in request.feedback:
                published = self._first_choice(feedback, request.user_id)
                if published is None:
                    continue
                index = published.items.index(feedback.item_id)
                model = published.scorer.name if published.scorer else REPLACED_MODEL
                metrics.feedback.labels(model).inc()
                metrics.feedback_rank.labels(model).observe(index + 1)
                if published.scorer:
                    by_scorer[published.scorer].append(ListFeedback(feedback.list_id, published.positions, index))
        return by_scorer

    def retire(self, scorer: Scorer) -> None:
        """Keep the lists of a scorer that does not serve any more, without the scorer."""
        with self._lock:
            for published in self._lists.values():
                if published.scorer is scorer:
                    published.scorer = None

    def forget(self, user_ids: Collection[str] | None) -> None:
        """Drop the lists of these users; of all users, for None."""
        with self._lock:
            for list_id, published in list(self._lists.items()):
                if user_ids is None or published.user_id in user_ids:
                    del self._lists[list_id]

    def _first_choice(self, feedback: Feedback, user_id: str) -> PublishedList | None:
        """The list, if it was this user's and the user has not chosen the item before."""
        with self._lock:
            published = self._lists.get(feedback.list_id)
            if published is None or published.user_id != user_id or feedback.item_id not in published.items:
                return None
            is_new = feedback.item_id not in published.chosen
            published.chosen.add(feedback.item_id)
            return published if is_new else None
