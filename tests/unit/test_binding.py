"""A tier is bound to its app: assigned and revoked partitions, readiness, and the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from encoders.errors import AfterclickError
from streams import settings
from streams.faust_compat.app import App
from streams.settings import Settings
from streams.worker import binding
from streams.worker.binding import TierBinding, bind
from streams.worker.ending import Ending
from streams.worker.health import Health


class Bound:
    """A bound tier, and the calls that it got."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: AfterclickError | None = None
        self.catalogue_read = asyncio.Event()
        self.app = App("tests", fetch_wait_ms=100, broker="kafka://127.0.0.1:1", store="memory://")
        self.health = Health(settings.HealthSettings(), ["rank"])
        self.health.models_loaded = lambda: True
        self.ending = Ending()
        tier = TierBinding(
            "rank",
            self.catalogue_read,
            self.receive,
            self.assigned,
            self.revoked,
            self.close,
            (),
            in_hand=lambda: 3,
            facts=lambda: "a model",
        )
        bind(self.app, tier, Settings(grace_s=8), self.health, self.ending)

    @property
    def is_ready(self) -> bool:
        return not self.health.why_not_ready()

    async def receive(self, _: object) -> None:
        self.calls.append("stream")

    async def assigned(self) -> None:
        self.calls.append("assigned")
        if self.error:
            raise self.error

    async def revoked(self, partitions: object) -> None:
        self.calls.append(partitions)

    async def close(self, timeout_s: float) -> None:
        self.calls.append(timeout_s)


@pytest.fixture(autouse=True)
def no_freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the garbage collector of the tests alone."""
    monkeypatch.setattr(binding, "_keep_long_lived_objects", lambda: None)


def test_a_tier_is_ready_once_its_partitions_are_assigned_and_the_catalogue_is_read() -> None:
    async def test() -> list[Any]:
        tier = Bound()
        await tier.app.on_rebalance_complete.send()
        seen = [tier.is_ready]
        tier.catalogue_read.set()
        await tier.app.on_rebalance_complete.send()
        seen.append(tier.is_ready)
        await tier.app.on_partitions_revoked.send({"p"})
        return [*seen, tier.is_ready, tier.calls]

    assert asyncio.run(test()) == [False, True, False, ["assigned", "assigned", {"p"}]]


def test_the_first_assignment_counts_when_the_catalogue_is_read() -> None:
    async def test() -> list[Any]:
        tier = Bound()
        task: Any = tier.app._app_tasks[0]
        first = asyncio.create_task(task())
        await asyncio.sleep(0.01)
        before = list(tier.calls)
        tier.catalogue_read.set()
        await first
        return [before, tier.calls, tier.is_ready]

    assert asyncio.run(test()) == [[], ["assigned"], True]


def test_an_error_that_a_person_can_mend_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    monkeypatch.setattr("os.kill", lambda _, number: signals.append(number))

    async def test() -> tuple[Any, bool]:
        tier = Bound()
        tier.catalogue_read.set()
        tier.error = AfterclickError("written by a newer worker")
        await tier.app.on_rebalance_complete.send()
        return tier.ending.reason is tier.error, tier.is_ready

    assert asyncio.run(test()) == (True, False)
    assert len(signals) == 1


@pytest.mark.parametrize(("crashed", "timeout_s"), [(False, 4.0), (True, 0)])
def test_the_tier_has_half_of_the_grace_period_and_nothing_after_a_crash(crashed: bool, timeout_s: float) -> None:
    async def test() -> list[Any]:
        tier = Bound()
        if crashed:
            tier.app._crashed.set()
        await tier.app.close()
        return tier.calls

    assert asyncio.run(test()) == [timeout_s]
