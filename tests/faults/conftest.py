"""Options of the fault harness: `make faults MINUTES=100 EVENTS=1000000 FAULTS=200 SEED=7`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--minutes", type=float, default=4, help="how long the load lasts")
    group.addoption("--events", type=int, default=20_000, help="number of messages in that time")
    group.addoption("--faults", type=int, default=24, help="number of faults")
    group.addoption("--seed", type=int, default=1, help="seed of the faults and the messages")
    group.addoption("--brokers", type=int, default=3, help="number of Kafka brokers")
    group.addoption("--kinds", default="", help="comma-separated faults; by default all")
    group.addoption("--users", type=int, default=20_000, help="number of users whose states a worker restores")
    group.addoption("--overload", type=float, default=20, help="seconds at five times a worker's capacity")
    group.addoption("--report", default="", help="file for the campaign's results as JSON")
