"""Prometheus' own tool reads the configuration, the rules and the metrics, and runs the tests of the alerts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.documents import ROOT
from tests.monitoring import PROMETHEUS, dashboard_expressions


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool: needs Debian's package prometheus, or promtool of another Prometheus on PATH")
    return found


def run(*command: str, stdin: str = "") -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_accepts_the_configuration_and_its_rules(promtool: str) -> None:
    run(promtool, "check", "config", "--lint=all", "--lint-fatal", str(PROMETHEUS / "prometheus.yml"))


def test_prometheus_can_read_what_the_dashboard_asks(promtool: str, tmp_path: Path) -> None:
    asked = [{"record": f"panel:{i}", "expr": each.text} for i, each in enumerate(dashboard_expressions())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    run(promtool, "check", "rules", str(tmp_path / "panels.yml"))


def test_each_alert_fires_when_it_should_and_only_then(promtool: str) -> None:
    run(promtool, "test", "rules", str(PROMETHEUS / "tests/alerts.yml"))


def test_prometheus_has_nothing_against_the_metrics(promtool: str) -> None:
    code = (
        "from prometheus_client import generate_latest\nfrom streams import metrics\nprint(generate_latest().decode())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert run(promtool, "check", "metrics", stdin=shown) == ""
