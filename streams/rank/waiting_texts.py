"""Which lists wait for texts of the model that words reasons: of each key the newest. Knows no Kafka and no model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ranker.reasons.grounds import Grounds, grounds_of, with_alike
from ranker.reasons.language import Language
from ranker.reasons.text_check import is_worded
from streams.contracts import RankRequest, Recommendations
from streams.rank import reason_metrics
from streams.rank.list_wishes import fitting
from streams.rank.ranking import Reading

MAX_WAITING = 1_000
"""Lists, some kilobytes each; chosen by us: what a fast model words in minutes. Then the oldest ones are dropped."""


@dataclass(frozen=True)
class WaitingList:
    """A list that waits for texts.

    Attributes
    ----------
    key : bytes
        Its key in the topic.
    list_id : str
    grounds : mapping of str to Grounds
        By item id: what a text may say, of the items that the model is to word.
    language : Language
        Of the texts.
    wishes : mapping of str to sequence of str
        By item id: the wishes of the user that the item fits, which each text ends with.
    since_s : float
        Monotonic time from which it waits.
    """

    key: bytes
    list_id: str
    grounds: Mapping[str, Grounds]
    language: Language
    wishes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    since_s: float = field(default_factory=time.monotonic)


def waiting_list(
    key: bytes, list_: Recommendations, request: RankRequest, reading: Reading, language: Language, items: int
) -> WaitingList | None:
    """Give what a list needs to wait; None if no reason of its first `items` can be worded by a model."""
    candidates = {candidate.item_id: candidate for candidate in request.candidates}
    history = reading.liked(request.history)
    first = [item.item_id for item in list_.items[:items] if item.item_id in candidates]
    of_first = [candidates[item_id] for item_id in first]
    grounds = {one.item_id: with_alike(grounds_of(one, history), one, history) for one in of_first}
    worded = {item_id: each for item_id, each in grounds.items() if is_worded(each, language)}
    wishes = {item_id: fitting(request, candidates[item_id]) for item_id in worded}
    return WaitingList(key, list_.list_id, worded, language, wishes) if worded else None


class WaitingTexts:
    """The lists that wait, the newest first: whoever got a list just now is the likeliest to look at it.

    Attributes
    ----------
    any : asyncio.Event
        Set while a list waits.
    """

    def __init__(self) -> None:
        self.any = asyncio.Event()
        self._waiting: dict[bytes, WaitingList] = {}
        reason_metrics.pending.set_function(lambda: len(self._waiting))

    def put(self, list_: WaitingList) -> None:
        """Let a list wait, in place of an older one of its key."""
        self.discard([list_.key])
        if len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
            reason_metrics.lists.labels("dropped").inc()
        self._waiting[list_.key] = list_
        self.any.set()

    def put_back(self, list_: WaitingList) -> None:
        """Let a list wait again, unless a newer one of its key does."""
        if list_.key not in self._waiting:
            self.put(list_)

    def discard(self, keys: Iterable[bytes]) -> None:
        """Forget lists that were replaced or erased."""
        for key in keys:
            if self._waiting.pop(key, None):
                reason_metrics.lists.labels("superseded").inc()
        if not self._waiting:
            self.any.clear()

    def take(self) -> WaitingList:
        """Take the newest list."""
        _, list_ = self._waiting.popitem()
        if not self._waiting:
            self.any.clear()
        return list_
