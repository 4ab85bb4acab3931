"""Create topics with as many of their settings as the broker takes.

Managed brokers refuse some settings of a topic. A refused setting is left out, and the log says what is lost with it.
Knows no message, and not which topics there are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidReplicationFactorError,
    InvalidRequestError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    for_code,
)

from streams.settings import PREFIX

logger = logging.getLogger(__name__)

BROKERS_OWN = -1
"""The replication factor by which the broker uses its own default."""
_CLEANUP = "cleanup.policy"
REFUSALS = (InvalidConfigurationError, InvalidRequestError, PolicyViolationError)
"""Errors by which a broker refuses a setting."""
_LOST = {
    "max.compaction.lag.ms": "a forgotten user's old values stay on Kafka's disk until the topic is compacted",
    "retention.ms": "old messages are deleted by the broker's default",
    "max.message.bytes": "messages larger than the broker's default are cut, and counted",
    "segment.bytes": "the refill of an emptied Redis reads more of the topic",
    "message.timestamp.type": "the workers' clocks date our messages",
    "min.insync.replicas": "the broker's default says how many brokers must have a write",
}


@dataclass(frozen=True)
class NewTopicSpec:
    """A topic to create. All of its settings but `cleanup.policy` are optional."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class RefusedTopic:
    """A topic that the broker did not create, and the broker's reason."""

    name: str
    error: type[Exception]
    message: str | None

    def __str__(self) -> str:
        advice = f"allow it, or create it and set {PREFIX}KAFKA__CREATE_TOPICS=false"
        if self.error is InvalidReplicationFactorError:
            advice = f"set {PREFIX}KAFKA__REPLICATION_FACTOR to what it allows, or to -1 for its own"
        return f"topic {self.name}: got {self.error.__name__} ({self.message}), expected it to be created; {advice}"


async def create(admin: AIOKafkaAdminClient, wanted: Sequence[NewTopicSpec], replicas: int) -> list[RefusedTopic]:
    """Create topics, each with as many settings as the broker takes; return those that it refuses in any form."""

    async def refusals(topics: Sequence[NewTopicSpec], only_ask: bool = False) -> dict[str, RefusedTopic]:
        answer = await admin.create_topics([_new(topic, replicas) for topic in topics], validate_only=only_ask)
        errors = [RefusedTopic(name, for_code(code), text) for name, code, text in answer.topic_errors if code]
        return {
            topic.name: topic for topic in errors if topic.error is not TopicAlreadyExistsError
        }  # another worker was faster

    refused = await refusals(wanted)
    left_out: dict[str, list[str]] = {}
    for topic in [topic for topic in wanted if topic.name in refused and refused[topic.name].error in REFUSALS]:
        bare = {_CLEANUP: topic.config[_CLEANUP]}
        optional = {key: value for key, value in topic.config.items() if key != _CLEANUP}
        taken = {k: v for k, v in optional.items() if not await refusals([replace(topic, config=bare | {k: v})], True)}
        for config in (bare | taken, bare):
            again = await refusals([replace(topic, config=config)])
            if not again:
                del refused[topic.name]
                for setting in topic.config.keys() - config.keys():
                    left_out.setdefault(setting, []).append(topic.name)
                break
            refused |= again
    _log_left_out(left_out)
    return list(refused.values())


def _log_left_out(left_out: Mapping[str, Sequence[str]]) -> None:
    for setting, names in sorted(left_out.items()):
        logger.warning(
            "the broker refuses %s for %s, created without: %s", setting, ", ".join(sorted(names)), _LOST[setting]
        )


def _new(topic: NewTopicSpec, replicas: int) -> NewTopic:
    new = NewTopic(topic.name, topic.partitions, 1, topic_configs=dict(topic.config))
    new.replication_factor = replicas  # its constructor refuses -1, which Kafka takes
    return new
