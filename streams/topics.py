"""The topics: what each must look like in Kafka, made when missing and checked when there.

Faust silently leaves out a topic that is absent when it subscribes, and refuses a table whose changelog is
split otherwise than its source: so the worker calls `ensure_topics` before it starts. Knows no messages.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, for_code

from encoders.errors import AfterclickError
from streams import kafka_client
from streams.contracts import TOPICS
from streams.settings import PREFIX, Settings

MESSAGE_BYTES = 16 << 20  # of any topic that we read: chosen by us, far over the 1 MiB that is accepted
DEAD_LETTER_BYTES = 24 << 20  # the largest of them fits as base64, with what is told about it
_LARGEST = "max.message.bytes"
USERS_TABLE = "users"
OF_OTHERS = ("clicks", "purchases", "impressions", "items", "forget")
_ERASED_WITHIN_MS = 86_400_000  # chosen by us: a forgotten user's old values leave the disk within a day
_KEPT_MS = 7 * _ERASED_WITHIN_MS  # chosen by us: time to mend what was rejected; Kafka cannot erase one message of them

log = logging.getLogger(__name__)


class TopicError(AfterclickError):
    """Topics are missing or not as needed; one line each: what, got, expected, what to do."""


@dataclass(frozen=True)
class TopicSpec:
    """What a topic must look like.

    Attributes
    ----------
    is_input
        Others write to it; it may have any number of partitions.
    compacted
        Kafka keeps the last value of each key, rather than all values for some time.
    config
        Kafka's own topic settings, over the cluster's defaults.
    """

    name: str
    compacted: bool
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    is_input: bool = False

    @property
    def cleanup(self) -> set[str]:
        """The members of Kafka's `cleanup.policy`."""
        return set(self.config.get("cleanup.policy", "compact" if self.compacted else "delete").split(","))


def changelog_name(settings: Settings, table: str = USERS_TABLE) -> str:
    """Name the changelog as Faust does: application id, table, `changelog`."""
    return f"{group_id(settings, 'state')}-{table}-changelog"


def group_id(settings: Settings, tier: Literal["state", "rank"]) -> str:
    """Name the consumer group of a tier, which is the id of its Faust application too."""
    return settings.topic(f"{settings.kafka.group_id}-{tier}")


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """List every topic that the two tiers use; a user is in the same partition of each that is not an input."""
    roomy = {_LARGEST: str(MESSAGE_BYTES)}  # a list of a thousand items, with their reasons, is over 1 MiB
    erasing = {"max.compaction.lag.ms": str(_ERASED_WITHIN_MS)}
    bounded = {"retention.ms": str(_KEPT_MS)}
    # A forgotten user's tombstone removes what waits; what nobody ranked for an hour is of no use to anybody.
    pending = {
        "cleanup.policy": "compact,delete",
        "retention.ms": "3600000",
        "max.compaction.lag.ms": "600000",
        **roomy,
    }
    special: dict[str, tuple[bool, dict[str, str]]] = {
        "items": (True, {}),
        "rank-requests": (True, pending),
        # Only what is no longer written to is compacted, and an emptied Redis reads all that is not. When a list
        # came is the broker's word: a worker's clock may be wrong.
        "recommendations": (
            True,
            {**erasing, **roomy, "segment.bytes": str(128 * 2**20), "message.timestamp.type": "LogAppendTime"},
        ),
        "dead-letters": (False, {**bounded, _LARGEST: str(DEAD_LETTER_BYTES)}),
        "routed-events": (False, bounded),
        "forget": (False, bounded),
        "item-counts": (True, {}),
    }
    names = [*TOPICS, "routed-events", "item-counts"]
    specs = [
        TopicSpec(settings.topic(name), compacted, settings.kafka.partitions, config, name in OF_OTHERS)
        for name in names
        for compacted, config in [special.get(name, (False, {}))]
    ]
    return [*specs, TopicSpec(changelog_name(settings), True, settings.kafka.partitions, erasing)]


async def ensure_topics(settings: Settings, needed: Sequence[TopicSpec]) -> None:
    """Create what is missing (unless `kafka.create_topics` is off), and check all that is needed.

    With `create_topics` off, each topic is asked for; a cluster that creates topics on demand then does so.

    Raises
    ------
    TopicError
        A topic is missing, split otherwise, cleaned otherwise, or cannot have as many replicas as set.
    streams.kafka_client.KafkaUnavailable
        Kafka does not answer.
    """
    async with kafka_client.admin(settings.kafka) as admin:
        if settings.kafka.create_topics:
            present = await partitions_by_topic(admin)
            _stop(await problems(admin, [spec for spec in needed if spec.name in present], present))
            await _create(admin, settings, [spec for spec in needed if spec.name not in present])
        settle_s = 10 if settings.kafka.create_topics else 2
        present = await _settled(admin, [spec.name for spec in needed], settle_s)
        _stop(await problems(admin, needed, present))


async def partitions_by_topic(admin: AIOKafkaAdminClient, names: list[str] | None = None) -> dict[str, int]:
    """Count the partitions of `names` that exist and have leaders; of all topics when `names` is None."""
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics(names)
        if not topic["error_code"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
    }


async def problems(
    admin: AIOKafkaAdminClient, needed: Sequence[TopicSpec], present: Mapping[str, int]
) -> dict[str, str]:
    """Say what is wrong with a topic: absent, split or cleaned otherwise, too narrow or too wide. Sound: left out."""
    configs = await _configs(admin, [spec.name for spec in needed if spec.name in present])
    found: dict[str, str] = {}
    for spec in needed:
        if spec.name not in present:
            found[spec.name] = (
                f"topic {spec.name}: got none (or none with leaders), expected {spec.partitions} partitions, "
                f"cleanup.policy={_policy(spec.cleanup)}; create it, or set {PREFIX}KAFKA__CREATE_TOPICS=true"
            )
        elif present[spec.name] != spec.partitions and not spec.is_input:
            found[spec.name] = (
                f"topic {spec.name}: got {present[spec.name]} partitions, expected {spec.partitions} like every other "
                f"that is no input; set {PREFIX}KAFKA__PARTITIONS to what these topics have, or {PREFIX}TOPIC_PREFIX "
                "for new topics"
            )
        elif spec.name in configs:
            got = configs[spec.name]
            cleanup, largest = set(got["cleanup.policy"].replace(" ", "").split(",")), int(got[_LARGEST])
            if cleanup != spec.cleanup:
                found[spec.name] = (
                    f"topic {spec.name}: got cleanup.policy={_policy(cleanup)}, expected "
                    f"{_policy(spec.cleanup)}, else messages that we need are lost; alter the topic's setting"
                )
            elif largest < (wanted := int(spec.config.get(_LARGEST, 0))):
                found[spec.name] = (
                    f"topic {spec.name}: got {_LARGEST}={largest}, expected at least {wanted}, else Kafka refuses what "
                    "we write; alter the topic's setting"
                )
            elif largest > MESSAGE_BYTES >= wanted:
                found[spec.name] = (
                    f"topic {spec.name}: got {_LARGEST}={largest}, expected at most {MESSAGE_BYTES}, else a rejected "
                    "message may not fit a dead letter; alter the topic's setting"
                )
    return found


def _stop(found: Mapping[str, str]) -> None:
    if found:
        raise TopicError("\n".join(found.values()))


async def _create(admin: AIOKafkaAdminClient, settings: Settings, missing: Sequence[TopicSpec]) -> None:
    if not missing:
        return
    replicas = settings.kafka.replication_factor
    brokers = len((await admin.describe_cluster())["brokers"])
    if replicas > brokers:
        raise TopicError(
            f"{PREFIX}KAFKA__REPLICATION_FACTOR: got {replicas}, expected at most {brokers}, the number of "
            "brokers; lower it, or add brokers"
        )
    # With three copies one broker may be lost, and what was acknowledged is still on two.
    durable = {"min.insync.replicas": "2"} if replicas >= 3 else {}
    new = [
        NewTopic(
            spec.name,
            spec.partitions,
            replicas,
            topic_configs={**spec.config, **durable, "cleanup.policy": _policy(spec.cleanup)},
        )
        for spec in missing
    ]
    answer = await admin.create_topics(new)
    refused = [
        f"topic {name}: got {for_code(code).__name__} ({message}), expected it to be created; allow it, or "
        f"create it and set {PREFIX}KAFKA__CREATE_TOPICS=false"
        for name, code, message in answer.topic_errors
        if code not in (0, 36)  # 36: another worker was faster
    ]
    if refused:
        raise TopicError("\n".join(refused))
    log.info("created topics: %s", ", ".join(spec.name for spec in missing))


async def _settled(admin: AIOKafkaAdminClient, names: list[str], settle_s: float) -> dict[str, int]:
    """Ask until every topic has its leaders, for new ones take a moment."""
    deadline = time.monotonic() + settle_s
    while True:
        present = await partitions_by_topic(admin, names)
        if len(present) == len(names) or time.monotonic() > deadline:
            return present
        await asyncio.sleep(0.1)


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read of each topic the settings that we check, as far as the cluster knows of such and lets us read them."""
    if not names:
        return {}
    wanted = {"cleanup.policy": "", _LARGEST: ""}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
    try:
        answers = await admin.describe_configs(resources)
    except IncompatibleBrokerVersion:  # librdkafka's mock cluster
        return {}
    return {
        name: {key: value for key, value, *_rest in entries}
        for answer in answers
        for code, _message, _type, name, entries in answer.resources
        if not code
    }


def _policy(cleanup: set[str]) -> str:
    return ",".join(sorted(cleanup))
