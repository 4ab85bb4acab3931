"""A fault of aiokafka's questions about topics: a broker may create a topic because a client asks for it."""

from __future__ import annotations

from aiokafka import client
from aiokafka.protocol.metadata import MetadataRequest


class CreatesNoTopic(MetadataRequest):  # type: ignore[misc]
    """Fault: aiokafka lets the broker create each topic that a consumer or a producer asks for.

    A topic that is deleted while a worker reads it is created again within seconds, with the broker's number of
    partitions, and nobody learns that it is gone. Where that is wanted, `streams.kafka.topics` asks for it.
    """

    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


def install() -> None:
    """From now on no consumer and no producer of this process has a topic created."""
    client.MetadataRequest = CreatesNoTopic
