"""Which lists are out, so that what a user chose of one finds its way to who made it.

An answer counts once, whatever Kafka delivers again, and only while its list is remembered.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ranker.score import MAX_LISTS, ListFeedback, Scorer
from streams import metrics
from streams.contracts import Feedback, RankRequest


class PublishedList(NamedTuple):
    """A list.

    Attributes
    ----------
    scorer, user_id : who made it, None if that is not served any more; and for whom.
    items, positions : what is in it and where that was among the candidates, the first place first.
    answered : what the user chose so far.
    """

    scorer: Scorer | None
    user_id: str
    items: list[str]
    positions: list[int]
    answered: set[str]


class RecentLists:
    """The newest lists. Batches are ranked by several threads, so it has a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out: OrderedDict[str, PublishedList] = OrderedDict()

    def remember(self, list_id: str, out: PublishedList) -> None:
        """A list that a model ranked is made."""
        with self._lock:
            self._out[list_id] = out
            if len(self._out) > MAX_LISTS:
                self._out.popitem(last=False)

    def feedback(self, requests: Sequence[RankRequest]) -> dict[Scorer, list[ListFeedback]]:
        """Count what users chose; the answers by who made their lists."""
        found: defaultdict[Scorer, list[ListFeedback]] = defaultdict(list)
        for request in requests:
            for given in request.feedback:
                out = self._answer(given, request.user_id)
                if out is not None:
                    place = out.items.index(given.item_id)
                    name = out.scorer.name if out.scorer else metrics.REPLACED
                    metrics.feedback.labels(name).inc()
                    metrics.feedback_rank.labels(name).observe(place + 1)
                    if out.scorer:
                        found[out.scorer].append(ListFeedback(given.list_id, out.positions, place))
        return found

    def retire(self, scorer: Scorer) -> None:
        """A scorer is not served any more: its lists stay, under no name."""
        with self._lock:
            for list_id, out in self._out.items():
                if out.scorer is scorer:
                    self._out[list_id] = out._replace(scorer=None)

    def forget(self, users: Collection[str] | None) -> None:
        """Remember no list of these users; of nobody, for None."""
        with self._lock:
            for list_id in [list_id for list_id, out in self._out.items() if users is None or out.user_id in users]:
                del self._out[list_id]

    def _answer(self, given: Feedback, user_id: str) -> PublishedList | None:
        """The list, the first time that this item of it is answered by whom it was for."""
        with self._lock:
            out = self._out.get(given.list_id)
            if out is None or out.user_id != user_id or given.item_id not in out.items:
                return None
            is_new = given.item_id not in out.answered
            out.answered.add(given.item_id)
            return out if is_new else None
