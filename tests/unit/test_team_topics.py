"""Topics of the team's in the state worker: one record, any number of messages; each counts once, whatever happens."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.structs import RecordMetadata

from streams import metrics
from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.kafka.own_messages import retried_headers
from streams.settings import Settings
from streams.state.event_router import ROUTED
from tests.unit.test_state_worker import CHANGELOG, NOW, World

SHOP = "shop-events"
LINE = {"user_id": "userId", "item_id": "sku", "timestamp": "ts"}
SETTINGS = Settings.model_validate(
    {
        "topics": {
            "clicks": {
                "name": SHOP,
                "where": {"type": "view"},
                "fields": {"user_id": "userId", "item_id": "product.sku", "timestamp": "ts"},
            },
            "purchases": {"name": SHOP, "where": {"type": "order"}, "each": "lines", "fields": LINE},
            "items": [
                {"name": "shop-products", "fields": {"item_id": "sku", "title": "name"}},
                {"name": SHOP, "where": {"type": "product"}, "fields": {"item_id": "sku", "title": "name"}},
            ],
        }
    }
)
PARTITIONS = SETTINGS.kafka.partitions


class Killed(Exception):
    """The process ends here."""


def world() -> World:
    return World(settings=SETTINGS)


def order(of: World, *users: str, key: str = "k", **more: Any) -> Any:
    """An order whose lines may be of several users: nothing forbids it, and so they may be on other partitions."""
    lines = [{"sku": "a", "userId": user} for user in users]
    return of.event(SHOP, key, json.dumps({"type": "order", "ts": NOW, "lines": lines}).encode(), **more)


def test_each_message_of_a_record_is_applied_and_the_record_is_acknowledged_once() -> None:
    shop = world()
    home, away = (
        next(f"u{n}" for n in range(99) if (partition_of(b"u%d" % n, PARTITIONS) == 3) is is_home)
        for is_home in (True, False)
    )
    view = {"type": "view", "ts": NOW, "userId": home, "product": {"sku": "a"}}
    records = [
        order(shop, home, away, home, partition=3),
        shop.event(SHOP, "k", json.dumps(view).encode(), partition=3),
        shop.event(SHOP, "k", b'{"type": "search"}', partition=3),
        order(shop, partition=3),
    ]
    before = metrics.records_not_ours.labels(SHOP)._value.get()
    asyncio.run(shop.work([*records, *records]))
    assert shop.version(home) == 3, "two lines and a view"
    routed = {
        (message.key, (message.headers or {})["origin"]): json.loads(message.value or b"")
        for message in shop.broker.of(ROUTED)
    }
    assert {key: value["event_id"] for key, value in routed.items()} == {(away.encode(), b"purchases"): f"{SHOP}/3/0/1"}
    assert shop.acked == [0, 1, 2, 3] * 2
    assert metrics.records_not_ours.labels(SHOP)._value.get() == before + 4, "a search, and an order without lines"


def test_a_record_with_one_bad_line_is_rejected_whole() -> None:
    shop = world()
    bad = {"type": "order", "ts": NOW, "lines": [{"sku": "a", "userId": "u"}, {"sku": "a"}]}
    value = json.dumps(bad).encode()
    asyncio.run(shop.work([shop.event(SHOP, "their key", value, partition=7)]))
    [letter] = map(json.loads, (message.value or b"" for message in shop.broker.of("dead-letters")))
    assert (letter["topic"], letter["partition"], letter["offset"], letter["mapped"]) == (SHOP, 7, 0, True)
    assert "user_id" in letter["error"]
    assert "user_id" in letter["cause"]
    assert (shop.version("u"), shop.acked) == (0, [0])
    assert not shop.broker.of(ROUTED)


def test_a_record_that_is_sent_again_twice_counts_once() -> None:
    shop = world()
    headers: dict[str, Any] = dict(retried_headers(partition_of(b"u", PARTITIONS), 500))
    first, again = (order(shop, "u", "u", key="u", **headers) for _ in range(2))
    asyncio.run(shop.work([first, again, order(shop, "u", key="u")]))
    assert shop.version("u") == 3


def test_items_go_to_the_catalogues_topic_with_key_and_time() -> None:
    shop = world()
    product = {"type": "product", "sku": 42, "name": "Boots"}
    records = [
        shop.event("shop-products", "k1", json.dumps({"sku": "i1", "name": "Hat"}).encode(), written_ms=NOW - 5),
        shop.event("shop-products", "i2", None),
        shop.event(SHOP, "k1", json.dumps(product).encode()),
    ]
    asyncio.run(shop.work(records))
    sent = shop.broker.of("items")
    assert [message.key for message in sent] == [b"i1", b"i2", b"42"]
    assert json.loads(sent[0].value or b"") == {"item_id": "i1", "title": "Hat"}
    assert sent[0].written_ms == NOW - 5
    assert sent[1].value is None
    assert shop.acked == [0, 1, 2]


class Cluster:
    """Two workers, each with half of the users; what they wrote is all that survives the end of their processes."""

    def __init__(self, order: random.Random) -> None:
        self.order = order
        self.shop: list[Any] = []
        self.routed: list[list[Outgoing]] = [[], []]
        self.states: list[dict[bytes, bytes]] = [{}, {}]

    def run(self, number: int, events: Sequence[Any], kill: bool) -> int:
        """Let a new process of a worker work on events; return how many it acknowledged before its end."""
        worker = world()
        worker.store.update(self.states[number])
        worker.store.held = range(number * PARTITIONS // 2, (number + 1) * PARTITIONS // 2)
        left = self.order.randrange(3) if kill else 99
        deliver = worker.broker.deliver

        async def until_killed(messages: Sequence[Outgoing]) -> list[RecordMetadata]:
            nonlocal left
            left -= 1
            stored = messages if left >= 0 else messages[: self.order.randrange(len(messages) + 1)]
            for message in stored:
                if message.topic == CHANGELOG and message.value is not None:
                    self.states[number][message.key or b""] = message.value
                elif message.topic == ROUTED:
                    self.routed[partition_of(message.key or b"", PARTITIONS) >= PARTITIONS // 2].append(message)
            if left < 0:
                raise Killed
            return await deliver(messages)

        worker.broker.deliver = until_killed  # type: ignore[method-assign]
        own = [worker.event(*arguments, **more) for arguments, more in events]

        async def life() -> None:
            running = asyncio.create_task(worker.worker.run())
            await worker.worker.take(own)
            drained = asyncio.create_task(worker.worker.acks.drain(20))
            await asyncio.wait({running, drained}, return_when=asyncio.FIRST_COMPLETED)
            for task in (running, drained):
                task.cancel()
            await asyncio.gather(running, drained, return_exceptions=True)

        asyncio.run(life())
        return len(worker.acked)


@pytest.mark.parametrize("seed", range(8))
def test_each_line_counts_once_however_often_a_worker_is_killed(seed: int) -> None:
    """A worker dies amid its writes; Kafka delivers to the next what was not acknowledged, a batch of any size."""
    chance = random.Random(seed)
    cluster = Cluster(chance)
    users = [f"u{number}" for number in range(8)]
    expected: Counter[str] = Counter()
    records = []
    for offset in range(40):
        buyers = chance.choices(users, k=chance.randrange(4))
        value: dict[str, Any] = {"type": "order", "ts": NOW, "lines": [{"sku": "a", "userId": one} for one in buyers]}
        if chance.random() < 0.2:
            value["lines"].append({"userId": "u0"})
        else:
            expected.update(buyers)
        records.append(((SHOP, "k", json.dumps(value).encode(), 3), {"offset": offset}))
    done = 0
    while done < len(records):
        done += cluster.run(0, records[done : done + chance.randrange(1, 20)], kill=chance.random() < 0.7)
    for number, routed in enumerate(cluster.routed):
        taken = 0
        while taken < len(routed):
            batch = [
                ((message.topic, (message.key or b"").decode(), message.value), message.headers or {})
                for message in routed[taken : taken + 7]
            ]
            taken += cluster.run(number, batch, kill=chance.random() < 0.5)
    counted = Counter[str]()
    for number in (0, 1):
        last = world()
        last.store.update(cluster.states[number])
        counted.update({user: last.version(user) for user in users})
    assert counted == expected
