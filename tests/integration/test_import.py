"""Files of other shapes on Apache Kafka: `import` and `replay files --fields` send what a worker accepts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner

from streams import cli
from streams.receive.decode import receive
from streams.receive.message import Message
from streams.settings import Settings
from streams.testing.worker_process import environment

NOW_MS = 1_795_400_000_000
AT = "2026-11-20T08:00:00Z"
SEGMENT = [
    {"type": "page", "messageId": "m0", "userId": "ann", "timestamp": AT},
    *(
        {
            "type": "track",
            "event": "Product Viewed",
            "messageId": f"m{number}",
            "userId": "ann",
            "timestamp": AT,
            "properties": {"product_id": f"i{number}", "name": f"Lamp {number}", "price": 9.5},
        }
        for number in (1, 2)
    ),
    {
        "type": "track",
        "event": "Order Completed",
        "messageId": "m3",
        "userId": "ann",
        "timestamp": AT,
        "properties": {"order_id": "o1", "products": [{"product_id": "i1"}, {"product_id": "i2", "quantity": 3}]},
    },
    {"type": "track", "event": "Product Viewed", "messageId": "m4", "userId": "ann", "properties": {}, "timestamp": AT},
]
ORDERS = "Customer;SKU;At\n" + "".join(f"c{n % 7};s{n % 5};2025-01-{1 + n % 28:02d} 12:00:00\n" for n in range(500))


@pytest.fixture
def shop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AFTERCLICK_TIME_ZONE", "Europe/Berlin")
    if not cli.app.registered_groups:
        cli.mount()
    return settings


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    ended = CliRunner().invoke(cli.app, [*arguments, "--json"])
    return ended.exit_code, json.loads(ended.stdout)


def accepted(settings: Settings, topic: str) -> list[Any]:
    """Read every message of a topic as a worker does, with a client of another project."""
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "reader"})
    parts = [TopicPartition(settings.topic(topic), number, 0) for number in range(4)]
    expected = sum(consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts)
    consumer.assign(parts)
    found = consumer.consume(expected, timeout=20) if expected else []
    consumer.close()
    return [receive(Message(topic, 0, 0, each.key(), each.value()), NOW_MS) for each in found]


def test_an_import_feeds_every_topic_of_the_contract_and_counts_the_rest(shop: Settings, tmp_path: Path) -> None:
    path = tmp_path / "segment.json.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, SEGMENT)).encode()))
    status, report = run("import", "segment", str(path))
    assert status == 1
    assert (report["rows"], report["others"], report["sent"]) == (5, 1, {"items": 2, "clicks": 2, "purchases": 2})
    assert sum(report["left_out"].values()) == 1
    [first] = report["first"].values()
    assert f"{path} line 5: " in first
    assert {item.item_id: item.title for item in accepted(shop, "items")} == {"i1": "Lamp 1", "i2": "Lamp 2"}
    assert {click.event_id for click in accepted(shop, "clicks")} == {"m1", "m2"}
    bought = accepted(shop, "purchases")
    assert sorted((event.user_id, event.item_id, event.quantity) for event in bought) == [
        ("ann", "i1", 1),
        ("ann", "i2", 3),
    ]


def test_a_csv_of_orders_is_sent_with_the_names_of_its_columns(shop: Settings, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS + "c1;s1;soon\n", encoding="utf-8")
    arguments = ["replay", "files", "--purchases", str(path), "--fields", "user_id=Customer,item_id=SKU,timestamp=At"]
    status, report = run(*arguments)
    assert status == 1
    assert (report["rows"], report["sent"], report["done"]) == (501, {"purchases": 500}, 500)
    assert len({event.event_id for event in accepted(shop, "purchases")}) == 500
    status, report = run(*arguments, "--skip", "450")
    assert report["sent"] == {"purchases": 50}
    sent = accepted(shop, "purchases")
    assert (len(sent), len({event.event_id for event in sent})) == (550, 500)
