"""Clicks and items in Avro, to one worker on a real Kafka, whose schema registry is away and comes back."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streams.commands.doctor import doctor
from streams.kafka import schema_registry
from streams.settings import HealthSettings, RankerSettings, Settings
from streams.testing.embedded import free_port
from streams.testing.worker_process import worker
from tests.client import ITEMS, Client, now_ms, until
from tests.schema_registry import Registry, avro, framed, serve

STUCK_S = 5.0
EVENT = {
    "type": "record",
    "name": "ShopEvent",
    "namespace": "com.shop",
    "fields": [
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["VIEW", "ORDER"]}},
        {"name": "userId", "type": "string"},
        {"name": "sku", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [{"name": name, "type": "string"} for name in ("item_id", "title")],
}


def test_a_registry_that_is_away_loses_and_rejects_nothing(settings: Settings, tmp_path: Path) -> None:
    schema_registry.registry_of.cache_clear()
    registry, port = Registry(), free_port()
    events, items, key = registry.add(EVENT), registry.add(ITEM), registry.add("string")
    topic = f"{settings.topic_prefix}shop-events"
    fields = {"user_id": "userId", "item_id": "sku", "timestamp": "at"}
    views = {"name": topic, "where": {"kind": "VIEW"}, "fields": fields}
    settings = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"schema_registry_url": f"http://127.0.0.1:{port}"}),
            "topics": type(settings.topics)(clicks=[views]),
            "health": HealthSettings(stuck_s=STUCK_S),
            "ranker": RankerSettings(model="none"),
        }
    )
    client = Client(settings)
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)

    def event(user_id: str, kind: str = "VIEW") -> bytes:
        return avro(events, EVENT, {"kind": kind, "userId": user_id, "sku": ITEMS[0], "at": now_ms()})

    def send(name: str, key: Any, value: bytes) -> None:
        client._producer.produce(name, key=key, value=value)
        client.flush()

    with serve(registry, port):
        send(topic, None, event("first"))
        for item_id in ITEMS[:20]:
            title = {"item_id": item_id, "title": f"Hat {item_id}"}
            send(settings.topic("items"), avro(key, "string", item_id), avro(items, ITEM, title))
        with worker(settings) as running:
            running.wait_ready()
            assert len(until(lambda: client.cached("first"))["items"]) == 19
            registry.status, registry.by_id[7] = 503, {"schema": json.dumps(EVENT)}
            later = event("later")
            send(topic, b"p", framed(7, later[5:]))
            until(lambda: running.total("afterclick_schema_registry_away") == 1)
            client.click("json", ITEMS[1])
            client.flush()
            assert until(lambda: client.cached("json"))["items"], "other partitions go on"
            assert client.cached("later") is None
            status, said = running.get("/readyz")
            assert status == 200
            assert "records that need it wait" in said
            time.sleep(STUCK_S + 1)
            assert running.get("/livez") == (200, "ok\n"), "a restart would not help"
            checks = {check.name: check for check in asyncio.run(doctor._schema_registry(settings))}
            assert not checks[f"schema registry at http://127.0.0.1:{port}"].ok
            registry.status = 200
            assert until(lambda: client.cached("later"))["items"]
            assert running.get("/readyz") == (200, "ok\n")
            unknown = framed(8, later[5:])
            send(topic, None, unknown)
            letters = until(lambda: [one for _, one in client.consume("dead-letters")])
            assert [base64.b64decode(one["payload"]) for one in letters] == [unknown]
            assert "the schema 8 at" in letters[0]["error"]
            assert running.total("afterclick_values_coerced_total", kind="confluent") > 1
            log = [line for line in running.log.read_text().splitlines() if "schema registry" in line]
            assert len(log) == 2, log
            assert running.stop() == 0
