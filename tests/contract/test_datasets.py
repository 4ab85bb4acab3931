"""One suite over every reader of a data set: what it gives to `replay`, and to training and evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.datasets.event_log import EventLog, read_dataset, read_files
from streams.datasets.file_messages import topic_files
from streams.datasets.messages import InputError, Replay, ReplayMessage
from streams.datasets.online_retail import online_retail
from streams.receive.decode import receive
from streams.receive.message import Message

NOW_MS = 1_800_000_000_000
BEGIN_MS = 1_700_000_000_000
RETAIL = """\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
2,85123A,WHITE HOLDER,6,2010-12-02 08:26:00,2.55,17850.0,United Kingdom
1,71053,METAL LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom
C3,85123A,WHITE HOLDER,-1,2010-12-01 09:41:00,2.55,14527.0,United Kingdom
4,22423,?,1,2010-12-01 09:42:00,2.55,14527.0,United Kingdom
5,71053,METAL LANTERN,lots,2010-12-01 09:43:00,2.55,14527.0,United Kingdom
"""


def retail_file(folder: Path) -> Path:
    path = folder / "retail.csv"
    path.write_text(RETAIL, encoding="utf-8")
    return path


def json_files(folder: Path) -> dict[str, Any]:
    """Two items, three clicks of which the middle one is late, a blank line, and an event about an unknown item."""
    items = [{"item_id": name, "title": name} for name in ("lamp", "mug")]
    clicks = [
        {"event_id": f"c{number}", "user_id": "ann", "item_id": item, "timestamp": BEGIN_MS + number * 1000}
        for number, item in ((0, "lamp"), (5, "mug"), (9, "rug"))
    ]
    purchases = [{"event_id": "p", "user_id": "ben", "item_id": "mug", "timestamp": BEGIN_MS + 3000}]
    shown = [{"event_id": "s", "user_id": "ann", "list_id": "l", "items": ["mug", "rug"], "timestamp": BEGIN_MS}]
    files: dict[str, Any] = {}
    for topic, messages in (("items", items), ("clicks", clicks), ("purchases", purchases), ("impressions", shown)):
        files[topic] = folder / f"{topic}.jsonl"
        files[topic].write_text("\n".join(map(json.dumps, messages)) + "\n\n", encoding="utf-8")
    return files


REPLAYS: dict[str, Callable[[Path], Replay]] = {
    "files": lambda folder: topic_files(json_files(folder)),
    "online-retail": lambda folder: online_retail(retail_file(folder)),
}
EVENT_LOGS: dict[str, Callable[[Path], EventLog]] = {
    "files": lambda folder: read_files(topic_files(json_files(folder))),
    "online-retail": lambda folder: read_dataset("online-retail", retail_file(folder)),
    "generated-shop": lambda _: read_dataset("generated-shop", Path("3")),
}


@pytest.fixture(params=REPLAYS)
def replay(request: pytest.FixtureRequest, tmp_path: Path) -> Replay:
    return REPLAYS[request.param](tmp_path)


@pytest.fixture(params=EVENT_LOGS)
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], EventLog]:
    return lambda: EVENT_LOGS[request.param](tmp_path)


def events(replay: Replay) -> list[ReplayMessage]:
    return [message for message in replay.messages() if message.topic != "items"]


def test_every_message_goes_to_one_of_the_topics(replay: Replay) -> None:
    assert {message.topic for message in replay.messages()} == set(replay.topics)


def test_every_row_is_counted_once_and_the_last_one_is_the_end(replay: Replay) -> None:
    messages = list(replay.messages())
    rows = [message for message in messages if message.topic != "items" or "clicks" in replay.topics]
    assert replay.account.rows == len(rows) + replay.account.left_out.total()
    done, size = replay.progress(len(messages))
    assert done == size


def test_items_come_first_and_events_in_the_order_of_time(replay: Replay) -> None:
    topics = [message.topic for message in replay.messages()]
    assert topics == sorted(topics, key=lambda topic: topic != "items")
    times = [message.time_ms for message in events(replay) if message.time_ms is not None]
    assert times == sorted(times)
    assert len(times) == len(events(replay)) > 1


def test_messages_can_be_read_again(replay: Replay) -> None:
    assert list(replay.messages()) == list(replay.messages())


def test_a_worker_accepts_every_message_under_its_key(replay: Replay) -> None:
    for message in replay.messages():
        accepted = receive(Message(message.topic, 0, 0, message.key, message.value), NOW_MS)
        key = accepted.item_id if message.topic == "items" else accepted.user_id  # type: ignore[union-attr]
        assert message.key == key.encode()


def test_each_item_is_in_the_catalogue_once(read: Callable[[], EventLog]) -> None:
    items = read().items
    assert len({item.item_id for item in items}) == len(items) > 1


def test_every_event_and_shown_list_is_about_items_of_the_catalogue(read: Callable[[], EventLog]) -> None:
    event_log = read()
    ids = {item.item_id for item in event_log.items}
    assert event_log.events
    assert {event.item for event in event_log.events} <= ids
    assert {item for shown in event_log.shown_lists for item in shown.items} <= ids
    assert all(event.time_ms > 0 and event.kind in ("click", "purchase") for event in event_log.events)


def test_a_log_that_is_read_again_is_the_same(read: Callable[[], EventLog]) -> None:
    assert read() == read()


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    event_log = read_files(topic_files(json_files(tmp_path)))
    assert event_log.left_out == {
        "events about items that are not in the catalogue": 1,
        "shown items that are not in the catalogue": 1,
    }
    assert [shown.items for shown in event_log.shown_lists] == [("mug",)]


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("movielens", "x", "got 'movielens', expected one of online-retail, generated-shop"),
        ("online-retail", "missing.csv", "missing.csv: "),
        ("generated-shop", "seven", "got 'seven', expected a seed"),
    ],
)
def test_a_data_set_that_does_not_exist_is_refused(name: str, path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_dataset(name, Path(path))
