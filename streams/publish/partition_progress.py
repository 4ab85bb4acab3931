"""How much of each partition of the lists' topic is in Redis, as far as this worker knows. Opens no connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.publish.list_cache import OutgoingList, WriteOutcome

MAX_REFUSED_KEYS = 10_000
"""Keys of lists that alone are refused and that are remembered one by one."""


class PartitionProgress:
    """Offsets by partition number.

    Attributes
    ----------
    owned : set of int
        The partitions that this worker owns.
    checkpoints : dict
        Of the owned partitions that are complete in Redis: the checkpoint offset as this worker left it there.
    complete_to : dict
        The offset before which Redis had every list when this worker last knew.
    ends : dict
        The offset after the newest list.
    failed : dict
        The offset of this worker's first list that Redis did not take.
    """

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.checkpoints: dict[int, int] = {}
        self.complete_to: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        self._refused_keys: dict[str, int] = {}  # with their partitions

    def own(self, partitions: Iterable[int]) -> None:
        """Set the owned partitions. What is known of lost partitions is dropped, and so are the ends of new ones."""
        before, self.owned = self.owned, set(partitions)
        self.ends = {p: end for p, end in self.ends.items() if p in before or p not in self.owned}
        self.checkpoints = {p: offset for p, offset in self.checkpoints.items() if p in self.owned}
        self.complete_to = {p: offset for p, offset in self.complete_to.items() if p in self.owned}
        self._refused_keys = {key: p for key, p in self._refused_keys.items() if p in self.owned}

    def note_keys(self, lists: Iterable[OutgoingList], outcomes: Iterable[WriteOutcome]) -> None:
        """Remember the keys that alone Redis refuses, until it takes a list under them."""
        for list_, outcome in zip(lists, outcomes, strict=True):
            if outcome is WriteOutcome.STORED:
                self._refused_keys.pop(list_.key, None)
            elif outcome is WriteOutcome.REFUSED and len(self._refused_keys) < MAX_REFUSED_KEYS:
                self._refused_keys[list_.key] = list_.partition

    def note_list(self, partition: int, offset: int, outcome: WriteOutcome) -> None:
        """Note a new list of the topic."""
        self.ends[partition] = max(offset + 1, self.ends.get(partition, 0))
        if outcome is WriteOutcome.RETRY:
            self.failed[partition] = min(offset, self.failed.get(partition, offset))

    def note_checkpoints(self, offsets: Mapping[int, int]) -> None:
        """Note that Redis is complete up to these offsets, and that its checkpoint offsets say so."""
        self.checkpoints |= offsets
        self.complete_to |= offsets

    def pending(self) -> int:
        """How many lists may be missing in Redis.

        In a partition that may be incomplete, all lists since it was known to be complete count.
        """
        incomplete = (self.owned - self.checkpoints.keys()) | self.failed.keys()
        since = self.failed | {p: self.complete_to.get(p, 0) for p in self.owned}
        lists = sum(max(0, self.ends.get(p, 0) - since[p]) for p in incomplete)
        return lists + len(self._refused_keys)
