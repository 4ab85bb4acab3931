"""Arguments of the fault harness: `make faults MINUTES=100 EVENTS=1000000 FAULTS=200 SEED=7`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--minutes", type=float, default=4, help="how long the load lasts")
    group.addoption("--events", type=int, default=20_000, help="messages in that time")
    group.addoption("--faults", type=int, default=24, help="how many faults")
    group.addoption("--seed", type=int, default=1)
    group.addoption("--brokers", type=int, default=3)
    group.addoption("--kinds", default="", help="only these faults, with commas")
    group.addoption("--users", type=int, default=20_000, help="whose states a worker restores")
    group.addoption("--overload", type=float, default=20, help="seconds at five times the load that is carried")
    group.addoption("--report", default="", help="write the campaign's outcome to this file as JSON")
