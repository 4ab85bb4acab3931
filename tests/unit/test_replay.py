"""Replay: every row is counted, the rules of the catalogue, the order of sending, and how a stopped one goes on."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from streams import cli
from streams.commands import sending
from streams.commands.sending import Sender, SendPlan
from streams.contracts import Item, Purchase
from streams.datasets.file_messages import topic_files
from streams.datasets.live_shop import LiveShop
from streams.datasets.messages import InputError
from streams.datasets.online_retail import OnlineRetail, online_retail
from streams.datasets.shop import SyntheticShop
from streams.kafka import client as kafka_client
from streams.receive.decode import receive
from streams.receive.message import Message
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
    assert retail.account.rows == 16
    assert retail.account.left_out.total() + len(retail.events) == 16


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
            assert key == msgspec.json.decode(value or b"", type=Item).item_id.encode()
            assert time_ms is None
        else:
            purchase = msgspec.json.decode(value or b"", type=Purchase)
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
        (gzip.compress(HEADER.encode() * 100, mtime=0)[:-12], "expected UCI Online Retail as CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_a_reason(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / ("cut.csv.gz" if content[:2] == b"\x1f\x8b" else "wrong.csv")
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        online_retail(path)


CLICK = b'{"event_id":"c%d","user_id":"u%d","item_id":"i","timestamp":%s}'


class FakeProducer:
    """Acknowledges when asked to, and refuses what is over 100 bytes.

    Attributes
    ----------
    breaks_at : int
        What happens when so many messages were sent: `breaks_with` is raised, or is the outcome of all from there on.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes | None]] = []
        self.acknowledged = 0
        self.waiting_before: dict[int, int] = {}
        self.breaks_at, self.breaks_with = 10**9, BaseException()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
        if len(value) > 100:
            raise MessageSizeTooLargeError("too large")
        if len(self.sent) == self.breaks_at and isinstance(self.breaks_with, KeyboardInterrupt):
            raise self.breaks_with
        self.waiting_before[len(self.sent)] = len(self.sent) - self.acknowledged
        self.sent.append((topic, value, key))
        return asyncio.ensure_future(self._acknowledge(len(self.sent) <= self.breaks_at))

    async def _acknowledge(self, is_stored: bool) -> None:
        if not is_stored:
            raise self.breaks_with
        self.acknowledged += 1


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    async def no_topics(settings: Settings, needed: object) -> None: ...

    fake = FakeProducer()
    monkeypatch.setattr(sending, "AIOKafkaProducer", lambda **options: fake)
    monkeypatch.setattr(sending, "ensure_topics", no_topics)
    return fake


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path | None]:
    """Two items, three clicks, one that Kafka does not take, and a line that is none."""
    files: dict[str, Path | None] = {topic: tmp_path / f"{topic}.jsonl" for topic in ("items", "clicks")}
    (tmp_path / "items.jsonl").write_bytes(b'{"item_id":"i","title":"Lamp"}\n{"item_id":"j","title":"Rug"}\n')
    lines = [CLICK % (n, n, b"17000000%02d000" % (10 * n)) for n in range(3)]
    large = (CLICK % (7, 7, b"1700000000000")).replace(b"}", b',"text":"%s"}' % (b"x" * 101))
    (tmp_path / "clicks.jsonl").write_bytes(b"\n".join([lines[0], large, b"oops", *lines[1:]]))
    return files


def test_send_has_items_acknowledged_before_the_first_event(
    producer: FakeProducer, files: dict[str, Path | None]
) -> None:
    done: list[tuple[int, int]] = []
    replay = topic_files(files)
    sender = Sender(replay, Settings(topic_prefix="t."), progress=lambda *counts: done.append(counts))
    asyncio.run(sender.run())
    assert [(topic, key) for topic, _, key in producer.sent] == [
        ("t.items", b"i"),
        ("t.items", b"j"),
        ("t.clicks", b"u0"),
        ("t.clicks", b"u1"),
        ("t.clicks", b"u2"),
    ]
    assert producer.waiting_before[2] == 0
    assert producer.acknowledged == 5
    assert (sender.sent, sender.too_large, sender.done) == ({"items": 2, "clicks": 3}, 1, 6)
    assert replay.account.left_out == {"no JSON": 1}
    size = sum(path.stat().st_size for path in files.values() if path)
    assert done[-1] == (size, size)


def test_send_stops_at_the_limit_of_events(producer: FakeProducer, files: dict[str, Path | None]) -> None:
    sender = Sender(topic_files(files), Settings(), SendPlan(limit=1))
    asyncio.run(sender.run())
    assert sender.sent == {"items": 2, "clicks": 1}


def test_send_keeps_the_pace_of_the_events(producer: FakeProducer, files: dict[str, Path | None]) -> None:
    sender = Sender(topic_files(files), Settings(), SendPlan(speed=500))  # 20 s of events
    asyncio.run(sender.run())
    assert 0.04 <= sender.seconds < 1


def run_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, Path | None], *more: str) -> Any:
    arguments = [word for topic, path in files.items() for word in (f"--{topic}", str(path))]
    monkeypatch.setattr(sys, "argv", ["afterclick", "replay", "files", *arguments, *more])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_the_counts_are_always_printed_and_the_status_says_that_lines_were_left_out(
    producer: FakeProducer,
    files: dict[str, Path | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # short paths, which leave the table its columns
    files = {topic: path and Path(path.name) for topic, path in files.items()}
    assert run_files(monkeypatch, files) == 1
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "7 rows" in words
    assert "sent to items 2 sent to clicks 3 left out: no JSON 1 first: " in words
    assert "expected one JSON object in UTF-8" in words
    assert "left out: larger than Kafka takes 1" in words
    assert run_files(monkeypatch, files, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["left_out"], report["too_large"]) == (7, {"no JSON": 1}, 1)
    assert "clicks.jsonl line 3: clicks: JSON is malformed" in report["first"]["no JSON"]
    files["clicks"] = None
    assert run_files(monkeypatch, {"items": files["items"]}) == 0


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (KafkaConnectionError("no broker"), 2, "afterclick: Kafka at 127.0.0.1:1: "),
        (KeyboardInterrupt(), 130, "afterclick: stopped by Ctrl-C; Kafka has 3 messages of this run; "),
    ],
)
def test_a_run_that_stops_in_the_middle_says_what_was_sent_and_how_to_go_on(
    producer: FakeProducer,
    files: dict[str, Path | None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    expected: str,
) -> None:
    monkeypatch.setenv("AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(kafka_client, "CONNECT_TIMEOUT_S", 0.3)
    producer.breaks_at, producer.breaks_with = 3, error
    assert run_files(monkeypatch, files, "--json") == status
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["sent"] == {"items": 2, "clicks": 1}
    (line,) = output.err.splitlines()
    assert line.startswith(expected)
    assert line.endswith(f"--skip {report['done']}")
    sent = producer.sent[:3]
    producer.breaks_at = 10**9
    producer.sent.clear()
    assert run_files(monkeypatch, files, "--skip", str(report["done"]), "--json") == 1
    assert [key for _, _, key in (*sent, *producer.sent)] == [b"i", b"j", b"u0", b"u1", b"u2"]


def test_a_generated_shop_happens_now_at_its_pace_and_repeats_no_event_id() -> None:
    shop = SyntheticShop(7, 600, 5)
    first, second = (LiveShop(shop, 60, 4.0, now_ms) for now_ms in (1_795_400_000_000, 1_795_400_900_000))
    messages = list(first.messages())
    assert [message.topic for message in messages[:600]] == ["items"] * 600
    events = messages[600:]
    assert [message.time_ms for message in events[:3]] == [1_795_400_000_000 + 250 * number for number in range(3)]
    assert first.progress(600) == (600, len(messages))
    for message in messages:
        receive(Message(message.topic, 0, 0, message.key, message.value), 1_795_400_000_000)
    ids = [
        msgspec.json.decode(message.value or b"")["event_id"]
        for replay in (events, second.messages())
        for message in replay
        if message.topic != "items"
    ]
    assert len(set(ids)) == 120


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["files"], "got no file"),
        (["files", "--clicks", "missing.jsonl"], "missing.jsonl: No such file"),
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
