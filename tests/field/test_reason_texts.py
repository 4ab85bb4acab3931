"""Reasons in the words of a language model: they follow the list, and never a newer one, whoever races or dies."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from streams.models.text_process import NICENESS
from streams.settings import ReasonsSettings, Settings
from streams.testing.embedded import free_port
from streams.testing.worker_process import worker
from tests import models
from tests.client import ITEMS, Client, until, version

USERS = [f"user-{number}" for number in range(24)]
CLICKS = 8
TITLE = "Walking boots"
TEXT = f'You viewed "{TITLE}", so this may interest you.'
WORDED = f"You viewed “{TITLE}”, so this may interest you"


def is_worded(list_: Any) -> bool:
    return all(item["reason"]["text"] == WORDED for item in list_["items"])


def test_texts_follow_their_list_and_no_newer_one(settings: Settings, client: Client, tmp_path: Path) -> None:
    model = models.decoder_that_says(tmp_path / "model", TEXT)
    settings = settings.model_copy(update={"reasons": ReasonsSettings(model=str(model), items=20)})
    beside = {"metrics": settings.metrics.model_copy(update={"port": free_port()})}
    with worker(settings, "all") as running, worker(settings.model_copy(update=beside), "rank") as other:
        running.wait_ready()
        other.wait_ready()
        for item_id in ITEMS:
            client.produce("items", item_id, {"item_id": item_id, "title": TITLE, "categories": ["boots"]})
        client.flush()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        for user_id in USERS:
            client.click(user_id, "item-0")
        client.flush()
        until(lambda: any(map(is_worded, filter(None, map(client.cached, USERS)))), 60)
        for number in range(1, CLICKS):
            for index, user_id in enumerate(USERS):
                client.click(user_id, ITEMS[number * 7 + index % 7])
                time.sleep(0.01)
            client.flush()
            if number == CLICKS // 2:
                other.process.send_signal(signal.SIGKILL)
        until(lambda: all(version(client, user_id, CLICKS) for user_id in USERS), 60)
        until(lambda: all(is_worded(client.cached(user_id)) for user_id in USERS), 60)
        os.kill(process_of_the_model(running.process.pid), signal.SIGKILL)
        client.click(USERS[0], ITEMS[0])
        client.flush()
        until(lambda: version(client, USERS[0], CLICKS + 1) and is_worded(client.cached(USERS[0])), 60)
        texts = check_the_topic(client)
        newest = client.newest()
        assert {user_id: newest[user_id] for user_id in USERS} == {user_id: client.cached(user_id) for user_id in USERS}
        superseded = running.total("afterclick_reason_lists_total", outcome="superseded")
        assert superseded > 0, "nothing raced"
        print(f"{texts} lists with texts, {superseded:.0f} superseded")
        assert running.stop() == 0


def process_of_the_model(worker_pid: int) -> int:
    """The child of a worker that gives way to all others."""
    niceness = os.getpriority(os.PRIO_PROCESS, worker_pid) + NICENESS
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == worker_pid and int(fields[16]) == niceness:
                return int(stat.parent.name)
    raise AssertionError("no process words reasons")


def check_the_topic(client: Client) -> int:
    """Every text is in the record behind its own list. Returns the number of lists with texts."""
    records = defaultdict(list)
    for key, list_ in client.consume("recommendations"):
        records[key].append(list_)
    texts = 0
    for user_id in USERS:
        earlier: Any = None
        for list_ in records[user_id]:
            if list_.get("reasons_version"):
                texts += 1
                assert is_worded(list_)
                assert all(item["reason"]["evidence"] for item in list_["items"])
                assert list_["list_id"] == earlier["list_id"], "texts after a newer list"
                assert [item["item_id"] for item in list_["items"]] == [item["item_id"] for item in earlier["items"]]
                assert list_["generated_at"] > earlier["generated_at"]
            else:
                assert not is_worded(list_)
            earlier = list_
    return texts
