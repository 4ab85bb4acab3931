"""Rejections are reported: summed up in the log, and in `/readyz` where they leave the catalogue empty."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from streams.commands import forget
from streams.contracts import Item
from streams.kafka import reject
from streams.kafka.reject import summary
from streams.receive.message import BadMessage, Message
from streams.settings import Settings
from streams.state.worker import StateWorker
from tests.unit.test_probes import ready, served
from tests.unit.test_state_worker import NOW, World


def test_the_first_rejection_is_logged_at_once_and_the_rest_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reject, "EVERY_S", 0.05)
    monkeypatch.setattr(reject, "_summary", reject.Summary())

    settings = Settings()

    def bad(topic: str, offset: int, cause: str) -> None:
        reject.rejected(settings, Message(topic, 0, offset, b"k", b"{}"), BadMessage("invalid", "…", cause))

    async def rejections() -> None:
        for number in range(4_812):
            bad("items", number, "no title")
        bad("clicks", 7, "no JSON")
        await asyncio.sleep(0.2)
        bad("clicks", 8, "no JSON")

    with caplog.at_level(logging.WARNING, "streams.kafka.reject"):
        asyncio.run(rejections())
    assert caplog.messages == [
        "rejected items/0/0: no title",
        "rejected 4,812 more: items: no title (4,811), clicks: no JSON (1)",
        "rejected clicks/0/8: no JSON",
    ]


def test_many_causes_make_no_long_line() -> None:
    line = summary(Counter({f"cause {number}": 100 - number for number in range(50)}))
    assert line.startswith("cause 0 (100), cause 1 (99)")
    assert line.endswith(f"others ({sum(range(51, 96)):,})")


def item(key: str, value: Any, offset: int = 0) -> Any:
    raw = None if value is None else json.dumps(value).encode()
    return SimpleNamespace(
        topic="items", partition=0, offset=offset, key=key.encode(), value=raw, timestamp=NOW, timestamp_type=0
    )


def empty_world() -> World:
    world = World()
    world.tier.delete_item("a")
    return world


def test_an_empty_catalogue_is_reported_and_the_worker_is_ready() -> None:
    world, health = empty_world(), ready()
    health.notes.append(world.worker.notes)
    with served(health) as ask:
        assert ask("/readyz") == (200, "ok\nstate: the catalogue is empty\n")
        bad = [item(f"i{n}", {"item_id": f"i{n}", "title": ["T"]}) for n in range(3)]
        asyncio.run(world.worker.put_items([*bad, item("j", {"item_id": "j"})]))
        assert ask("/readyz") == (
            200,
            "ok\nstate: the catalogue is empty; 4 messages of items were rejected: "
            "title: Expected str, got array (3), title missing (1)\n",
        )
        assert ask("/livez") == (200, "ok\n")
        asyncio.run(world.worker.put_items([item("k", {"item_id": "k", "title": "T"})]))
        assert ask("/readyz") == (200, "ok\n")


def outcomes(worker: StateWorker, *received: Any) -> list[str]:
    return [worker._feed.known_items.outcome(one) for one in received]


def test_a_tombstone_that_deletes_nothing_is_unknown() -> None:
    from streams.receive.message import Tombstone

    world = empty_world()
    later = Item(item_id="later", title="T")
    assert outcomes(world.worker, Tombstone("i5"), later, Tombstone("later"), Tombstone('"later"')) == [
        "unknown", "accepted", "accepted", "unknown",
    ]  # fmt: skip
    asyncio.run(world.worker.put_items([item("x", {"item_id": "x", "title": "T"})]))
    assert outcomes(world.worker, Tombstone("x")) == ["accepted"]
    asyncio.run(world.worker.put_items([item("x", None), item("never", None)]))
    assert outcomes(world.worker, Tombstone("x"), Tombstone("never")) == ["accepted", "unknown"]


def test_an_item_that_is_sent_again_is_not_new() -> None:
    world = empty_world()

    def appeared_ms(**more: Any) -> int:
        world.tier.put_item(Item(item_id="x", title="T", **more), world.worker._feed._encoder.encode([""])[0], arrived)
        return int(world.tier.catalogue.time_ms[world.tier.catalogue.rows([next(iter(world.tier.catalogue._row))])[0]])

    arrived = NOW
    assert appeared_ms() == NOW
    arrived = NOW + 86_400_000
    assert appeared_ms() == NOW
    assert appeared_ms(timestamp=NOW + 5) == NOW + 5, "its own time is what it says"
    world.tier.delete_item("x")
    assert appeared_ms() == arrived, "it was gone, and is back"


@pytest.mark.parametrize(("user_id", "words"), [("*", "'*'"), ("", "length >= 1"), ("€" * 100, "300 bytes")])
def test_forget_refuses_an_impossible_user_id(user_id: str, words: str) -> None:
    with pytest.raises(forget.NoUser, match=r"^forget: ") as refused:
        asyncio.run(forget.send(Settings(), user_id))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_command_to_forget_everybody_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from streams import cli

    monkeypatch.setattr("sys.argv", ["afterclick", "forget", "*"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
