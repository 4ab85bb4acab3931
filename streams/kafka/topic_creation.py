"""Create topics as well as the broker lets us.

Managed brokers refuse some settings of a topic. What they refuse is left out, and the log says what is lost with it.
Knows no message; `topics` says which topics there are.
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
"""As many replicas as the broker makes by default."""
_CLEANUP = "cleanup.policy"
_REFUSALS = (InvalidConfigurationError, InvalidRequestError, PolicyViolationError)
_LOST = {
    "max.compaction.lag.ms": "what a forgotten user left stays on Kafka's disk until it compacts in its own time",
    "retention.ms": "old messages go when the broker's default says so",
    "max.message.bytes": "what is larger than the broker's default is cut, and counted",
    "segment.bytes": "a Redis that lost everything is refilled from more of the topic",
    "message.timestamp.type": "when our messages were written is told by the workers' clocks",
    "min.insync.replicas": "how many brokers must have a write is the broker's default",
}


@dataclass(frozen=True)
class Wanted:
    """A topic to be; its settings are those of Kafka, and all but `cleanup.policy` can be done without."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class Refused:
    """A topic that the broker did not create, and its words."""

    name: str
    error: type[Exception]
    message: str | None

    def __str__(self) -> str:
        advice = f"allow it, or create it and set {PREFIX}KAFKA__CREATE_TOPICS=false"
        if self.error is InvalidReplicationFactorError:
            advice = f"set {PREFIX}KAFKA__REPLICATION_FACTOR to what it allows, or to -1 for its own"
        return f"topic {self.name}: got {self.error.__name__} ({self.message}), expected it to be created; {advice}"


async def create(admin: AIOKafkaAdminClient, wanted: Sequence[Wanted], replicas: int) -> list[Refused]:
    """Create topics, each with as many of its settings as the broker takes. Returns those that it takes in no form."""

    async def tried(topics: Sequence[Wanted], only_ask: bool = False) -> dict[str, Refused]:
        answer = await admin.create_topics([_new(topic, replicas) for topic in topics], validate_only=only_ask)
        errors = [Refused(name, for_code(code), text) for name, code, text in answer.topic_errors if code]
        return {one.name: one for one in errors if one.error is not TopicAlreadyExistsError}  # another was faster

    refused = await tried(wanted)
    left_out: dict[str, list[str]] = {}
    for topic in [topic for topic in wanted if topic.name in refused and refused[topic.name].error in _REFUSALS]:
        bare = {_CLEANUP: topic.config[_CLEANUP]}
        optional = {key: value for key, value in topic.config.items() if key != _CLEANUP}
        taken = {k: v for k, v in optional.items() if not await tried([replace(topic, config=bare | {k: v})], True)}
        for config in (bare | taken, bare):
            again = await tried([replace(topic, config=config)])
            if not again:
                del refused[topic.name]
                for setting in topic.config.keys() - config.keys():
                    left_out.setdefault(setting, []).append(topic.name)
                break
            refused |= again
    _tell(left_out)
    return list(refused.values())


def _tell(left_out: Mapping[str, Sequence[str]]) -> None:
    for setting, names in sorted(left_out.items()):
        logger.warning(
            "the broker refuses %s for %s, created without: %s", setting, ", ".join(sorted(names)), _LOST[setting]
        )


def _new(topic: Wanted, replicas: int) -> NewTopic:
    new = NewTopic(topic.name, topic.partitions, 1, topic_configs=dict(topic.config))
    new.replication_factor = replicas  # its constructor refuses -1, which Kafka takes
    return new
