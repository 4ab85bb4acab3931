"""What producers really send, to one worker on a real Kafka: loose JSON, other formats, reserved ids, wrong clocks."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from pydantic import SecretStr

from streams.commands import forget
from streams.commands.doctor import doctor
from streams.commands.doctor.check import Check
from streams.settings import KafkaSettings, MetricsSettings, RankerSettings, RedisSettings, Settings, TablesSettings
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import Client, now_ms, until

HOUR, DAY = 3_600_000, 86_400_000


class RunningWorker(NamedTuple):
    settings: Settings
    client: Client
    running: WorkerProcess
    producer: Producer

    def send(self, topic: str, key: str | None, value: Any, written_ms: int | None = None) -> None:
        raw = value if isinstance(value, (bytes, type(None))) else json.dumps(value).encode()
        more: dict[str, Any] = {} if written_ms is None else {"timestamp": written_ms}
        self.producer.produce(self.settings.topic(topic), key=key, value=raw, **more)
        assert self.producer.flush(30) == 0

    def click(self, user_id: str, ahead_ms: int = 0, record_ahead_ms: int | None = None, **more: Any) -> None:
        click = {"event_id": uuid.uuid4().hex, "user_id": user_id, "item_id": "a", "timestamp": now_ms() + ahead_ms}
        written_ms = None if record_ahead_ms is None else now_ms() + record_ahead_ms
        self.send("clicks", user_id, click | more, written_ms)

    def letters(self, topic: str) -> list[dict[str, Any]]:
        return [letter for _, letter in self.client.consume("dead-letters") if letter["topic"] == topic]

    def rejected(self, topic: str, payload: bytes) -> str:
        """The text of the message's dead letter, once it is there."""

        def text() -> str | None:
            letters = [one for one in self.letters(topic) if one["payload"] == base64.b64encode(payload).decode()]
            return letters[0]["error"] if letters else None

        return str(until(text))

    def list_of(self, user_id: str, version: int = 1) -> dict[str, Any]:
        def ready() -> Any:
            stored = self.client.cached(user_id)
            return stored if stored and stored["state_version"] >= version else None

        return dict(until(ready))

    def checks(self) -> dict[str, Check]:
        checks, _ = asyncio.run(doctor._kafka(self.settings))  # without loading models
        return {check.name: check for check in checks}


def bound(settings: Settings, topic: str, after_max_ms: int) -> None:
    """Let a topic take records from the future, as every Kafka before 4 does."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    change = ConfigEntry(
        "message.timestamp.after.max.ms", str(after_max_ms), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, settings.topic(topic), incremental_configs=[change])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


@pytest.fixture(scope="module")
def shop(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    settings = Settings(
        topic_prefix=prefix,
        time_zone="Europe/Berlin",
        kafka=KafkaSettings(bootstrap_servers=kafka, group_id=prefix + "g", partitions=2),
        redis=RedisSettings(url=SecretStr(redis_url), key_prefix=f"{prefix}list:"),
        tables=TablesSettings(data_dir=tmp_path_factory.mktemp("worker") / "data"),
        metrics=MetricsSettings(port=free_port()),
        ranker=RankerSettings(model="none"),
    )
    client = Client(settings)
    for topic in ("clicks", "items", "rank-requests", "forget"):
        bound(settings, topic, 2**63 - 1)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0, "partitioner": "murmur2_random"})
    with worker(settings) as running:
        running.wait_ready()
        yield RunningWorker(settings, client, running, producer)


def test_an_empty_catalogue_is_told_of(shop: RunningWorker) -> None:
    assert shop.running.get("/readyz") == (200, "ok\nstate: the catalogue is empty\n")
    shop.click("early")
    early = shop.list_of("early")
    assert (early["items"], early["degraded"]) == ([], "no-candidates")
    for number in range(50):
        shop.send("items", f"i{number}", {"item_id": f"i{number}", "name": "Hat"})
    shop.send("items", "blank", {"item_id": "blank", "title": " \u200b"})
    why = "51 messages of items were rejected: title missing (50), title blank (1)"
    until(lambda: shop.running.get("/readyz") == (200, f"ok\nstate: the catalogue is empty; {why}\n"))
    check = shop.checks()[f"messages of {shop.settings.topic('items')}"]
    assert not check.ok
    assert "51 rejected; causes: title missing (50), title blank (1); the catalogue is empty" in check.found
    until(lambda: len(shop.letters("items")) == 51)
    found = f"{shop.settings.topic('items')}: 51 of 51 rejected: title missing (50), title blank (1)"
    assert shop.checks()["dead letters"].found == found
    log = [line for line in shop.running.log.read_text().splitlines() if "rejected" in line]
    assert len(log) < 10


def test_loose_json_is_taken_and_counted(shop: RunningWorker) -> None:
    loose = {"brand": None, "categories": "Shoes > Men", "price": "89.00", "currency": "eur", "available": 1}
    shop.send("items", "42", {"item_id": 42, "title": "Hat", **loose})
    for item_id in "abcdef":
        shop.send("items", item_id, b"\xef\xbb\xbf" + json.dumps({"item_id": item_id, "title": item_id}).encode())
    until(lambda: shop.running.total("afterclick_catalogue_items") == 7)
    assert shop.running.get("/readyz") == (200, "ok\n")
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 3 * 3600))
    shop.click("loose", item_id=42, context=None, timestamp=str(now_ms()))
    shop.click("loose", event_id=7, timestamp=float(now_ms() - 500), session_id="")
    shop.click("loose", timestamp=f"{local}.5 UTC")
    shop.click("loose", timestamp=local)  # a few hours ago in Berlin, whatever the season
    assert len(shop.list_of("loose", 4)["items"]) == 6  # not a, which is clicked; 42 is there to be clicked on
    kinds = {
        sample.labels["kind"]: sample.value
        for sample in shop.running.samples()
        if sample.name == "afterclick_values_coerced_total" and sample.labels["topic"] == "items" and sample.value
    }
    assert kinds == {
        "null": 1, "single": 1, "text-as-number": 1, "currency": 1, "boolean": 1, "number-as-text": 1, "bom": 6,
    }  # fmt: skip
    found = shop.checks()[f"messages of {shop.settings.topic('clicks')}"]
    assert found.ok
    assert "0 rejected; deviations accepted: time (" in found.found


def test_json_in_confluents_format_is_taken(shop: RunningWorker) -> None:
    click = {"event_id": "framed", "user_id": "framed", "item_id": "a", "timestamp": now_ms()}
    shop.send("clicks", "framed", b"\0\0\0\0\7" + json.dumps(click).encode())
    assert shop.list_of("framed")["items"]


def test_other_formats_are_named(shop: RunningWorker) -> None:
    click = {"event_id": "e", "user_id": "u", "item_id": "a", "timestamp": now_ms()}
    for payload, words in (
        (b"\0\0\0\0\7\2e\2u\2a", "set AFTERCLICK_KAFKA__SCHEMA_REGISTRY_URL"),
        (json.dumps(click).encode("utf-16"), "UTF-16"),
        (json.dumps({"schema": {}, "payload": click}).encode(), "schemas.enable=false"),
        (json.dumps({"before": None, "after": click, "op": "c"}).encode(), "Debezium"),
    ):
        shop.send("clicks", "u", payload)
        assert words in shop.rejected("clicks", payload)


def test_nobody_else_makes_everybodys_list(shop: RunningWorker) -> None:
    spam = {"request_id": "spam", "user_id": "*", "as_of": now_ms(), "history": []}
    request = json.dumps(spam | {"candidates": [{"item_id": "spam", "text": "SPAM"}]}).encode()
    for topic, payload in (
        ("clicks", json.dumps({"event_id": "x", "user_id": "*", "item_id": "a", "timestamp": now_ms()}).encode()),
        ("rank-requests", request),
        ("forget", json.dumps({"user_id": "*", "timestamp": now_ms()}).encode()),
    ):
        shop.send(topic, "*", payload)
        assert "user_id: got '*'" in shop.rejected(topic, payload)
    shop.send("rank-requests", "*", None)
    until(lambda: [one for one in shop.letters("rank-requests") if one["payload"] is None])
    everybody = until(lambda: shop.client.cached("*"))
    assert everybody["items"]
    assert {item["item_id"] for item in everybody["items"]} <= set("abcdef") | {"42"}
    with pytest.raises(forget.NoUser):
        asyncio.run(forget.send(shop.settings, "*"))


def test_wrong_clocks(shop: RunningWorker) -> None:
    shop.click("ahead", 40 * DAY, 40 * DAY)
    until(lambda: [one for one in shop.letters("clicks") if "the record's own time" in one["error"]])
    shop.click("ahead")
    assert shop.list_of("ahead")["as_of"] <= now_ms()
    with suppress(KafkaException):
        shop.send("items", "late", {"item_id": "late", "title": "Late"}, now_ms() + 40 * DAY)
    shop.click("day", 23 * HOUR)
    assert shop.list_of("day")["as_of"] <= now_ms(), "it counts when its record was written"
    shop.click("day-in-both", 23 * HOUR, 23 * HOUR)
    assert shop.list_of("day-in-both")["as_of"] <= now_ms()
    assert not [one for one in shop.letters("rank-requests") if one["payload"] and b"SPAM" not in payload_of(one)]
    shop.send("items", "g", {"item_id": "g", "title": "New"})
    until(lambda: "g" in {item["item_id"] for item in shop.client.cached("*")["items"]})
    assert shop.client.cached("*")["as_of"] <= now_ms()


def payload_of(letter: dict[str, Any]) -> bytes:
    return base64.b64decode(letter["payload"])


def test_who_is_forgotten_stays_so_though_a_click_of_the_future_is_sent_again(shop: RunningWorker) -> None:
    again: dict[str, Any] = {"event_id": "again", "timestamp": now_ms() + 23 * HOUR}
    shop.click("gone", **again)
    shop.list_of("gone")
    asyncio.run(forget.send(shop.settings, "gone"))
    until(lambda: shop.client.cached("gone") is None)
    shop.click("gone", **again)
    until(lambda: shop.running.total("afterclick_events_total", topic="clicks", outcome="forgotten") == 1)
    assert shop.client.cached("gone") is None
    shop.click("gone")
    assert shop.list_of("gone")["state_version"] == 1, "who comes back is new"


def test_a_tombstone_that_deletes_nothing_is_counted_so(shop: RunningWorker) -> None:
    shop.send("items", '"a"', None)
    shop.send("items", "b", None)
    until(lambda: shop.running.total("afterclick_events_total", topic="items", outcome="unknown") == 1)
    until(lambda: "b" not in {item["item_id"] for item in shop.client.cached("*")["items"]})
    shop.click("last")
    assert "b" not in {item["item_id"] for item in shop.list_of("last")["items"]}
