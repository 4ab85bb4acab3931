"""Read the newest records of a topic, a bounded number within a bounded time. Joins no group and commits nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


async def newest_records(
    consumer: AIOKafkaConsumer, topic: str, partitions: int, limit: int, deadline: float
) -> AsyncIterator[tuple[Sequence[Any], bool]]:
    """Yield the newest records in batches, each with whether nothing of its partition is left out.

    Parameters
    ----------
    consumer : AIOKafkaConsumer
        Started, without a group.
    topic : str
        The full name.
    partitions : int
        The number of its partitions.
    limit : int
        The number of offsets to read of all partitions, at least one of each. Partitions with few records leave their
        share to the others. Compaction and transactions may leave fewer records than offsets.
    deadline : float
        When to stop, in seconds of the monotonic clock.
    """
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(parts)
    begins, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    taken = shares({part: ends[part] - begins[part] for part in parts}, limit)
    for part in parts:
        consumer.seek(part, ends[part] - taken[part])
    while time.monotonic() < deadline:
        unread = [part for part in parts if await consumer.position(part) < ends[part]]
        if not unread:
            return
        for part, records in (await consumer.getmany(*unread, timeout_ms=500)).items():
            yield [record for record in records if record.offset < ends[part]], ends[part] - taken[part] <= begins[part]
    yield [], False  # there was no time for the rest


def shares(sizes: Mapping[Any, int], limit: int) -> dict[Any, int]:
    """Divide a limit among partitions of these sizes: evenly, and what a small one leaves goes to the others.

    >>> shares({"a": 2, "b": 100, "c": 9}, 30)
    {'a': 2, 'c': 9, 'b': 19}
    """
    taken: dict[Any, int] = {}
    for index, (part, size) in enumerate(sorted(sizes.items(), key=lambda pair: pair[1])):
        share = max(1, (limit - sum(taken.values())) // (len(sizes) - index))
        taken[part] = min(size, share)
    return taken
