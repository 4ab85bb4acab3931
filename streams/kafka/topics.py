"""The topics: what each must look like in Kafka. A missing topic is created, and an existing one is checked.

Faust silently ignores a topic that is missing when it subscribes, and refuses a table whose changelog has another
number of partitions than its source. So all topics have to be there before a worker starts. Knows no messages.
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
from streams import metric_labels
from streams.contracts import TOPICS
from streams.kafka import client as kafka_client
from streams.kafka.message_size import list_bytes, request_bytes
from streams.kafka.outgoing import BROKERS_LARGEST, OVERHEAD_BYTES
from streams.kafka.topic_creation import BROKERS_OWN, NewTopicSpec, create
from streams.settings import PREFIX, Settings

DEAD_LETTER_BYTES = 8 << 20
"""The most that managed brokers allow: a whole message of 6 MiB as base64. A larger payload is cut."""
STATE_BYTES = 420_000
"""A state that moves to another user: 16,384 events of 16 bytes, 16 wishes of 8 KB at most, and the record."""
MEND = "afterclick topics --apply"
_LARGEST = "max.message.bytes"
USERS_TABLE = "users"
INPUTS = tuple(name for name in metric_labels.INPUTS if name != "rank-requests")
SOURCES = {"state": (*INPUTS, "routed-events"), "rank": ("rank-requests",)}
"""The topics that the consumer group of each tier reads."""
_ERASED_WITHIN_MS = 86_400_000  # chosen by us: a forgotten user's old values leave the disk within a day
_KEPT_MS = 7 * _ERASED_WITHIN_MS  # chosen by us: time to correct rejected messages; Kafka cannot erase a single one

logger = logging.getLogger(__name__)


class TopicError(AfterclickError):
    """Topics are missing or not as needed. The message has one line a topic: what, got, expected, what to do."""


@dataclass(frozen=True)
class TopicSpec:
    """What a topic must look like.

    Attributes
    ----------
    name : str
        The full name, with the prefix.
    compacted : bool
        Kafka keeps the last value of each key, rather than all values for some time.
    partitions : int
        The number of partitions.
    config : mapping of str to str
        Kafka's topic settings, over the cluster's defaults. Where a broker refuses one, the topic does without.
    is_input : bool
        Producers outside this project write to it. It may have any number of partitions.
    largest : int
        The largest message, in bytes, that the settings may lead us to write; 0 if every topic takes such a message.
    least : int
        The topic must take messages of this size, in bytes, because nothing can be left out of them.
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
    """Return the changelog's name as Faust builds it: application id, table, `changelog`."""
    return f"{group_id(settings, 'state')}-{table}-changelog"


def group_id(settings: Settings, tier: Literal["state", "rank"]) -> str:
    """Return the name of a tier's consumer group, which is also the id of its Faust application."""
    return settings.topic(f"{settings.kafka.group_id}-{tier}")


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """List every topic that the two tiers use. A user has the same partition in every topic that is no input."""
    largest = {
        name: size + OVERHEAD_BYTES
        for name, size in (("rank-requests", request_bytes(settings)), ("recommendations", list_bytes(settings)))
        if size + OVERHEAD_BYTES > BROKERS_LARGEST
    }
    roomy = {name: {_LARGEST: str(size)} for name, size in largest.items()}
    erasing = {"max.compaction.lag.ms": str(_ERASED_WITHIN_MS)}
    bounded = {"retention.ms": str(_KEPT_MS)}
    # A forgotten user's tombstone removes the user's requests. A request that waited for an hour is of no use.
    pending = {
        "cleanup.policy": "compact,delete",
        "retention.ms": "3600000",
        "max.compaction.lag.ms": "600000",
        **roomy.get("rank-requests", {}),
    }
    special: dict[str, tuple[bool, dict[str, str]]] = {
        "items": (True, {}),
        "knowledge": (True, {}),
        "rank-requests": (True, pending),
        # Kafka compacts only full segments, and the refill of an emptied Redis reads all that is not compacted.
        "recommendations": (
            True,
            {**erasing, **roomy.get("recommendations", {}), "segment.bytes": str(128 * 2**20)},
        ),
        "dead-letters": (False, {**bounded, _LARGEST: str(DEAD_LETTER_BYTES)}),
        "routed-events": (False, bounded),
        "forget": (False, bounded),
        "item-counts": (True, {}),
    }
    # The broker dates our messages: a worker's clock may be wrong, and Kafka 4 would refuse the message then.
    broker_dated = {"message.timestamp.type": "LogAppendTime"}
    specs = []
    for name in (*TOPICS, "routed-events", "item-counts"):
        compacted, config = special.get(name, (False, {}))
        is_input = name in INPUTS
        config = config if is_input else config | broker_dated
        least = STATE_BYTES if name == "routed-events" else 0
        sizes = (largest.get(name, 0), least)
        specs.append(TopicSpec(settings.topic(name), compacted, settings.kafka.partitions, config, is_input, *sizes))
    name, config = changelog_name(settings), erasing | broker_dated
    return [*specs, TopicSpec(name, True, settings.kafka.partitions, config, least=STATE_BYTES)]


async def ensure_topics(settings: Settings, needed: Sequence[TopicSpec]) -> dict[str, int]:
    """Create what is missing (unless `kafka.create_topics` is off), and check all that is needed.

    With `create_topics` off, each topic is requested, so a cluster that creates topics on demand creates it.

    Returns
    -------
    dict of str to int
        Topic -> the largest message that it takes, in bytes; only topics whose settings we may read.

    Raises
    ------
    TopicError
        A topic is missing, has another number of partitions or another cleanup policy, or cannot have its replicas.
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    """
    async with kafka_client.admin(settings.kafka) as admin:
        if settings.kafka.create_topics:
            present = await partitions_by_topic(admin)
            _raise(await problems_of(admin, [spec for spec in needed if spec.name in present], present))
            await create_missing(admin, settings, [spec for spec in needed if spec.name not in present])
        settle_s = 10 if settings.kafka.create_topics else 2
        present = await _settled(admin, [spec.name for spec in needed], settle_s)
        _raise(await problems_of(admin, needed, present))
        largest = await largest_messages(admin, [spec.name for spec in needed])
    for line in narrow(needed, largest).values():
        logger.warning("%s", line)
    return largest


async def partitions_by_topic(admin: AIOKafkaAdminClient, names: list[str] | None = None) -> dict[str, int]:
    """Return topic -> its number of partitions, for topics whose partitions all have leaders; None asks for all."""
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics(names)
        if not topic["error_code"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
    }


async def problems_of(
    admin: AIOKafkaAdminClient, needed: Sequence[TopicSpec], present: Mapping[str, int]
) -> dict[str, str]:
    """Return topic -> its problem (missing, partitions, cleanup policy, message size), for topics that have one."""
    configs = await _configs(admin, [spec.name for spec in needed if spec.name in present])
    problems: dict[str, str] = {}
    for spec in needed:
        if spec.name not in present:
            problems[spec.name] = (
                f"topic {spec.name}: got none (or none with leaders), expected {spec.partitions} partitions, "
                f"cleanup.policy={_policy(spec.cleanup)}; create it, or set {PREFIX}KAFKA__CREATE_TOPICS=true"
            )
        elif present[spec.name] != spec.partitions and not spec.is_input:
            problems[spec.name] = (
                f"topic {spec.name}: got {present[spec.name]} partitions, expected {spec.partitions} like every other "
                f"that is no input; run `{MEND}`, which adds partitions to a topic without messages; or set "
                f"{PREFIX}KAFKA__PARTITIONS to what these topics have, or {PREFIX}TOPIC_PREFIX for new topics"
            )
        elif spec.name in configs:
            got = configs[spec.name]
            cleanup = set(got.get("cleanup.policy", _policy(spec.cleanup)).replace(" ", "").split(","))
            if cleanup != spec.cleanup:
                problems[spec.name] = (
                    f"topic {spec.name}: got cleanup.policy={_policy(cleanup)}, expected "
                    f"{_policy(spec.cleanup)}, else messages that we need are lost; run `{MEND}`, or alter the "
                    "topic's setting"
                )
            elif (limit := int(got.get(_LARGEST) or spec.least)) < spec.least:
                problems[spec.name] = (
                    f"topic {spec.name}: got {_LARGEST}={limit}, expected at least {spec.least}, the largest that a "
                    "user's state may become; alter the topic's setting"
                )
    return problems


async def largest_messages(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Return topic -> its `max.message.bytes`; only topics whose settings the cluster has and lets us read."""
    return {name: int(got[_LARGEST]) for name, got in (await _configs(admin, names)).items() if got.get(_LARGEST)}


def narrow(needed: Sequence[TopicSpec], largest: Mapping[str, int]) -> dict[str, str]:
    """Return topic -> a warning, for topics that take less than the settings may lead us to write. Messages are cut."""
    return {
        spec.name: f"topic {spec.name}: got {_LARGEST}={largest[spec.name]}, expected {spec.largest} for as many items "
        f"as {PREFIX}CANDIDATES__LIMIT and {PREFIX}RANKER__LIST_SIZE allow; what does not fit is cut, and counted in "
        "afterclick_messages_cut_total; alter the topic's setting, or lower these"
        for spec in needed
        if largest.get(spec.name, spec.largest) < spec.largest
    }


def _raise(problems: Mapping[str, str]) -> None:
    if problems:
        raise TopicError("\n".join(problems.values()))


def full_config(settings: Settings, spec: TopicSpec) -> dict[str, str]:
    """Return every setting with which a topic is created."""
    # With three copies one broker may be lost, and what was acknowledged is still on two.
    durable = {"min.insync.replicas": "2"} if settings.kafka.replication_factor >= 3 else {}
    return {**spec.config, **durable, "cleanup.policy": _policy(spec.cleanup)}


async def create_missing(admin: AIOKafkaAdminClient, settings: Settings, missing: Sequence[TopicSpec]) -> None:
    """Create topics.

    Raises
    ------
    TopicError
        The cluster has fewer brokers than a topic needs replicas, or refuses a topic in any form.
    """
    if not missing:
        return
    replicas = settings.kafka.replication_factor
    brokers = len((await admin.describe_cluster())["brokers"])
    if replicas > brokers:
        raise TopicError(
            f"{PREFIX}KAFKA__REPLICATION_FACTOR: got {replicas}, expected at most {brokers}, the number of "
            f"brokers; lower it, set {BROKERS_OWN} for the broker's default, or add brokers"
        )
    wanted = [NewTopicSpec(spec.name, spec.partitions, full_config(settings, spec)) for spec in missing]
    if refused := await create(admin, wanted, replicas):
        raise TopicError("\n".join(map(str, refused)))
    logger.info("created topics: %s", ", ".join(spec.name for spec in missing))


async def _settled(admin: AIOKafkaAdminClient, names: list[str], settle_s: float) -> dict[str, int]:
    """Ask until every topic has its leaders, because a new topic takes a moment."""
    deadline = time.monotonic() + settle_s
    while True:
        present = await partitions_by_topic(admin, names)
        if len(present) == len(names) or time.monotonic() > deadline:
            return present
        await asyncio.sleep(0.1)


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return topic -> the settings that we check; only topics whose settings the cluster has and lets us read."""
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
