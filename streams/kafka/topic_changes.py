"""Compare the topics of a cluster with what they must look like, and make them so.

`apply` shortens no retention, moves no user and stops no write: a difference whose removal could do that stays, with
the reason. So does a setting that the broker refuses. `mend` does the same at a worker's start for topics that Kafka
created by itself, because somebody wrote or read them first. Knows no message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from streams.kafka.partition_growth import add_partitions, without_messages
from streams.kafka.topic_creation import BROKERS_OWN, REFUSALS
from streams.kafka.topics import TopicError, TopicSpec, create_missing, full_config
from streams.settings import PREFIX, Settings

CLEANUP, RETENTION, LARGEST, IN_SYNC = "cleanup.policy", "retention.ms", "max.message.bytes", "min.insync.replicas"
TOPIC, PARTITIONS, REPLICAS = "topic", "partitions", "replicas"
SETTLE_S = 10.0  # chosen by us: brokers learn of a change within milliseconds
POLL_S = 0.2
_SET_ON_TOPIC = 1
"""Kafka's `config_source` of a setting that somebody gave to this topic; others are the broker's defaults."""


@dataclass(frozen=True)
class TopicDifference:
    """One way in which a topic of the cluster differs from its specification.

    Attributes
    ----------
    topic : str
        The full name.
    what : str
        `topic` (it is missing), `partitions`, `replicas`, or the name of a Kafka setting.
    got, expected : str
    kept : str
        Why `apply` leaves it as it is, and what to do instead; empty if `apply` changes it.
    """

    topic: str
    what: str
    got: str
    expected: str
    kept: str = ""


@dataclass(frozen=True)
class _Present:
    """A topic as it is: partitions, the replicas of the partition that has fewest, settings, and those set on it."""

    partitions: int
    replicas: int
    config: Mapping[str, str]
    own: Mapping[str, str]


async def differences(
    admin: AIOKafkaAdminClient, settings: Settings, specs: Sequence[TopicSpec]
) -> list[TopicDifference]:
    """List what is missing or different, in the order of the specifications.

    An input has its owner's partitions, replicas and retention: only its cleanup policy is compared.

    Raises
    ------
    TopicError
        Kafka does not let us read the settings of a topic.
    """
    present = await _present(admin, [spec.name for spec in specs])
    kept = await _partitions_kept(settings, specs, {name: topic.partitions for name, topic in present.items()})
    found: list[TopicDifference] = []
    for spec in specs:
        if spec.name in present:
            found += _differences_of(settings, spec, present[spec.name], kept)
        else:
            expected = f"{spec.partitions} partitions, {CLEANUP}={full_config(settings, spec)[CLEANUP]}"
            found.append(TopicDifference(spec.name, TOPIC, "none", expected))
    return found


async def apply(
    admin: AIOKafkaAdminClient, settings: Settings, specs: Sequence[TopicSpec]
) -> tuple[list[TopicDifference], list[TopicDifference]]:
    """Create missing topics and alter settings that differ.

    Returns
    -------
    list of TopicDifference
        The changes that were made.
    list of TopicDifference
        What is different still, read from the brokers once the changes have reached them.

    Raises
    ------
    TopicError
        A topic cannot be created, or we have no right to alter one.
    """
    made: list[TopicDifference] = []
    refused: dict[tuple[str, str], str] = {}
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = await differences(admin, settings, specs)
        left = [replace(one, kept=refused.get((one.topic, one.what), one.kept)) for one in found]
        wanted = [one for one in left if not one.kept]
        if not wanted or time.monotonic() > deadline:
            return made, left
        missing = {one.topic for one in wanted if one.what == TOPIC}
        await create_missing(admin, settings, [spec for spec in specs if spec.name in missing])
        grown = {one.topic: int(one.expected) for one in wanted if one.what == PARTITIONS}
        refused |= {(topic, PARTITIONS): why for topic, why in (await add_partitions(admin, grown)).items()}
        altered: dict[str, dict[str, str]] = {}
        for one in wanted:
            if one.what not in (TOPIC, PARTITIONS):
                altered.setdefault(one.topic, {})[one.what] = one.expected
        refused |= await _alter(admin, altered)
        made += [one for one in wanted if one not in made and (one.topic, one.what) not in refused]
        await asyncio.sleep(POLL_S)


async def mend(admin: AIOKafkaAdminClient, settings: Settings, specs: Sequence[TopicSpec]) -> list[TopicDifference]:
    """Do the same for those existing topics that have no setting of their own: no person chose how they are.

    Returns
    -------
    list of TopicDifference
        The changes that were made.

    Raises
    ------
    TopicError
        We have no right to read or alter a topic's settings.
    """
    present = await _present(admin, [spec.name for spec in specs])
    untouched = [spec for spec in specs if spec.name in present and not present[spec.name].own]
    chosen = [spec for spec in specs if spec.name in present and present[spec.name].own and not spec.is_input]
    if any(present[spec.name].partitions != spec.partitions for spec in chosen):
        return []  # the setting is wrong rather than the topics
    made, _ = await apply(admin, settings, untouched)
    return made


async def _partitions_kept(settings: Settings, specs: Sequence[TopicSpec], counts: Mapping[str, int]) -> dict[str, str]:
    """Return topic -> why its number of partitions stays; "" if partitions can be added to it.

    Partitions are added to all topics that lack some, or to none: they must have the same number.
    """
    differing = {
        spec.name: spec
        for spec in specs
        if not spec.is_input and counts.get(spec.name, spec.partitions) != spec.partitions
    }
    fewer = {name: counts[name] for name, spec in differing.items() if counts[name] < spec.partitions}
    used = differing.keys() - await without_messages(settings.kafka, fewer)
    why = f"another number would move users to other partitions; set {PREFIX}KAFKA__PARTITIONS to what it has"
    return dict.fromkeys(differing, why if used else "")


async def _alter(admin: AIOKafkaAdminClient, altered: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """Alter topic -> its settings; return (topic, setting) -> why the broker refuses it."""
    refused: dict[tuple[str, str], str] = {}
    for topic in await _alter_together(admin, altered):
        for key, value in altered[topic].items():
            if reasons := await _alter_together(admin, {topic: {key: value}}):
                refused[topic, key] = reasons[topic]
    return refused


async def _alter_together(admin: AIOKafkaAdminClient, altered: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Alter topic -> its settings, all of a topic or none; return topic -> why the broker refuses them."""
    if not altered:
        return {}
    present = await _present(admin, list(altered))
    # AlterConfigs replaces all settings of a topic, so those that are there go along.
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, {**present[name].own, **config})
        for name, config in altered.items()
    ]
    refused: dict[str, str] = {}
    for answer in await admin.alter_configs(resources):
        for code, message, _type, name in answer.resources:
            if code and for_code(code) not in REFUSALS:
                raise TopicError(
                    f"topic {name}: got {for_code(code).__name__} ({message}), expected its settings to be altered; "
                    "allow ALTER_CONFIGS"
                )
            if code:
                refused[name] = f"the broker refuses it ({message or for_code(code).__name__})"
    return refused


def _differences_of(
    settings: Settings, spec: TopicSpec, present: _Present, partitions_kept: Mapping[str, str]
) -> list[TopicDifference]:
    wanted, replicas = full_config(settings, spec), settings.kafka.replication_factor
    found: list[TopicDifference] = []
    if not spec.is_input:
        if present.partitions != spec.partitions:
            got, expected = str(present.partitions), str(spec.partitions)
            found.append(TopicDifference(spec.name, PARTITIONS, got, expected, kept=partitions_kept[spec.name]))
        if replicas != BROKERS_OWN and present.replicas < replicas:
            why = "copies are moved by kafka-reassign-partitions.sh"
            found.append(TopicDifference(spec.name, REPLICAS, str(present.replicas), str(replicas), kept=why))
    for key, value in wanted.items():
        got = present.config.get(key, "")
        if (key == CLEANUP or not spec.is_input) and not _fits(key, got, value):
            is_unused = partitions_kept.get(spec.name) == "" and key in (CLEANUP, RETENTION)
            kept = "" if is_unused else _kept(key, got, value, present.replicas)
            found.append(TopicDifference(spec.name, key, got, value, kept))
    return found


def _fits(key: str, got: str, expected: str) -> bool:
    if key == CLEANUP:
        return _policies(got) == _policies(expected)
    if key in (LARGEST, IN_SYNC):
        return got.isdecimal() and int(got) >= int(expected)
    return got == expected


def _kept(key: str, got: str, expected: str, replicas: int) -> str:
    """Why a setting stays; "" if the change deletes no message and refuses none."""
    if key == CLEANUP and "delete" in _policies(expected) - _policies(got):
        return "Kafka would delete old messages that it now keeps; alter it yourself"
    if key == RETENTION and (got == "-1" or (got.isdecimal() and int(got) > int(expected))):
        return "Kafka would delete messages sooner; alter it yourself"
    if key == IN_SYNC and replicas < 3:
        return "with so few replicas Kafka would refuse writes while one is down; add replicas first"
    return ""


def _policies(policy: str) -> set[str]:
    return set(policy.replace(" ", "").split(","))


async def _present(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, _Present]:
    if not names:
        return {}
    # Of all topics: one that is asked for by its name would be created by a broker that creates topics on demand.
    described = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    there = [name for name in names if described.get(name)]
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
    present: dict[str, _Present] = {}
    for answer in await admin.describe_configs(resources) if resources else []:
        for code, message, _type, name, entries in answer.resources:
            if code:
                raise TopicError(
                    f"topic {name}: got {for_code(code).__name__} ({message}), expected its settings; allow "
                    "DESCRIBE_CONFIGS"
                )
            partitions = described[name]
            present[name] = _Present(
                len(partitions),
                min(len(partition["replicas"]) for partition in partitions),
                {key: value for key, value, *_rest in entries},
                {key: value for key, value, _fixed, source, *_rest in entries if source == _SET_ON_TOPIC},
            )
    return present
