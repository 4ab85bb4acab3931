"""Create topics as well as the broker lets us.

Managed brokers refuse some settings of a topic. What they refuse is left out, and the log says what is lost with it.
Knows no message; `topics` says which topics there are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    "message.timestamp.type": "the age of a list is told by the workers' clocks",
    "min.insync.replicas": "how many brokers must have a write is the broker's default",
}


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


async def create(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, Mapping[str, str]], partitions: int, replicas: int
) -> list[Refused]:
    """Create topics, each with as many of its settings as the broker takes. Returns those that it takes in no form.

    Parameters
    ----------
    wanted : name of a topic -> its settings; all but `cleanup.policy` can be done without.
    """

    async def tried(configs: Mapping[str, Mapping[str, str]], only_ask: bool = False) -> dict[str, Refused]:
        new = [_new(name, partitions, replicas, config) for name, config in configs.items()]
        answer = await admin.create_topics(new, validate_only=only_ask)
        errors = [Refused(name, for_code(code), text) for name, code, text in answer.topic_errors if code]
        return {one.name: one for one in errors if one.error is not TopicAlreadyExistsError}  # another was faster

    refused = await tried(wanted)
    left_out: dict[str, list[str]] = {}
    for name in [name for name, one in refused.items() if one.error in _REFUSALS]:
        bare = {_CLEANUP: wanted[name][_CLEANUP]}
        optional = {key: value for key, value in wanted[name].items() if key != _CLEANUP}
        taken = {k: v for k, v in optional.items() if not await tried({name: bare | {k: v}}, only_ask=True)}
        for config in (bare | taken, bare):
            if name in refused and not (again := await tried({name: config})):
                del refused[name]
                for setting in optional.keys() - config.keys():
                    left_out.setdefault(setting, []).append(name)
            elif name in refused:
                refused |= again
    _tell(left_out)
    return list(refused.values())


def _tell(left_out: Mapping[str, Sequence[str]]) -> None:
    for setting, names in sorted(left_out.items()):
        logger.warning(
            "the broker refuses %s for %s, created without: %s", setting, ", ".join(sorted(names)), _LOST[setting]
        )


def _new(name: str, partitions: int, replicas: int, config: Mapping[str, str]) -> NewTopic:
    new = NewTopic(name, partitions, 1, topic_configs=dict(config))
    new.replication_factor = replicas  # its constructor refuses -1, which Kafka takes
    return new
