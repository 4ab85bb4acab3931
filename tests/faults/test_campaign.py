"""A campaign of faults: events are sent while everything that they pass through is broken in turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.faults import report
from tests.faults.campaign import Plan, run


def test_nothing_is_lost_doubled_or_stale(
    kafka_home: Path, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    option = pytestconfig.getoption
    kinds = tuple(filter(None, option("--kinds").split(",")))
    plan = Plan(
        option("--minutes"), option("--events"), option("--faults"), option("--seed"), option("--brokers"), kinds
    )
    with capsys.disabled():
        console = Console()
        outcome = run(tmp_path, kafka_home, plan, console)
        report.show(outcome, console)
    if option("--report"):
        report.write(outcome, Path(option("--report")))
    assert outcome.verdict.good, outcome.verdict.examples
    assert not outcome.faults.not_recovered, outcome.faults.not_recovered
