"""The team's own topics: which there are, what the workers read, and what is wrong with them.

We only read them: none is created, altered or written to, except by `afterclick dead-letters retry`. They may have any
number of partitions, any retention and any settings.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from streams.kafka import client as kafka_client
from streams.kafka.topics import SOURCES, TopicError, partitions_by_topic
from streams.settings import Settings
from streams.settings.topics import MAPPED_INPUTS


def inputs_by_topic(settings: Settings) -> dict[str, list[str]]:
    """Return each topic of the team's, by its name in Kafka -> the inputs that it feeds."""
    found: dict[str, list[str]] = {}
    for name in MAPPED_INPUTS:
        for source in settings.topics.of(name):
            if name not in (inputs := found.setdefault(source.name, [])):
                inputs.append(name)
    return found


def sources(settings: Settings, tier: Literal["state", "rank"]) -> list[str]:
    """Return the full names of all topics that the consumer group of a tier reads."""
    ours = [settings.topic(name) for name in SOURCES[tier]]
    return ours + list(inputs_by_topic(settings)) if tier == "state" else ours


def missing(settings: Settings, present: Collection[str]) -> dict[str, str]:
    """Return topic -> what is wrong, for the team's topics that are not among the present ones."""
    return {
        topic: f"topic {topic}: got none (or none with leaders), expected the topic of yours that "
        f"{', '.join(f'[topics.{name}]' for name in inputs)} names; create it, or correct its name: a worker never "
        "creates it"
        for topic, inputs in inputs_by_topic(settings).items()
        if topic not in present
    }


async def check(settings: Settings) -> None:
    """Check that every topic of the team's is there.

    Raises
    ------
    TopicError
        One line for each topic that is missing.
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    """
    if inputs_by_topic(settings):
        async with kafka_client.admin(settings.kafka) as admin:
            # All topics are asked for, because a question about one of them could create it.
            if wrong := missing(settings, await partitions_by_topic(admin)):
                raise TopicError("\n".join(wrong.values()))
