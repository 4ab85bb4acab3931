"""Every benchmark of `afterclick bench` that needs no server, in its smallest form, and the costs of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.bench import command, costs
from streams.settings import Settings
from streams.sizing.costs import DEFAULTS
from tests.field.small_benchmarks import check_figures, make_small


@pytest.mark.parametrize("name", [name for name in command.BENCHES if name not in command.ON_KAFKA])
def test_a_benchmark_runs_and_reports_its_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_small(tmp_path, monkeypatch)
    check_figures(name, tmp_path, capsys)


def test_the_costs_of_a_plan_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USERS": 1_000, "CATALOGUE": 1_000, "CALLS": 1}.items():
        monkeypatch.setattr(costs, name, value)
    done: list[int] = []
    measured = costs.measure(Settings(), lambda _: lambda count, _total: done.append(count))
    assert done == [1, 2, 3]
    assert measured.machine != DEFAULTS.machine
    assert 0 < measured.event_core_ms < 50
    assert 0 < measured.score_core_ms(100) < 200
    assert 500 < measured.item_bytes < 100_000
    assert 3_000 < measured.record_bytes <= 4_096
