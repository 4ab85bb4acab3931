"""The durable copy of the users' states: the changelog topic, and the store that mirrors it. Knows no event."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from aiokafka.structs import RecordMetadata

from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.kafka.reliable_producer import ReliableProducer
from streams.state.staged_store import Changes


class Store(Protocol):
    """The key-value store that holds what the changelog has acknowledged."""

    def partitions(self) -> Collection[int]:
        """Give the partitions of users that this worker holds now."""

    def apply(self, changes: Sequence[tuple[bytes, bytes | None, RecordMetadata]]) -> None:
        """Write values by key; None deletes the key. The metadata says where the changelog has the value."""


class Changelog:
    """Writes states to the changelog first, then to the store.

    Parameters
    ----------
    producer : ReliableProducer
        Sends messages until Kafka has acknowledged them.
    store : Store
        Mirrors the changelog.
    topic : str
        Full name of the changelog topic.
    partitions : int
        Number of its partitions.
    """

    def __init__(self, producer: ReliableProducer, store: Store, topic: str, partitions: int) -> None:
        self._producer = producer
        self._store = store
        self._topic = topic
        self._partitions = partitions

    async def write(self, first: Sequence[Outgoing], changes: Changes, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Produce `first`, then the changed states and `messages`; once Kafka has acknowledged all, write the store.

        Returns
        -------
        list of Outgoing
            The states as they were produced.

        Raises
        ------
        MembershipLost
            Another worker holds the users now. The store is unchanged.
        """
        states = [
            Outgoing(self._topic, key, value, partition_of(user_id.encode(), self._partitions))
            for user_id, values in changes.items()
            for key, value in values.items()
        ]
        if first:
            await self._producer.deliver(first)
        produced = await self._producer.deliver([*states, *messages])
        self._store.apply(
            [(state.key or b"", state.value, metadata) for state, metadata in zip(states, produced, strict=False)]
        )
        return states
