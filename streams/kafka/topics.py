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

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion

from encoders.errors import AfterclickError
from streams.contracts import TOPICS
from streams.kafka import client as kafka_client
from streams.kafka.message_size import list_bytes, request_bytes
from streams.kafka.outgoing import BROKERS_LARGEST, OVERHEAD_BYTES
from streams.kafka.topic_creation import BROKERS_OWN, Wanted, create
from streams.settings import PREFIX, Settings

DEAD_LETTER_BYTES = 8 << 20
"""As much as managed brokers allow: whole messages of 6 MiB as base64. What is larger is cut."""
STATE_BYTES = 200_000
"""Of a user: the hashes of 16,384 event ids are 128 KiB, and everything else is less."""
_LARGEST = "max.message.bytes"
USERS_TABLE = "users"
SOURCES = {
    "state": ("clicks", "purchases", "impressions", "items", "forget", "routed-events"),
    "rank": ("rank-requests",),
}
"""What the consumer group of each tier reads."""
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
        Kafka's own topic settings, over the cluster's defaults; a broker that refuses one does without.
    largest
        The largest message, in bytes, that the settings lead us to write there; 0 if that is less than any topic takes.
    least
        The topic must take messages of so many bytes, for nothing can be left out of them.
    """

    name: str
    compacted: bool
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    is_input: bool = False
    largest: int = 0
    least: int = 0

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
    largest = {
        name: size + OVERHEAD_BYTES
        for name, size in (("rank-requests", request_bytes(settings)), ("recommendations", list_bytes(settings)))
        if size + OVERHEAD_BYTES > BROKERS_LARGEST
    }
    roomy = {name: {_LARGEST: str(size)} for name, size in largest.items()}
    erasing = {"max.compaction.lag.ms": str(_ERASED_WITHIN_MS)}
    bounded = {"retention.ms": str(_KEPT_MS)}
    # A forgotten user's tombstone removes what waits; what nobody ranked for an hour is of no use to anybody.
    pending = {
        "cleanup.policy": "compact,delete",
        "retention.ms": "3600000",
        "max.compaction.lag.ms": "600000",
        **roomy.get("rank-requests", {}),
    }
    special: dict[str, tuple[bool, dict[str, str]]] = {
        "items": (True, {}),
        "rank-requests": (True, pending),
        # Only what is no longer written to is compacted, and an emptied Redis reads all that is not.
        "recommendations": (
            True,
            {**erasing, **roomy.get("recommendations", {}), "segment.bytes": str(128 * 2**20)},
        ),
        "dead-letters": (False, {**bounded, _LARGEST: str(DEAD_LETTER_BYTES)}),
        "routed-events": (False, bounded),
        "forget": (False, bounded),
        "item-counts": (True, {}),
    }
    # When a message of ours came is the broker's word: a worker's clock may be wrong, and Kafka 4 would refuse it then.
    stamped = {"message.timestamp.type": "LogAppendTime"}
    specs = []
    for name in (*TOPICS, "routed-events", "item-counts"):
        compacted, config = special.get(name, (False, {}))
        is_input = name in OF_OTHERS
        config = config if is_input else config | stamped
        specs.append(
            TopicSpec(
                settings.topic(name), compacted, settings.kafka.partitions, config, is_input, largest.get(name, 0)
            )
        )
    name, config = changelog_name(settings), erasing | stamped
    return [*specs, TopicSpec(name, True, settings.kafka.partitions, config, least=STATE_BYTES)]


async def ensure_topics(settings: Settings, needed: Sequence[TopicSpec]) -> dict[str, int]:
    """Create what is missing (unless `kafka.create_topics` is off), and check all that is needed.

    With `create_topics` off, each topic is asked for; a cluster that creates topics on demand then does so.

    Returns
    -------
    dict of str to int
        The largest message that each topic takes, as far as we may read it.

    Raises
    ------
    TopicError
        A topic is missing, split otherwise, cleaned otherwise, or cannot have as many replicas as set.
    streams.kafka.client.KafkaUnavailable
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
        largest = await largest_messages(admin, [spec.name for spec in needed])
    for line in narrow(needed, largest).values():
        log.warning("%s", line)
    return largest


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
    """Say what is wrong with a topic: absent, split or cleaned otherwise, too narrow. Sound: left out."""
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
            cleanup = set(got.get("cleanup.policy", _policy(spec.cleanup)).replace(" ", "").split(","))
            if cleanup != spec.cleanup:
                found[spec.name] = (
                    f"topic {spec.name}: got cleanup.policy={_policy(cleanup)}, expected "
                    f"{_policy(spec.cleanup)}, else messages that we need are lost; alter the topic's setting"
                )
            elif (most := int(got.get(_LARGEST) or spec.least)) < spec.least:
                found[spec.name] = (
                    f"topic {spec.name}: got {_LARGEST}={most}, expected at least {spec.least}, the largest that a "
                    "user's state may become; alter the topic's setting"
                )
    return found


async def largest_messages(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Read the `max.message.bytes` of topics, as far as the cluster knows of such and lets us read them."""
    return {name: int(got[_LARGEST]) for name, got in (await _configs(admin, names)).items() if got.get(_LARGEST)}


def narrow(needed: Sequence[TopicSpec], largest: Mapping[str, int]) -> dict[str, str]:
    """Say of which topics the settings may make larger messages than the topic takes; work goes on without a part."""
    return {
        spec.name: f"topic {spec.name}: got {_LARGEST}={largest[spec.name]}, expected {spec.largest} for as many items "
        f"as {PREFIX}CANDIDATES__LIMIT and {PREFIX}RANKER__LIST_SIZE allow; what does not fit is cut, and counted in "
        "afterclick_messages_cut_total; alter the topic's setting, or lower these"
        for spec in needed
        if largest.get(spec.name, spec.largest) < spec.largest
    }


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
            f"brokers; lower it, set {BROKERS_OWN} for the broker's default, or add brokers"
        )
    # With three copies one broker may be lost, and what was acknowledged is still on two.
    durable = {"min.insync.replicas": "2"} if replicas >= 3 else {}
    wanted = [
        Wanted(spec.name, spec.partitions, {**spec.config, **durable, "cleanup.policy": _policy(spec.cleanup)})
        for spec in missing
    ]
    if refused := await create(admin, wanted, replicas):
        raise TopicError("\n".join(map(str, refused)))
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
