"""Which lists wait to be ranked again by the model, because their newest version went out without it.

An entry is a user and a placement. It goes when the user gets a list of the model, or is forgotten, and when its
partition is revoked. Knows neither Kafka nor models.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import NamedTuple

from streams.rank import rank_again_metrics

LATER_REASONS = frozenset({"overload", "model-timeout", "model-busy", "model-error", "other-features"})
"""Reasons for which a list is degraded although the model may well rank it later. With the others a second attempt
gives the same."""
ANSWER_S = 10.0
"""How long an answer to a request may take; chosen by us: many times what it takes."""
MAX_LISTS = 200_000
"""Entries in memory, some 60 MB. The others are looked up in the topic of lists when there is room."""
MAX_KEPT_BYTES = 64 << 20
"""Of kept requests."""
MAX_FAILURES = 5
"""After so many failures of its own an entry is dropped: a request that breaks the model must not do so for ever."""

Slot = tuple[str, str | None]
"""User id and placement."""


@dataclass
class DegradedList:
    """A list that waits to be ranked again.

    Attributes
    ----------
    partition : int
        Where its requests come from.
    kept : bytes, optional
        The JSON of its request, if an upstream recommender made it: nobody can make it anew.
    asked_s : float
        Monotonic time at which the entry was last taken.
    failures : int
        How often that led to no list, although the model ranked others.
    """

    partition: int
    kept: bytes | None = None
    asked_s: float = 0.0
    failures: int = 0


class FoundList(NamedTuple):
    """Where a degraded list is in the topic of lists."""

    partition: int
    offset: int


class DegradedLists:
    """The lists that wait, the oldest first.

    Attributes
    ----------
    any : asyncio.Event
        Set while a list waits, or a partition is unread.
    """

    def __init__(self) -> None:
        self.any = asyncio.Event()
        self._waiting: dict[Slot, DegradedList] = {}
        self._taken: dict[Slot, DegradedList] = {}  # until their lists are out
        self._kept_bytes = 0
        self._owned: set[int] = set()
        self._unread: set[int] = set()
        self._worked_s = 0.0  # when the model last ranked a list
        rank_again_metrics.waiting.set_function(self.__len__)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._taken)

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._waiting or slot in self._taken

    def own(self, partitions: Iterable[int]) -> None:
        """Set the owned partitions. New ones are unread, the entries of lost ones are dropped."""
        before, self._owned = self._owned, set(partitions)
        self._unread = (self._unread & self._owned) | (self._owned - before)
        for slot, entry in [*self._waiting.items(), *self._taken.items()]:
            if entry.partition not in self._owned:
                self._remove(slot)
        self._look()

    def revoke(self, partitions: Collection[int]) -> None:
        """Drop the entries of partitions that were revoked."""
        self.own(self._owned - set(partitions))

    def unread(self) -> set[int]:
        """The partitions whose degraded lists are to be read from the topic; none while there is no room for them."""
        return set(self._unread) if len(self) <= MAX_LISTS // 2 else set()

    def read(self, partitions: Collection[int], found: Mapping[Slot, FoundList]) -> None:
        """Add what was found in the topic, in the order of time."""
        self._unread -= set(partitions)
        for slot, (partition, _) in sorted(found.items(), key=lambda one: one[1].offset):
            if slot not in self:
                self.add(slot, DegradedList(partition))
        self._look()

    def add(self, slot: Slot, new: DegradedList) -> bool:
        """Note that the newest list of a slot is degraded. Returns False if there is no room for its kept request."""
        self._remove(slot)
        if new.partition not in self._owned:
            return True
        if len(self) >= MAX_LISTS:
            self._unread.add(new.partition)
        elif self._kept_bytes + len(new.kept or b"") > MAX_KEPT_BYTES:
            return False
        else:
            self._waiting[slot] = new
            self._kept_bytes += len(new.kept or b"")
        self._look()
        return True

    def discard(self, slot: Slot) -> None:
        """Note that the newest list of a slot is the model's, or erased."""
        self._worked_s = time.monotonic()
        self._remove(slot)
        self._look()

    def take(self, limit: int) -> list[tuple[Slot, bytes | None]]:
        """Choose the next entries to be ranked, so that at most `limit` are on their way.

        None are chosen before half of them are back: for many at a time the state tier makes the requests faster.

        Returns
        -------
        list of (Slot, bytes or None)
            The slots, and their kept requests.
        """
        now_s = time.monotonic()
        late = takewhile(lambda slot: self._taken[slot].asked_s < now_s - ANSWER_S, self._taken)
        for slot in list(late):
            self.put_back(slot, failed=True)
        room = limit - len(self._taken)
        chosen = list(islice(self._waiting, room)) if room >= limit / 2 else []
        for slot in chosen:
            self._taken[slot] = self._waiting.pop(slot)
            self._taken[slot].asked_s = now_s
        return [(slot, self._taken[slot].kept) for slot in chosen]

    def put_back(self, slot: Slot, *, failed: bool) -> None:
        """Note that a taken entry led to no list. It comes after all others then, unless it has failed too often.

        An outage of the model or of the state tier, which hits all entries, is no failure of this one.
        """
        if entry := self._taken.pop(slot, None):
            entry.failures += failed and entry.asked_s < self._worked_s
            self._waiting[slot] = entry
            if entry.failures >= MAX_FAILURES:
                self._remove(slot)
        self._look()

    def _remove(self, slot: Slot) -> None:
        if entry := self._waiting.pop(slot, None) or self._taken.pop(slot, None):
            self._kept_bytes -= len(entry.kept or b"")

    def _look(self) -> None:
        if self or self._unread:
            self.any.set()
        else:
            self.any.clear()
