"""Replay: every row is counted, the rules of the catalogue, lines kept byte for byte, the order of sending."""

from __future__ import annotations

import asyncio
import gzip
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from streams import cli
from streams.commands import replay as replaying
from streams.commands.replay import send
from streams.contracts import Item, Purchase
from streams.datasets.jsonl import jsonl
from streams.datasets.messages import InputError, ReplayMessage
from streams.datasets.online_retail import OnlineRetail, online_retail
from streams.settings import Settings

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\r\n"
ROWS = """\
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,71053,WHITE METAL  LANTERN ,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom
C536379,85123A,WHITE HANGING HEART T-LIGHT HOLDER,-1,2010-12-01 09:41:00,2.55,14527.0,United Kingdom
536380,85123a,CREAM HANGING HEART T-LIGHT HOLDER,2,2010-12-01 09:50:00,5.49,,United Kingdom
536381,POST,POSTAGE,3,2010-12-01 09:55:00,18,12583.0,France
536382,71053,damaged,-12,2010-12-01 10:00:00,0,,United Kingdom
536383,71053,,1,2010-12-01 10:01:00,0,12583.0,France
536384,22423,"SET/3 ""REGENCY"" CAKESTAND, 16cm",1,2010-12-01 10:02:00,12.75,12583.0,France
536384,22423,found,1,2010-12-01 10:02:00,12.75,12583.0,France
536384,22423,found,1,2010-12-01 10:02:00,10.95,12583.0,France
536385,22424,?,4,2010-12-01 10:03:00,1.25,12583.0,France
536386,85123A,wrongly marked carton 22804,0,2010-12-01 10:04:00,2.55,12583.0,France
536387,71053,WHITE METAL LANTERN,lots,2010-12-01 10:05:00,3.75,12583.0,France
536388,71053,WHITE METAL LANTERN,1,2010-12-01
536389,71053,WHITE LANTERN,1,2010-12-02 10:05:00,3.75,12583.0,France
536390,71053,Adjust bad debt,1,2010-12-02 10:06:00,-9,12583.0,France
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "online_retail.csv"
    path.write_text(HEADER + ROWS.replace("\n", "\r\n"), newline="")
    return path


@pytest.fixture
def retail(path: Path) -> OnlineRetail:
    return online_retail(path)


def titles(retail: OnlineRetail) -> dict[str, str]:
    return {item.item_id: item.title for item in retail.items}


def test_every_row_has_one_reason(retail: OnlineRetail) -> None:
    assert retail.counts == {
        "rows": 16,
        "purchases": 7,
        "cancellations": 1,
        "without_customer": 2,
        "not_goods": 1,
        "quantity_not_positive": 1,
        "price_negative": 1,
        "without_title": 1,
        "unreadable": 2,
    }
    assert sum(retail.counts.values()) == 2 * retail.counts["rows"]
    assert retail.sizes == {"items": 3, "purchases": len(retail.events)}


def test_title_is_the_most_frequent_then_latest_description_and_no_note(retail: OnlineRetail) -> None:
    assert titles(retail) == {
        "22423": 'Set/3 "Regency" Cakestand, 16cm',  # "found" is more frequent
        "71053": "White Lantern",  # as frequent as the older one
        "85123A": "Cream Hanging Heart T-Light Holder",  # typed as 85123a: one item, and later
    }


def test_price_is_the_median_of_ordinary_sales(retail: OnlineRetail) -> None:
    assert {item.item_id: item.price for item in retail.items} == {
        "22423": 12.75,
        "71053": 3.57,
        "85123A": 4.02,
    }
    assert {item.currency for item in retail.items} == {"GBP"}
    assert not any(item.categories for item in retail.items)


def test_purchases(retail: OnlineRetail) -> None:
    first, second, free, *_ = retail.events
    assert first == Purchase(
        event_id="536365-1",
        user_id="17850",
        item_id="85123A",
        timestamp=1291191960000,  # 2010-12-01 08:26 UTC
        session_id="536365",
        quantity=6,
        price=2.55,
        currency="GBP",
    )
    assert (second.event_id, second.timestamp) == ("536365-2", first.timestamp)
    assert (free.event_id, free.price) == ("536383-1", 0)
    assert len({event.event_id for event in retail.events}) == len(retail.events)


def test_events_are_in_the_order_of_time_and_lines_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text(
        HEADER
        + "2,10002,GLOBE,1,2011-01-02 10:00:00,1,7.0,UK\n1,10002,GLOBE,1,2011-01-01 10:00:00,1,7.0,UK\n"
        + "2,10002,GLOBE,2,2011-01-02 10:00:00,1,7.0,UK\n"
    )
    assert [event.event_id for event in online_retail(path).events] == ["1-1", "2-1", "2-2"]


def test_messages_are_valid_and_keyed(retail: OnlineRetail) -> None:
    messages = list(retail.messages())
    assert [topic for topic, *_ in messages] == ["items"] * 3 + ["purchases"] * 7
    for topic, key, value, time_ms in messages:
        if topic == "items":
            assert key == msgspec.json.decode(value, type=Item).item_id.encode()
            assert time_ms is None
        else:
            purchase = msgspec.json.decode(value, type=Purchase)
            assert (key, time_ms) == (purchase.user_id.encode(), purchase.timestamp)


def test_gzip_byte_order_mark_other_dates_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "other.csv.gz"
    text = (
        "\ufeffStockCode,InvoiceNo,Description,Quantity,InvoiceDate,UnitPrice,CustomerID\n"
        "10002,1,CAFÉ,1,12/1/2010 8:26,1,17850\n"
    )
    path.write_bytes(gzip.compress(text.encode()))
    seen: list[tuple[int, int]] = []
    retail = online_retail(path, lambda done, total: seen.append((done, total)))
    assert titles(retail) == {"10002": "Café"}
    assert retail.events[0].timestamp == 1291191960000
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "got the columns an empty file; InvoiceNo"),
        (HEADER.replace("StockCode", "Code").encode(), "StockCode missing; expected UCI Online Retail"),
        (gzip.compress(HEADER.encode() * 100)[:-12], "expected UCI Online Retail as CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_a_reason(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / ("cut.csv.gz" if content[:2] == b"\x1f\x8b" else "wrong.csv")
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        online_retail(path)


CLICK = b'{"event_id":"c%d","user_id":"u%d","item_id":"i","timestamp":%s}'


def lines_of(messages: list[ReplayMessage], topic: str) -> list[bytes]:
    return [value for name, _, value, _ in messages if name == topic]


def test_jsonl_keeps_every_line_byte_for_byte(tmp_path: Path) -> None:
    bad = [
        b"not json",
        b"\xff\xfe",
        b"[1, 2]",
        b"null",
        b"[" * 10_000,
        b'{"user_id": 5, "timestamp": true}',
        b'{"user_id": ""}',
        '{"user_id":"ü", "timestamp":"yesterday", "more": "\u2028"}'.encode(),
        b' {"user_id":"u9","timestamp":1700000000000} \r',
    ]
    clicks = tmp_path / "clicks.jsonl"
    clicks.write_bytes(b"\n".join([*bad[:4], b"", b" \r", *bad[4:]]))  # no line feed at the end
    replay = jsonl(clicks=clicks)
    messages = list(replay.messages())
    assert lines_of(messages, "clicks") == bad
    keys = [key for _, key, _, _ in messages]
    assert keys == [None] * 5 + [b"5", None, "ü".encode(), b"u9"]
    assert [time_ms for *_, time_ms in messages] == [None] * 8 + [1_700_000_000_000]
    assert replay.counts == {"rows": 11, "clicks": 9, "blank": 2}
    assert replay.sizes == {"clicks": 9}


def test_jsonl_sends_items_first_and_merges_events_by_time(tmp_path: Path) -> None:
    files: dict[str, Any] = {topic: tmp_path / f"{topic}.jsonl" for topic in ("items", "clicks", "purchases")}
    files["items"].write_bytes(b'{"item_id":"i","title":"Lamp"}\n')
    in_words = b'"2023-11-14T22:13:22Z"'  # 1,700,000,002 s
    clicks = [CLICK % (1, 1, b"1700000001000"), b"oops", CLICK % (2, 2, b"1700000004000")]
    bought = [CLICK % (3, 3, in_words), CLICK % (4, 4, b"99999999999999"), CLICK % (5, 5, b"1700000003000")]
    files["clicks"].write_bytes(b"\n".join(clicks))
    files["purchases"].write_bytes(b"\n".join(bought) + b"\n")
    messages = list(jsonl(**files).messages())
    assert [value for _, _, value, _ in messages[1:]] == [*clicks[:2], *bought, clicks[2]]
    assert messages[0][:2] == ("items", b"i")
    # a time that the worker will not believe must not set the pace
    assert [time_ms for *_, time_ms in messages] == [
        None,
        1_700_000_001_000,
        None,
        1_700_000_002_000,
        None,
        1_700_000_003_000,
        1_700_000_004_000,
    ]


class FakeProducer:
    """Acknowledges when asked to, and refuses what is over 100 bytes."""

    def __init__(self, **options: Any) -> None:
        self.sent: list[tuple[str, bytes, bytes | None]] = []
        self.acknowledged = 0
        self.waiting_before: dict[int, int] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
        if len(value) > 100:
            raise MessageSizeTooLargeError("too large")
        self.waiting_before[len(self.sent)] = len(self.sent) - self.acknowledged
        self.sent.append((topic, value, key))
        return asyncio.ensure_future(self._acknowledge())

    async def _acknowledge(self) -> None:
        self.acknowledged += 1


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    async def no_topics(settings: Settings, needed: object) -> None: ...

    fake = FakeProducer()
    monkeypatch.setattr(replaying, "AIOKafkaProducer", lambda **options: fake)
    monkeypatch.setattr(replaying, "ensure_topics", no_topics)
    return fake


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    files: dict[str, Any] = {topic: tmp_path / f"{topic}.jsonl" for topic in ("items", "clicks")}
    files["items"].write_bytes(b'{"item_id":"i","title":"Lamp"}\n{"item_id":"j","title":"Rug"}\n')
    lines = [CLICK % (n, n, b"17000000%02d000" % (10 * n)) for n in range(3)]
    files["clicks"].write_bytes(b"\n".join([lines[0], b"x" * 101, b"oops", *lines[1:]]))
    return files


def test_send_has_items_acknowledged_before_the_first_event(producer: FakeProducer, files: dict[str, Any]) -> None:
    done: list[tuple[int, int]] = []
    report = asyncio.run(
        send(jsonl(**files), Settings(topic_prefix="t."), progress=lambda *counts: done.append(counts))
    )
    assert [(topic, key) for topic, _, key in producer.sent] == [
        ("t.items", b"i"),
        ("t.items", b"j"),
        ("t.clicks", b"u0"),
        ("t.clicks", None),
        ("t.clicks", b"u1"),
        ("t.clicks", b"u2"),
    ]
    assert producer.waiting_before[2] == 0
    assert producer.acknowledged == 6
    assert (report.sent, report.without_key, report.too_large) == ({"items": 2, "clicks": 4}, 1, 1)
    assert done[-1] == (6, 7)


def test_send_stops_at_the_limit_of_events(producer: FakeProducer, files: dict[str, Any]) -> None:
    report = asyncio.run(send(jsonl(**files), Settings(), limit=1))
    assert report.sent == {"items": 2, "clicks": 1}


def test_send_keeps_the_pace_of_the_events(producer: FakeProducer, files: dict[str, Any]) -> None:
    report = asyncio.run(send(jsonl(**files), Settings(), speed=500))  # 20 s of events
    assert 0.04 <= report.seconds < 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["jsonl"], "got no file"),
        (["jsonl", "--clicks", "missing.jsonl"], "missing.jsonl: No such file"),
        (["online-retail", "missing.csv"], "missing.csv: "),
        (["online-retail", "missing.csv", "--speed", "fast"], "--speed: got fast"),
        (["online-retail", "missing.csv", "--speed", "nan"], "--speed: got nan"),
        (["online-retail", "missing.csv", "--config", "missing.toml"], "--config: got missing.toml"),
    ],
)
def test_wrong_arguments_end_with_one_line_and_exit_2(
    arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["afterclick", "replay", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"afterclick: {expected}")
