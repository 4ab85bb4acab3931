"""Items that are deleted or not available leave every published list, of users who never click again, too."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import Any

from streams.settings import RankerSettings, Settings
from streams.testing.embedded import free_port
from streams.testing.worker_process import worker
from tests.client import ITEMS, Client, now_ms, until, version
from tests.field.test_placements import upstream

SILENT = [f"silent-{number}" for number in range(4_000)]
"""Users whose lists are in the topic, and who never click again."""
PROMISED_S = 10


def shown(list_: Any) -> list[str]:
    return [item["item_id"] for item in list_["items"]]


def silent_list(user_id: str, items: list[str]) -> dict[str, Any]:
    reason = {"text": "Picked for you", "evidence": []}
    listed = [
        {"item_id": item_id, "rank": rank, "score": 1 / rank, "sources": ["nearest"], "reason": reason}
        for rank, item_id in enumerate(items, 1)
    ]
    times = {"as_of": now_ms(), "generated_at": now_ms(), "state_version": 3}
    of_model = {"model": "m@1", "trigger": None, "degraded": None, "placement": None}
    return {"schema": 2, "list_id": f"of {user_id}", "user_id": user_id, **times, **of_model, "items": listed}


def test_items_leave_the_lists(settings: Settings, client: Client) -> None:
    settings = settings.model_copy(update={"ranker": RankerSettings(placements=("cart",))})
    client.settings = settings
    with worker(settings, "all") as running:
        running.wait_ready()
        client.items()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        for number in (0, 5):
            client.click("ann", f"item-{number}")
        client.click("bob", "item-2")
        client.flush()
        until(lambda: version(client, "ann", 2) and version(client, "bob", 1) and client.cached("*"))
        upstream(client, "ann", "cart", "r1")
        before = {key: until(partial(client.cached, key)) for key in ("ann", "ann:cart", "*")}
        check_an_unchanged_upload(running, client)
        deleted, sold_out = "item-10", next(i for i in shown(before["ann"]) if i != "item-10")
        assert deleted in shown(before["ann"])
        assert deleted in shown(before["ann:cart"])
        client.produce("forget", "bob", {"user_id": "bob", "timestamp": now_ms()})
        client.flush()
        until(lambda: client.newest()["bob"] is None)
        client.produce("items", deleted, None)
        client.produce("items", sold_out, {"item_id": sold_out, "title": "Sold out", "available": False})
        client.flush()
        began_s = time.monotonic()
        until(lambda: not {deleted, sold_out} & {i for key in before for i in shown(client.cached(key))}, PROMISED_S)
        for key in ("ann", "ann:cart"):
            check_the_same_list(before[key], client.cached(key), {deleted, sold_out})
            assert client.newest()[key] == client.cached(key)
        assert time.monotonic() - began_s < PROMISED_S
        assert client.newest()["bob"] is None
        assert running.total("afterclick_withdrawal_pending_lists") == 0

        ttl: Any = client.redis.ttl(settings.key_prefix + "ann")
        assert settings.redis.ttl_s - 60 < ttl <= settings.redis.ttl_s
        client.click("ann", "item-20")
        client.produce("items", sold_out, {"item_id": sold_out, "title": "Back", "categories": ["walking boots"]})
        client.flush()
        until(lambda: version(client, "ann", 3))
        client.click("ann", "item-25")
        client.flush()
        until(lambda: version(client, "ann", 4))
        assert deleted not in shown(client.cached("ann"))
        check_a_kill(running, client, settings)


def check_an_unchanged_upload(running: Any, client: Client) -> None:
    def done() -> list[float]:
        tokens = [running.total("afterclick_text_tokens_total", reader=reader) for reader in ("encoder", "ranker")]
        return [*tokens, running.total("afterclick_catalogue_records_total", outcome="changed")]

    before, newest = done(), client.newest()
    client.items()
    until(lambda: running.total("afterclick_catalogue_records_total", outcome="unchanged") >= len(ITEMS))
    time.sleep(1)
    assert (done(), client.newest()) == (before, newest)


def check_the_same_list(before: Any, after: Any, gone: set[str]) -> None:
    left = [item for item in before["items"] if item["item_id"] not in gone]
    renumbered = [item | {"rank": rank} for rank, item in enumerate(left, 1)]
    assert after == before | {"items": renumbered, "generated_at": after["generated_at"]}
    assert after["generated_at"] > before["generated_at"]


def check_a_kill(running: Any, client: Client, settings: Settings) -> None:
    """SIGKILL in the middle of a withdrawal from lists that another program wrote: the next two workers finish it."""
    for number, user_id in enumerate(SILENT):
        items = ["item-30"] if number % 500 == 0 else ["item-30", "item-31"]
        client.produce("recommendations", user_id, silent_list(user_id, items))
    client.flush()
    until(lambda: running.total("afterclick_published_lists") >= len(SILENT))
    done = running.total("afterclick_withdrawal_lists_total", outcome="shortened")
    client.produce("items", "item-30", None)
    client.flush()
    until(lambda: running.total("afterclick_withdrawal_lists_total", outcome="shortened") > done)
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    left = sum("item-30" in shown(list_) for list_ in client.newest().values() if list_)
    assert 0 < left < len(SILENT), "killed too late to be of use"
    beside = {"metrics": settings.metrics.model_copy(update={"port": free_port()})}
    with worker(settings, "all") as again, worker(settings.model_copy(update=beside), "rank") as another:
        again.wait_ready()
        another.wait_ready()
        began_s = time.monotonic()
        until(lambda: not any("item-30" in shown(list_) for list_ in client.newest().values() if list_))
        assert time.monotonic() - began_s < PROMISED_S
        newest = client.newest()
        assert {tuple(shown(newest[user])) for user in SILENT} == {("item-31",), ()}
        assert newest[SILENT[0]]["degraded"] == "no-candidates"
        assert newest["bob"] is None
        until(lambda: all(shown(client.cached(user)) == shown(newest[user]) for user in SILENT[::50]))
        assert another.stop() == again.stop() == 0
