"""Every benchmark of `afterclick bench` that needs servers, in its smallest form, on a real Kafka and a real Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.bench import command, state, worker_client
from streams.bench.servers import Servers
from streams.settings import Settings
from tests.field.small_benchmarks import check_figures, make_small


@pytest.fixture(autouse=True)
def small(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all benchmarks small, and let them use the servers of the tests."""
    make_small(tmp_path, monkeypatch)
    monkeypatch.setenv("AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS", settings.kafka.bootstrap_servers)
    monkeypatch.setenv("AFTERCLICK_REDIS__URL", settings.redis.url.get_secret_value())


@pytest.mark.parametrize("name", command.ON_KAFKA)
def test_a_benchmark_runs_and_reports_its_figures(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_figures(name, tmp_path, capsys)


def test_the_faust_agent_that_the_state_tier_is_compared_with_keeps_every_event(settings: Settings) -> None:
    """The peer of `afterclick bench state`: its states in the changelog have all the clicks."""
    servers = Servers(settings, "the tests' Kafka", embedded=False, persistent=True)
    with worker_client.worker_client(servers, "none") as client, state.per_event_agent(client.settings):
        assert state.events_per_s(client) > 0
