"""A managed Kafka: topics with the settings that it allows, tokens that expire, rejected messages over its limit."""

from __future__ import annotations

import asyncio
import base64
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]
from pydantic import SecretStr

from streams.kafka.client import KafkaRefuses, KafkaUnavailable
from streams.kafka.topics import ensure_topics, topic_specs
from streams.settings import (
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    RedisSettings,
    SecuritySettings,
    Settings,
    TablesSettings,
)
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, environment, worker
from tests.client import Client, until, version
from tests.field import managed
from tests.field.managed import SESSION_MS, ManagedAddresses

PROVIDER = "tests.field.tokens:token"
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as in test_secured


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("managed")


@pytest.fixture(scope="module")
def addresses(kafka_home: Path, folder: Path) -> Iterator[ManagedAddresses]:
    with managed.kafka(kafka_home, folder) as found:
        yield found


@pytest.fixture(scope="module")
def ours(addresses: ManagedAddresses, redis_url: str, folder: Path) -> Settings:
    """Settings of a worker that logs in with tokens."""
    security = SecuritySettings.model_validate(
        {"protocol": "sasl_plaintext", "sasl_mechanism": "oauthbearer", "token_provider": PROVIDER}
    )
    return Settings(
        topic_prefix="managed.",
        kafka=KafkaSettings(bootstrap_servers=addresses.token, security=security, partitions=2, replication_factor=-1),
        redis=RedisSettings(url=SecretStr(redis_url), key_prefix="managed:list:"),
        tables=TablesSettings(data_dir=folder / "tables"),
        metrics=MetricsSettings(port=free_port()),
        ranker=RankerSettings(model="none"),
    )


@pytest.fixture(scope="module")
def running(ours: Settings, folder: Path) -> Iterator[WorkerProcess]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("COUNT_TOKENS", str(folder / "tokens"))
        with worker(ours) as started:
            started.wait_ready()
            yield started


@pytest.fixture(scope="module")
def client(ours: Settings, addresses: ManagedAddresses, running: WorkerProcess) -> Client:
    plain = ours.kafka.model_copy(update={"bootstrap_servers": addresses.plain, "security": SecuritySettings()})
    made = Client(ours.model_copy(update={"kafka": plain}))
    made.items()
    return made


def test_topics_are_created_with_the_settings_that_the_broker_takes_and_the_log_says_what_is_lost(
    ours: Settings, addresses: ManagedAddresses, running: WorkerProcess
) -> None:
    names = {name: ours.topic(name) for name in ("recommendations", "rank-requests", "dead-letters")}
    resources = {name: ConfigResource(ConfigResource.Type.TOPIC, full) for name, full in names.items()}
    client = AdminClient({"bootstrap.servers": addresses.plain})
    futures = client.describe_configs(list(resources.values()))
    configs = {name: futures[resource].result(10) for name, resource in resources.items()}
    assert configs["recommendations"]["cleanup.policy"].value == "compact"
    assert configs["rank-requests"]["cleanup.policy"].value == "compact,delete"
    assert configs["rank-requests"]["retention.ms"].value == "3600000", "what it takes stays"
    assert configs["dead-letters"]["max.message.bytes"].value == str(8 << 20)
    told = [line for line in running.log.read_text().splitlines() if "the broker refuses" in line]
    assert [line.split("the broker refuses ")[1].split(" ")[0] for line in told] == [
        "max.compaction.lag.ms",
        "message.timestamp.type",
        "segment.bytes",
    ]
    assert "a forgotten user" in told[0]
    assert all(ours.topic("recommendations") in line for line in told)


def test_a_topic_that_the_broker_refuses_in_any_form_is_an_error_with_its_reason(
    ours: Settings, addresses: ManagedAddresses
) -> None:
    plain = KafkaSettings(bootstrap_servers=addresses.plain, partitions=2, replication_factor=3)
    settings = ours.model_copy(update={"kafka": plain, "topic_prefix": "other."})
    with pytest.raises(Exception, match=r"REPLICATION_FACTOR: got 3, expected at most 1.*set -1 for the broker's"):
        asyncio.run(ensure_topics(settings, topic_specs(settings)))


def test_a_message_size_that_the_broker_refuses_is_left_out(
    ours: Settings, addresses: ManagedAddresses, caplog: pytest.LogCaptureFixture
) -> None:
    plain = KafkaSettings(bootstrap_servers=addresses.plain, partitions=2)
    wide = ours.candidates.model_copy(update={"limit": 5_000})
    settings = ours.model_copy(update={"kafka": plain, "topic_prefix": "wide.", "candidates": wide})
    with caplog.at_level(logging.WARNING):
        largest = asyncio.run(ensure_topics(settings, topic_specs(settings)))
    assert largest["wide.rank-requests"] == 1_048_588
    assert sum("the broker refuses max.message.bytes for wide.rank-requests" in line for line in caplog.messages) == 1
    assert sum(line.startswith("topic wide.rank-requests: got max.message.bytes=") for line in caplog.messages) == 1


def test_lists_come_while_tokens_and_connections_expire(
    client: Client, running: WorkerProcess, ours: Settings, folder: Path
) -> None:
    tokens = folder / "tokens"
    before = len(tokens.read_text())
    end = time.monotonic() + 3 * SESSION_MS / 1000
    number = 0
    while time.monotonic() < end:
        number += 1
        client.click("ann", f"item-{number}")
        client.flush()
        until(partial(version, client, "ann", number), 20)
        time.sleep(0.3)
    assert len(tokens.read_text()) > before, "the tokens of the start are over"
    assert running.get("/livez")[0] == 200
    assert running.total("afterclick_events_total", topic="clicks", outcome="accepted") == number
    assert running.total("afterclick_dead_letters_total") == 0


def test_an_issuer_that_is_away_is_two_lines_and_no_crash(client: Client, running: WorkerProcess, folder: Path) -> None:
    (folder / "FAIL").touch()
    time.sleep(2 * SESSION_MS / 1000)
    client.click("bob", "item-1")
    client.flush()
    time.sleep(2)
    (folder / "FAIL").unlink()
    until(lambda: version(client, "bob", 1), 40)
    lines = running.log.read_text().splitlines()
    assert sum("no token from tests.field.tokens:token: got OSError: the issuer is away" in line for line in lines) <= 3
    assert sum("tests.field.tokens:token gives tokens again" in line for line in lines) == 1
    assert not [line for line in lines if "Traceback" in line]


def test_a_rejected_message_larger_than_the_topic_takes_is_cut_and_not_sent_again(
    client: Client, running: WorkerProcess, ours: Settings, addresses: ManagedAddresses
) -> None:
    wide = ConfigEntry("max.message.bytes", str(16 << 20), incremental_operation=AlterConfigOpType.SET)
    clicks = ConfigResource(ConfigResource.Type.TOPIC, ours.topic("clicks"), incremental_configs=[wide])
    admin = AdminClient({"bootstrap.servers": addresses.plain})  # its answers end with it
    for future in admin.incremental_alter_configs([clicks]).values():
        future.result(10)
    before = running.total("afterclick_dead_letters_total")
    client.produce("clicks", "k", b"[" * (7 << 20))
    client.produce("clicks", "k", b"[" * (2 << 20))
    client.flush()
    until(lambda: running.total("afterclick_dead_letters_total") == before + 2)
    letters = [
        letter
        for _, letter in until(lambda: [*client.consume("dead-letters")][1:] and [*client.consume("dead-letters")])
    ]
    cut, whole = sorted(letters, key=lambda letter: "payload_bytes" not in letter)
    assert cut["payload_bytes"] == 7 << 20
    assert 6_000_000 < len(base64.b64decode(cut["payload"])) < 6 << 20
    assert base64.b64decode(whole["payload"]) == b"[" * (2 << 20)
    retried = afterclick(client.settings, "dead-letters", "retry", "--dry-run")
    assert retried.returncode == 1
    assert retried.stdout.startswith("would send 1, cannot send 1")


def test_commands_log_in_with_tokens_and_say_which_are_refused(ours: Settings, folder: Path) -> None:
    asked = afterclick(ours, "forget", "ann", tokens=folder / "tokens")
    assert (asked.returncode, asked.stderr) == (0, "")
    refused = "got a refusal of the token from"
    for name, said in (
        ("over", rf"{refused} tests.field.tokens:over \(.*invalid_token.*TOKEN_PROVIDER$"),
        ("unreadable", rf"{refused} tests.field.tokens:unreadable \("),
        ("broken", r"got no token from tests.field.tokens:broken: got OSError: no issuer, expected a token"),
    ):
        security = ours.kafka.security.model_copy(update={"token_provider": f"tests.field.tokens:{name}"})
        settings = ours.model_copy(update={"kafka": ours.kafka.model_copy(update={"security": security})})
        with pytest.raises(KafkaUnavailable if name == "broken" else KafkaRefuses, match=said) as caught:
            asyncio.run(ensure_topics(settings, topic_specs(settings)))
        assert "\n" not in str(caught.value)


def afterclick(settings: Settings, *arguments: str, tokens: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        env=environment(settings) | ({"COUNT_TOKENS": str(tokens)} if tokens else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
