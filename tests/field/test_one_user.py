"""One user who clicks one item thousands of times, beside twenty others: what everybody else sees stays theirs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from streams.commands.doctor import doctor
from streams.contracts import COLD_START_USER
from streams.settings import RankerSettings, Settings
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import ITEMS, Client, now_ms, until, version

pytestmark = pytest.mark.field

HEAVY, TARGET, CLICKS = "heavy", "item-59", 4_000
OTHERS = [f"user-{number}" for number in range(20)]
EACH = 12


@dataclass
class Scene:
    """A worker that has taken in all of it, and when: the heavy user's clicks come over three hours, by their times."""

    client: Client
    settings: Settings
    running: WorkerProcess


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    settings = settings.model_copy(update={"ranker": RankerSettings(model="none")})
    client, chance, now = Client(settings), random.Random(3), now_ms()
    client.items()
    with worker(settings) as running:
        running.wait_ready()
        for user_id in OTHERS:
            for number in range(EACH):
                client.click(user_id, chance.choice(ITEMS[:59]), timestamp=now - (EACH - number) * 60_000)
        for number in range(CLICKS):
            client.click(HEAVY, TARGET, timestamp=now - 3 * 3_600_000 + number * 2_700)
            if number % 500 == 0:
                client.click(HEAVY, ITEMS[number // 500], timestamp=now - 3 * 3_600_000 + number * 2_700 + 1)
        client.flush()
        until(lambda: version(client, HEAVY, CLICKS + CLICKS // 500), 60)
        for user_id in OTHERS:
            until(partial(version, client, user_id, EACH), 60)
            client.click(user_id, chance.choice(ITEMS[:59]))
        client.flush()
        for user_id in OTHERS:
            until(partial(version, client, user_id, EACH + 1), 60)
        yield Scene(client, settings, running)


def test_a_heavy_user_counts_as_one(scene: Scene) -> None:
    def first(user_id: str) -> str:
        return str(scene.client.cached(user_id)["items"][0]["item_id"])

    assert [user_id for user_id in OTHERS if first(user_id) == TARGET] == []
    cold_start = until(lambda: scene.client.cached(COLD_START_USER))
    assert cold_start["items"][0]["item_id"] != TARGET
    trending = [item["item_id"] for item in cold_start["items"] if "trending" in item["sources"]]
    assert trending.index(TARGET) > 5 if TARGET in trending else trending
    assert scene.running.total("afterclick_events_uncounted_total", reason="busy") > CLICKS / 5, "1,333 clicks an hour"
    assert scene.running.total("afterclick_events_total", outcome="accepted", topic="clicks") == (
        CLICKS + CLICKS // 500 + len(OTHERS) * (EACH + 1)
    ), "and each counts for the user"

    _check_repeats(scene)


def _check_repeats(scene: Scene) -> None:
    """Three lines of an order and a click with one id are four events; the same click again and again is one."""
    for item in ("item-1", "item-2", "item-3"):
        scene.client.click("buyer", item, event_id="order-1", topic="purchases")
    scene.client.click("buyer", "item-1", event_id="order-1")
    scene.client.flush()
    until(lambda: version(scene.client, "buyer", 4))
    for _ in range(400):
        scene.client.click("buyer", "item-1", event_id="order-1")
    scene.client.flush()
    until(lambda: scene.running.total("afterclick_events_total", outcome="duplicate", topic="clicks") == 400)
    assert "clicks and purchases are repeats" in scene.running.log.read_text()
    found = doctor._repeats(scene.settings.metrics)
    assert not found.ok
    assert "unique" in found.advice
