"""Check that Kafka grants every right that a worker needs, by requests that change nothing.

Kafka checks rights before it looks at a request. So a fetch from an impossible partition, a write to it and a heartbeat
of an unknown member are refused for a missing right, or else for their content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from streams.kafka import client as kafka_client
from streams.kafka import team_topics, topics
from streams.settings import PREFIX, Settings

Role = Literal["state", "rank"]
NO_PARTITION = 2**31 - 1
NO_RIGHT = TopicAuthorizationFailedError.errno
WAIT_MS = 10_000
READ_BY_STATE = (*topics.SOURCES["state"], "item-counts")
WRITTEN_BY_STATE = ("routed-events", "item-counts", "rank-requests", "dead-letters")
READ_BY_RANK = (*topics.SOURCES["rank"], "items", "recommendations")
WRITTEN_BY_RANK = ("recommendations", "dead-letters", "routed-events", "rank-requests")


class Right(NamedTuple):
    """One right on one resource, in Kafka's terms."""

    operation: Literal["READ", "WRITE"]
    kind: Literal["topic", "group"]
    name: str


def needed(settings: Settings, roles: Iterable[Role]) -> list[Right]:
    """Return every right that workers of these roles need on existing topics and groups. CREATE is not among them."""
    rights: list[Right] = []
    for role in roles:
        is_state = role == "state"
        read = [settings.topic(name) for name in (READ_BY_STATE if is_state else READ_BY_RANK)]
        written = [settings.topic(name) for name in (WRITTEN_BY_STATE if is_state else WRITTEN_BY_RANK)]
        if is_state:
            read += [topics.changelog_name(settings), *team_topics.inputs_by_topic(settings)]
            written.append(topics.changelog_name(settings))
            sent_on = [name for name in ("items", "knowledge") if settings.topics.of(name)]
            written += map(settings.topic, sent_on)
        rights += [Right("READ", "topic", name) for name in read]
        rights += [Right("WRITE", "topic", name) for name in written]
        rights.append(Right("READ", "group", topics.group_id(settings, role)))
    return list(dict.fromkeys(rights))


async def check(settings: Settings, roles: Iterable[Role]) -> None:
    """Check every right that workers of these roles need.

    Raises
    ------
    streams.kafka.client.KafkaRefuses
        Rights are missing; one line for each.
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    """
    if refused := await missing(settings, needed(settings, roles)):
        raise kafka_client.KafkaRefuses("\n".join(describe(settings, right) for right in refused))


def describe(settings: Settings, right: Right) -> str:
    """Return one line that says which right is missing, and to which user to grant it."""
    user = settings.kafka.security.sasl_username
    grantee = f"user {user!r}" if user else f"the user that Kafka takes us for ({PREFIX}KAFKA__SECURITY__…)"
    return (
        f"{right.kind} {right.name}: got no right to {right.operation}, expected it for {grantee}; allow the operation "
        f"{right.operation} on this {right.kind}"
    )


async def missing(settings: Settings, rights: Sequence[Right]) -> list[Right]:
    """Return the rights that Kafka refuses. Topics that do not exist are skipped.

    Raises
    ------
    streams.kafka.client.KafkaUnavailable, streams.kafka.client.KafkaRefuses
        Kafka does not answer, or refuses the login.
    """
    client = AIOKafkaClient(
        **kafka_client.client_options(settings.kafka), client_id="afterclick", request_timeout_ms=WAIT_MS
    )
    async with kafka_client.started(client, settings.kafka):
        of_topics = await _refused_topics(client, [right for right in rights if right.kind == "topic"])
        of_groups = [right for right in rights if right.kind == "group" and await _refused_group(client, right.name)]
    return [right for right in rights if right in of_topics or right in of_groups]


async def _refused_topics(client: AIOKafkaClient, rights: Sequence[Right]) -> set[Right]:
    names = list(dict.fromkeys(right.name for right in rights))
    node = client.get_random_node()
    answer = await client.send(node, MetadataRequest(names, allow_auto_topic_creation=False))
    codes = {topic: code for code, topic, *_ in answer.topics}
    hidden = {right for right in rights if codes[right.name] == NO_RIGHT}
    existing = [right for right in rights if codes[right.name] == 0]
    return hidden | {right for right in existing if await _refused_topic(client, node, right)}


async def _refused_topic(client: AIOKafkaClient, node: int, right: Right) -> bool:
    request: FetchRequest | ProduceRequest
    if right.operation == "READ":
        request = FetchRequest(0, 0, 1, 1, [(right.name, [(NO_PARTITION, 0, 1)])])
    else:
        request = ProduceRequest(None, 1, WAIT_MS, [(right.name, [(NO_PARTITION, b"")])])
    answer = await client.send(node, request)
    return NO_RIGHT in [code for _, partitions in answer.topics for _, code, *_ in partitions]


async def _refused_group(client: AIOKafkaClient, group: str) -> bool:
    try:
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        answer = await client.send(coordinator, HeartbeatRequest(group, -1, ""))
    except GroupAuthorizationFailedError:
        return True
    except (
        GroupCoordinatorNotAvailableError
    ):  # Kafka has just started, or has never had a group: nothing is refused yet
        return False
    return bool(answer.error_code == GroupAuthorizationFailedError.errno)
