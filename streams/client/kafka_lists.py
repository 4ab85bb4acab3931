"""Iterate over the topic `recommendations`: every list, as the workers write it. Knows nothing of Redis and HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.client.backoff import Backoff
from streams.client.errors import ServiceUnavailable
from streams.client.messages import Forgotten, decode_list
from streams.contracts import Recommendations
from streams.list_keys import parse_list_key

METADATA_AGE_MS = 5_000
"""A new partition is read within this time, and a topic that Kafka makes for this reader is seen; chosen by us: half of
the default time limit. The first worker may add partitions to such a topic."""
ANSWER_S = 2.0
"""How long Kafka may take to name its topics after the time limit; chosen by us: one that runs needs milliseconds."""
COMMIT_S = 1.0
"""Between two commits; chosen by us: so many seconds of lists are read again after a crash."""


@dataclass(frozen=True)
class ListTopic:
    """Where the lists are.

    Attributes
    ----------
    servers : str
        `host:port`; several are separated by commas.
    options : mapping
        Further arguments of aiokafka's clients: security.
    name : str
        The topic's full name.
    placements : sequence of str
        All that are declared.
    timeout_s : float
        For the connection.
    """

    servers: str
    options: Mapping[str, Any]
    name: str
    placements: Sequence[str]
    timeout_s: float

    async def read(self, group: str | None, from_beginning: bool) -> AsyncGenerator[Recommendations | Forgotten, None]:
        """Yield what the workers write, without an end.

        Parameters
        ----------
        group : str or None
            The consumer group whose progress Kafka keeps. A list counts as read when the next one is asked for.
        from_beginning : bool
            Whether to begin with the lists that are there, where the group has no progress yet.

        Raises
        ------
        ServiceUnavailable
            No connection within the time limit. Later interruptions of Kafka only take time.
        ServiceRefused
            A list is of a newer schema.
        """
        consumer = await self._connected(group, from_beginning)
        read: dict[TopicPartition, int] = {}
        committed_s = time.monotonic()
        try:
            async for record in consumer:
                partition = TopicPartition(record.topic, record.partition)
                if record.value is None:
                    yield Forgotten(*parse_list_key((record.key or b"").decode(), self.placements))
                else:
                    yield decode_list(record.value, f"{self.name}/{record.partition}, offset {record.offset}")
                read[partition] = record.offset + 1
                if group and time.monotonic() - committed_s >= COMMIT_S:
                    await _commit(consumer, read)
                    committed_s = time.monotonic()
        finally:
            if group:
                await _commit(consumer, read)
            await consumer.stop()

    async def _connected(self, group: str | None, from_beginning: bool) -> AIOKafkaConsumer:
        backoff = Backoff(self.timeout_s)
        while True:
            consumer = AIOKafkaConsumer(
                self.name,
                bootstrap_servers=self.servers.split(","),
                group_id=group,
                enable_auto_commit=False,
                metadata_max_age_ms=METADATA_AGE_MS,
                auto_offset_reset="earliest" if from_beginning else "latest",
                **self.options,
            )
            is_connected = False
            try:
                await asyncio.wait_for(consumer.start(), backoff.left_s)
                is_connected = True
                return consumer
            except (KafkaError, asyncio.TimeoutError) as error:
                if not await backoff.wait():
                    raise ServiceUnavailable(await self._what_is_away(consumer, error)) from error
            finally:
                if not is_connected:
                    await consumer.stop()

    async def _what_is_away(self, consumer: AIOKafkaConsumer, error: Exception) -> str:
        """Name the topic where Kafka answers and has none of this name, else Kafka."""
        with suppress(KafkaError, asyncio.TimeoutError):
            if self.name not in await asyncio.wait_for(consumer.topics(), ANSWER_S):
                return (
                    f"topic {self.name}: got none in Kafka at {self.servers} within {self.timeout_s:g} s, expected the "
                    "workers' lists there; start a worker, or check `topic_prefix`"
                )
        return (
            f"Kafka at {self.servers}: got {error!r}, expected a connection within {self.timeout_s:g} s; check that it "
            "runs, then `kafka` and `kafka_options`"
        )


async def _commit(consumer: AIOKafkaConsumer, read: Mapping[TopicPartition, int]) -> None:
    """Commit what was read of the partitions that are still ours. A commit that fails is made up for by the next."""
    assigned = consumer.assignment()
    ours = {partition: offset for partition, offset in read.items() if partition in assigned}
    if ours:
        with suppress(KafkaError):
            await consumer.commit(ours)
