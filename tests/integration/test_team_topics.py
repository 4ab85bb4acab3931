"""A team's own topics on Apache Kafka: one mixed topic of 3 partitions, a catalogue of 12, numeric ids, 4 of ours."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from rich.console import Console

from streams.commands import dead_letters, topics
from streams.commands.doctor import doctor, recent_messages
from streams.commands.mapping import report as reports
from streams.commands.mapping.examine import examine
from streams.kafka import client as kafka_client
from streams.kafka import team_topics
from streams.kafka.topics import TopicError, partitions_by_topic
from streams.settings import Settings
from streams.settings.topics import TopicsSettings
from streams.testing.worker_process import worker
from tests.client import Client, now_ms, until, version

USERS = [f"{900 + number}" for number in range(12)]


class Shop:
    """A team that has had its own topics for long: it sends events of its own shape, with numeric ids."""

    def __init__(self, settings: Settings) -> None:
        self.events, self.products = f"{settings.topic_prefix}shop-events", f"{settings.topic_prefix}shop-products"
        common = {"user_id": "userId", "timestamp": "ts"}
        tables: dict[str, Any] = {
            "clicks": {
                "name": self.events,
                "where": {"eventType": "view"},
                "fields": {**common, "item_id": "product.sku", "event_id": "id"},
                "time_unit": "s",
            },
            "purchases": {
                "name": self.events,
                "where": {"eventType": "order"},
                "each": "lines",
                "fields": {**common, "item_id": "sku", "quantity": "qty", "price": "unitPrice"},
                "time_unit": "s",
            },
            "items": {"name": self.products, "fields": {"item_id": "sku", "title": "name", "categories": "group"}},
        }
        self.settings = settings.model_copy(update={"topics": TopicsSettings.model_validate(tables)})
        self._servers: dict[str, str | int | float | bool] = {"bootstrap.servers": settings.kafka.bootstrap_servers}
        self._producer = Producer({**self._servers, "linger.ms": 2})
        self._id = 0

    def create(self) -> None:
        topics = [NewTopic(self.events, num_partitions=3), NewTopic(self.products, num_partitions=12)]
        admin = AdminClient(self._servers)  # its answers end with it
        for made in admin.create_topics(topics).values():
            made.result(20)

    def send(self, topic: str, key: str, value: Any) -> None:
        self._producer.produce(topic, json.dumps(value) if value is not None else None, key)

    def catalogue(self, count: int) -> None:
        for number in range(count):
            kind = ("boots", "tents", "lamps")[number % 3]
            self.send(self.products, f"p{number}", {"sku": number, "name": f"{kind} {number}", "group": [kind]})
        self.flush()

    def view(self, user: str, sku: int) -> None:
        self._id += 1
        product = {"sku": sku, "colour": "red"}
        event = {"eventType": "view", "id": self._id, "userId": int(user), "ts": now_ms() // 1000, "product": product}
        self.send(self.events, f"session {self._id}", event)

    def order(self, user: str, *skus: int | None) -> None:
        lines = [{"sku": sku, "qty": 1, "unitPrice": "9.50"} for sku in skus]
        event = {"eventType": "order", "userId": int(user), "ts": now_ms() // 1000, "lines": lines}
        self.send(self.events, "no key of ours", event)

    def flush(self) -> None:
        assert self._producer.flush(20) == 0


def names(settings: Settings) -> set[str]:
    async def ask() -> set[str]:
        async with kafka_client.admin(settings.kafka) as admin:
            return set(await partitions_by_topic(admin))

    return asyncio.run(ask())


def printed(settings: Settings, topic: str) -> str:
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        reports.write(asyncio.run(examine(settings, topic, 200, None)), console)
    return captured.get()


def test_a_missing_topic_is_named_and_not_created(settings: Settings) -> None:
    shop = Shop(settings)
    with pytest.raises(TopicError) as caught:
        asyncio.run(team_topics.check(shop.settings))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"topic {shop.events}: got none (or none with leaders), expected the topic of yours")
    assert "[topics.clicks], [topics.purchases]" in lines[0]
    assert len(lines) == 2
    with pytest.raises(TopicError, match="expected its full name in Kafka") as missing:
        asyncio.run(examine(shop.settings, shop.events, 10, None))
    assert shop.settings.topic("clicks") not in str(missing.value), "only topics of the team's are offered"
    console = Console(width=200)
    with console.capture() as captured:
        assert not asyncio.run(topics.run(shop.settings, topics.Action.diff, as_json=True, console=console))
    rows = {row["topic"]: row for row in json.loads(captured.get())}
    assert rows[shop.events]["kept"] == "create it, or correct its name"
    checks, _ = asyncio.run(doctor._kafka(shop.settings))
    assert {check.name for check in checks if not check.ok} == {f"topic {shop.events}", f"topic {shop.products}"}
    assert not names(settings) & {shop.events, shop.products}


def test_lists_are_made_from_a_teams_own_topics(settings: Settings, client: Client) -> None:
    shop = Shop(settings)
    shop.create()
    shop.catalogue(30)
    with worker(shop.settings, "all") as running:
        running.wait_ready()
        until(lambda: running.total("afterclick_catalogue_items") == 30)
        for number, user in enumerate(USERS):
            shop.view(user, number)
            shop.order(user, number + 3, number + 6)
        shop.send(shop.events, "x", {"eventType": "search", "words": "boots"})
        shop.order("900", 5, None)
        shop.flush()
        until(lambda: all(version(client, user, 3) for user in USERS))
        stored = client.cached("905")
        assert stored["degraded"] is None
        assert {item["item_id"] for item in stored["items"]} <= {str(number) for number in range(30)}
        until(lambda: running.total("afterclick_consumer_lag_messages") == 0)

        def partitions_with_lag(topic: str) -> int:
            lags = [s.labels for s in running.samples() if s.name == "afterclick_consumer_lag_messages"]
            return sum(labels["topic"] == topic for labels in lags)

        until(lambda: (partitions_with_lag(shop.events), partitions_with_lag(shop.products)) == (3, 12))
        assert running.total("afterclick_records_not_ours_total", topic=shop.events) == 1
        assert running.total("afterclick_events_total", outcome="accepted", topic="purchases") == 24
        shop.send(shop.products, "29", None)
        shop.flush()
        until(lambda: running.total("afterclick_catalogue_items") == 29)
        sent_again_counts_nothing(shop, client, running)
        assert running.stop() == 0
    what_a_person_sees(shop)


def sent_again_counts_nothing(shop: Shop, client: Client, running: Any) -> None:
    """The order with a bad line is one letter with the record's own topic and bytes, each time."""
    assert asyncio.run(dead_letters.retry(shop.settings)).sent == 1
    until(lambda: running.total("afterclick_dead_letters_total", topic=shop.events, reason="invalid") == 2)
    first, second = (letter for _, letter in client.consume("dead-letters"))
    assert first["topic"] == shop.events
    assert {**first, "error": ""} == {**second, "error": ""}, "both name the position of the first"
    assert version(client, "900", 3)


def what_a_person_sees(shop: Shop) -> None:
    report = asyncio.run(examine(shop.settings, shop.events, 200, None))
    assert {one.name: (one.records, one.messages) for one in report.outcomes} == {
        "clicks": (12, 12),
        "purchases": (12, 24),
        "for no input": (1, 0),
        "rejected": (2, 0),
    }
    text = printed(shop.settings, shop.events)
    assert "item_id missing" in text
    assert '"search"' in text
    assert json.loads(reports.as_json(report))["outcomes"][0]["examples"][0]["messages"][0]["item_id"]
    without = shop.settings.model_copy(update={"topics": TopicsSettings()})
    text = printed(without, shop.events)
    for line in (
        'where = { eventType = "view" }',
        'each = "lines"',
        'quantity = "qty"',
        'time_unit = "s"',
        "lines[].sku",
    ):
        assert line in text
    assert "44.4%" in text, "12 of 27 records are views, by the proposed mapping"

    async def look() -> dict[str, recent_messages.Finding]:
        async with kafka_client.admin(shop.settings.kafka) as admin:
            present = await partitions_by_topic(admin)
        return (await recent_messages.look(shop.settings, present))[0]

    found = asyncio.run(look())[shop.events]
    assert (found.read, found.not_ours, found.rejected.total(), found.messages["purchases"]) == (27, 1, 2, 24)
