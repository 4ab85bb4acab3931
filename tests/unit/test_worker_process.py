"""A worker process seen from outside: waiting until it is ready, stopping it, and the log of a failed worker."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from streams.settings import MetricsSettings, Settings, TablesSettings
from streams.testing import worker_process
from streams.testing.embedded import free_port

FAKE = """
import os, signal, sys, time
from prometheus_client import Gauge, start_http_server
ready = Gauge("afterclick_worker_ready", "", ["tier"])
tiers = [ready.labels(tier) for tier in ("state", "rank")]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
start_http_server(int(os.environ["AFTERCLICK_METRICS__PORT"]))
print("started", *sys.argv[1:], flush=True)
for tier in tiers:
    time.sleep(0.2)
    tier.set(1)
signal.pause()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tables=TablesSettings(data_dir=tmp_path / "data"), metrics=MetricsSettings(port=free_port()))


def test_wait_ready_waits_for_every_tier_and_stop_returns_the_exit_code(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "COMMAND", (sys.executable, "-c", FAKE))
    with worker_process.worker(settings, "all") as running:
        running.wait_ready(20)
        assert [s.value for s in running.samples() if s.name == "afterclick_worker_ready"] == [1, 1]
        assert running.stop() == 7
    assert "started --role all" in running.log_end()


def test_a_killed_worker_has_the_status_of_the_signal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "COMMAND", (sys.executable, "-c", FAKE))
    with worker_process.worker(settings, "state") as running:
        running.wait_ready(20)
        running.kill()
        assert running.process.returncode == -signal.SIGKILL


def test_a_worker_that_ends_early_raises_an_error_with_its_log(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "COMMAND", (sys.executable, "-c", "raise SystemExit('no such broker')"))
    with (
        pytest.raises(worker_process.WorkerFailed, match=r"exit code 1.*\n.*no such broker"),
        worker_process.worker(settings, "all") as running,
    ):
        running.wait_ready(20)
