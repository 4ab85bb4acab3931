"""A Kafka that grants few rights: each missing right stops the start with one line that names right and resource."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from streams.commands.doctor.doctor import examine
from streams.kafka import rights
from streams.kafka.rights import Right
from streams.kafka.topics import ensure_topics, topic_specs
from streams.settings import (
    EncoderSettings,
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    RedisSettings,
    SecuritySettings,
    Settings,
    TablesSettings,
)
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import now_ms, until

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
PROPERTIES = f"""authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.plaintext.plain.sasl.jaas.config={PLAIN} username="admin" password="root" \\
  user_admin="root" user_app="secret";
"""


@pytest.fixture(scope="module")
def authorised(kafka_home: Path) -> Iterator[str]:
    with ApacheKafka(kafka_home, PROPERTIES) as running:
        yield running.bootstrap_servers


def settings_of(user: str, password: str, servers: str, redis_url: str, folder: Path) -> Settings:
    security = SecuritySettings(
        protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_username=user, sasl_password=SecretStr(password)
    )
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=servers, security=security, partitions=1),
        redis=RedisSettings(url=SecretStr(redis_url), key_prefix=f"{uuid.uuid4().hex}:"),
        tables=TablesSettings(data_dir=folder / "data"),
        metrics=MetricsSettings(port=free_port()),
        encoder=EncoderSettings(),
        ranker=RankerSettings(model="none"),
    )


@pytest.fixture
def settings(authorised: str, redis_url: str, tmp_path: Path) -> Settings:
    """Our user's; every topic is there, made by the administrator."""
    root = settings_of("admin", "root", authorised, redis_url, tmp_path)
    asyncio.run(ensure_topics(root, topic_specs(root)))
    return settings_of("app", "secret", authorised, redis_url, tmp_path)


def click(settings: Settings) -> None:
    """The shop has an item and a click, so that the worker has something to write."""
    sending = Producer(login(settings.kafka.bootstrap_servers))
    sending.produce("items", json.dumps({"item_id": "i", "title": "A boot"}), "i")
    for number in range(3):
        event = {"event_id": str(number), "user_id": "ann", "item_id": "i", "timestamp": now_ms()}
        sending.produce("clicks", json.dumps(event), "ann")
    assert sending.flush(10) == 0


def login(servers: str) -> dict[str, Any]:
    """The administrator's."""
    return {
        "bootstrap.servers": servers,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "admin",
        "sasl.password": "root",
    }


class Grants:
    """What our user may, set by the administrator."""

    def __init__(self, servers: str) -> None:
        self._admin = AdminClient(login(servers))

    def take(self, right: Right | None) -> None:
        """Take this right away and no other, not even for a moment; all, for None."""
        anything: Any = None
        rights_ = AclBindingFilter(
            ResourceType[right.kind.upper()] if right else ResourceType.ANY,
            right.name if right else anything,
            ResourcePatternType.LITERAL if right else ResourcePatternType.ANY,
            "User:app",
            anything,
            AclOperation[right.operation] if right else AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for deleted in self._admin.delete_acls([rights_]).values():
            deleted.result(10)

    def only(self, granted: Sequence[Right]) -> None:
        self.take(None)
        bindings = [
            AclBinding(
                ResourceType[right.kind.upper()],
                right.name,
                ResourcePatternType.LITERAL,
                "User:app",
                "*",
                AclOperation[right.operation],
                AclPermissionType.ALLOW,
            )
            for right in granted
        ]
        if bindings:
            for made in self._admin.create_acls(bindings).values():
                made.result(10)


@pytest.fixture
def grants(authorised: str, settings: Settings) -> Grants:
    return Grants(authorised)


def end_of(settings: Settings) -> str:
    """What a worker says that ends by itself with status 2."""
    running = WorkerProcess(settings)
    try:
        assert running.process.wait(60) == 2, running.log_end()
        return running.log.read_text()
    finally:
        running.kill()


@pytest.mark.parametrize("role", ["state", "rank"])
def test_exactly_the_missing_rights_are_found(settings: Settings, grants: Grants, role: rights.Role) -> None:
    needed = rights.needed(settings, [role])

    def is_missing(*expected: Right) -> bool:
        return asyncio.run(rights.missing(settings, needed)) == list(expected)

    grants.only(needed)
    until(is_missing, 10)
    for one in needed:
        grants.only([right for right in needed if right != one])
        until(partial(is_missing, one), 10)


def test_a_worker_without_a_right_ends_with_its_name(settings: Settings, grants: Grants) -> None:
    needed = rights.needed(settings, ("state", "rank"))
    missing = [
        Right("READ", "topic", "purchases"),
        Right("WRITE", "topic", "rank-requests"),
        Right("READ", "group", "afterclick-state"),
    ]
    grants.only([right for right in needed if right not in missing])
    until(lambda: asyncio.run(rights.missing(settings, needed)) == missing, 10)
    said = end_of(settings)
    for right in missing:
        assert f"{right.kind} {right.name}: got no right to {right.operation}, expected it for user 'app'" in said
    assert "Traceback" not in said
    checks = {check.name: check for check in asyncio.run(examine(settings))}
    assert not checks["rights in Kafka"].ok
    assert "topic purchases: got no right to READ" in checks["rights in Kafka"].advice


def test_a_worker_without_any_right_names_the_resources_that_it_cannot_see(settings: Settings, grants: Grants) -> None:
    grants.only([])
    said = end_of(settings)
    assert "topic clicks: got no right to READ, expected it for user 'app'" in said
    assert "group afterclick-state: got no right to READ" in said
    assert "Traceback" not in said
    checks = {check.name: check for check in asyncio.run(examine(settings))}
    assert not checks["rights in Kafka"].ok


@pytest.mark.parametrize(
    "lost",
    [
        Right("READ", "topic", "clicks"),
        Right("READ", "group", "afterclick-rank"),
        Right("WRITE", "topic", "rank-requests"),
    ],
    ids=lambda right: f"{right.operation} {right.kind}",
)
def test_a_right_that_is_taken_away_ends_a_worker_with_its_name(
    settings: Settings, grants: Grants, lost: Right
) -> None:
    needed = rights.needed(settings, ("state", "rank"))
    grants.only(needed)
    until(lambda: asyncio.run(rights.missing(settings, needed)) == [], 10)
    with worker(settings) as running:
        running.wait_ready()
        grants.take(lost)
        click(settings)
        assert running.process.wait(60) == 2, running.log_end()
        said = running.log.read_text()
        assert f"AuthorizationFailedError: {lost.name}, expected the right to work with it" in said
        assert "Traceback" not in said
