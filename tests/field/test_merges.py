"""Visitors are merged into members by two workers, which are killed in the middle: nothing is lost or counted twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from streams.settings import MetricsSettings, Settings, TablesSettings
from streams.testing.embedded import free_port
from streams.testing.worker_process import worker
from tests.client import ITEMS, Client, now_ms, until

pytestmark = pytest.mark.field


def test_workers_that_are_killed_in_the_middle_of_merges(settings: Settings, client: Client, tmp_path: Path) -> None:
    other = settings.model_copy(
        update={"tables": TablesSettings(data_dir=tmp_path / "other"), "metrics": MetricsSettings(port=free_port())}
    )
    chance, visitors, members = random.Random(3), [f"visitor-{n}" for n in range(60)], [f"member-{n}" for n in range(6)]
    member_of = {visitor: members[number % len(members)] for number, visitor in enumerate(visitors)}
    wanted = dict.fromkeys(members, 0)
    client.items()

    def click(user_id: str) -> None:
        client.click(user_id, chance.choice(ITEMS), timestamp=now_ms() - chance.randrange(10**8))
        wanted[member_of.get(user_id, user_id)] += 1

    def merge(visitor: str) -> None:
        value = {"from_user_id": visitor, "into_user_id": member_of[visitor], "timestamp": now_ms()}
        client.produce("merges", visitor, value)

    for user_id in (*visitors, *members):
        for _ in range(3):
            click(user_id)
    client.flush()
    with worker(settings, "all") as first:
        first.wait_ready()
        until(lambda: client.cached(visitors[0]))
        with worker(other, "state") as second:
            second.wait_ready()
            for visitor in visitors[:40]:
                merge(visitor)
                click(visitor)
            client.flush()
            until(lambda: first.total("afterclick_states_taken_in_total", outcome="joined") > 0)
            first.kill()
            second.kill()
    with worker(settings, "all") as third:
        third.wait_ready()
        for visitor in visitors:
            merge(visitor)
            click(visitor)
        client.flush()
        until(lambda: third.total("afterclick_events_total", topic="merges", outcome="accepted") > 0)
        third.kill()
    with worker(settings, "all") as running:
        running.wait_ready()
        until(lambda: {user: (client.cached(user) or {}).get("state_version") for user in members} == wanted, 60)
        until(lambda: running.total("afterclick_consumer_lag_messages") == 0)
        newest = client.newest()
        assert {user for user, list_ in newest.items() if list_ is not None} == set(members)
        assert not [visitor for visitor in visitors if client.cached(visitor)]
        assert running.total("afterclick_dead_letters_total") == 0
