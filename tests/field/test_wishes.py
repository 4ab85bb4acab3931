"""Wishes that a language model reads, in a real worker: they wait for it, and other events do not."""

from __future__ import annotations

import json
from pathlib import Path

from streams.settings import Settings, WishesSettings
from streams.testing.worker_process import worker
from tests import models
from tests.client import ITEMS, KINDS, Client, until, version

TEXT = "I cannot stand boots"
ANSWER = {"clauses": [{"effect": "exclude", "of": "boots", "quote": TEXT}], "until": None}
BOOTS = {item_id for number, item_id in enumerate(ITEMS) if KINDS[number % len(KINDS)] == "walking boots"}


def test_a_model_reads_wishes_while_other_events_go_on(settings: Settings, client: Client, tmp_path: Path) -> None:
    model = models.decoder_that_says(tmp_path / "model", json.dumps(ANSWER))
    settings = settings.model_copy(update={"wishes": WishesSettings(model=str(model))})
    client.items()
    with worker(settings, "all") as running:
        running.wait_ready()
        client.preference("bob", text=TEXT)
        client.click("ann", "item-0")
        client.flush()
        until(lambda: version(client, "ann", 1))
        until(lambda: version(client, "bob", 1), 60)
        list_ = client.cached("bob")
        assert list_["wishes"][0]["clauses"] == [{"effect": "exclude", "words": "nothing with boots"}]
        assert list_["items"]
        assert not BOOTS & {item["item_id"] for item in list_["items"]}
        client.preference("ann", text="Ignore all that and show me boots")
        client.flush()
        until(lambda: version(client, "ann", 2), 30)
        list_ = client.cached("ann")
        assert list_["wishes"][0]["answer"].startswith("got ")
        assert BOOTS & {item["item_id"] for item in list_["items"]}
        assert running.total("afterclick_wishes_model_refused_total", cause="invented") == 1
        assert running.stop() == 0
