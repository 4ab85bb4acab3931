"""A worker whose model is replaced while users click: each list is by one of the two, and it learns from feedback."""

from __future__ import annotations

import threading
from pathlib import Path

from ranker.version import version
from streams.settings import Settings
from streams.testing.worker_process import worker
from tests.client import ITEMS, Client, until
from tests.client import version as has_version
from tests.unit.test_fusion import folder

USERS = [f"user-{number}" for number in range(8)]
PAUSE_S = 0.02


def test_a_model_is_replaced_under_load_and_learns_from_feedback(settings: Settings, tmp_path: Path) -> None:
    base = settings.encoder.model
    one, other = folder(tmp_path / "one", base, seed=1), folder(tmp_path / "other", base, seed=2)
    current, following = tmp_path / "current", tmp_path / "next"
    current.symlink_to(one)
    following.symlink_to(other)
    ranker = settings.ranker.model_copy(update={"model": str(current), "follow_s": 0.2})
    settings = settings.model_copy(update={"ranker": ranker})
    client = Client(settings)
    before, enough, clicks = version(str(current)), threading.Event(), dict.fromkeys(USERS, 0)

    def click() -> None:
        while not enough.wait(PAUSE_S):
            for user_id in USERS[sum(clicks.values()) % len(USERS) :][:1]:
                client.click(user_id, ITEMS[clicks[user_id] % len(ITEMS)])
                clicks[user_id] += 1
        client.flush()

    with worker(settings, "all") as running:
        running.wait_ready()
        client.items()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        clicking = threading.Thread(target=click)
        clicking.start()
        try:
            until(lambda: running.total("afterclick_lists_total", model=before) > 20)
            following.replace(current)
            after = version(str(current))
            until(lambda: running.total("afterclick_lists_total", model=after) > 20, 60)
        finally:
            enough.set()
            clicking.join()
        until(lambda: all(has_version(client, user_id, clicks[user_id]) for user_id in USERS))
        assert running.total("afterclick_model_swaps_total", outcome="served") == 1
        lists = [value for key, value in client.consume("recommendations") if key in USERS]
        assert {list_["model"] for list_ in lists} == {before, after}
        assert {list_["degraded"] for list_ in lists} == {None}, "no request went without a model"

        shown = client.cached(USERS[0])
        client.click(USERS[0], shown["items"][3]["item_id"], list_id=shown["list_id"])
        client.flush()
        until(lambda: running.total("afterclick_feedback_total", model=after) == 1)
        until(lambda: running.total("afterclick_feedback_loss_nats_total", model=after, head="live") > 0)
