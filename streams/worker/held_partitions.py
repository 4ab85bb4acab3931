"""Which partitions a tier holds: one log line at each rebalance says which were taken and which were given away."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable

logger = logging.getLogger(__name__)

TopicPartition = tuple[str, int]


class HeldPartitions:
    """The partitions of the topics that a tier reads.

    Parameters
    ----------
    tier : str
        Its name, for the log.
    topics : collection of str
        Partitions of other topics, such as a table's changelog, are not logged.
    """

    def __init__(self, tier: str, topics: Collection[str]) -> None:
        self._tier = tier
        self._topics = frozenset(topics)
        self._held: frozenset[TopicPartition] = frozenset()

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Note all partitions that the tier has from now on, and log what is different."""
        before = self._held
        self._held = frozenset((topic, number) for topic, number in partitions if topic in self._topics)
        parts = [
            f"{verb} {self._compact(some)}"
            for verb, some in (("gave", before - self._held), ("took", self._held - before))
            if some
        ]
        if before or not parts:
            parts.append(f"has {self._compact(self._held) or 'none'}{'' if parts else ' as before'}")
        logger.info("%s: partitions: %s", self._tier, ", ".join(parts))

    def _compact(self, partitions: Iterable[TopicPartition]) -> str:
        """Write partitions as `0-3,7`; with the topics' names where these differ in them."""
        by_topic: dict[str, set[int]] = defaultdict(set)
        for topic, number in partitions:
            by_topic[topic].add(number)
        topics: dict[str, list[str]] = defaultdict(list)
        for topic in sorted(by_topic):
            topics[ranges(by_topic[topic])].append(topic)
        if len(topics) == 1 and by_topic.keys() == self._topics:
            return next(iter(topics))
        return " and ".join(f"{numbers} of {' '.join(names)}" for numbers, names in topics.items())


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers in short.

    >>> ranges({7, 0, 1, 2, 3})
    '0-3,7'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
