"""A team's own topics through kill -9, and deleted, on a broker that creates every topic that a client asks for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streams.settings import KafkaSettings, RankerSettings, Settings
from streams.testing.apache_kafka import ApacheKafka
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import Client, until
from tests.integration.test_team_topics import Shop, names

USERS = [str(number) for number in range(100, 130)]


@pytest.fixture
def eager_broker(kafka_home: Path) -> Iterator[str]:
    with ApacheKafka(kafka_home, "auto.create.topics.enable=true\n") as running:
        yield running.bootstrap_servers


class Orders:
    """Orders and views of users at random, and how often each user's state must have changed."""

    def __init__(self, shop: Shop, client: Client) -> None:
        self._shop, self._client, self._random = shop, client, random.Random(5)
        self.expected: Counter[str] = Counter()

    def burst(self, count: int, views: float = 0.3) -> None:
        for _ in range(count):
            user, skus = self._random.choice(USERS), self._random.sample(range(30), self._random.randrange(1, 4))
            if self._random.random() < views:
                self._shop.view(user, skus[0])
                self.expected[user] += 1
            else:
                self._shop.order(user, *skus)
                self.expected[user] += len(skus)
        self._shop.flush()

    def check(self) -> None:
        found: dict[str, int] = {}

        def settled() -> bool:
            found.update({user: (self._client.cached(user) or {}).get("state_version", 0) for user in self.expected})
            return found == self.expected

        try:
            until(settled, 60)
        finally:
            print("wanted and found:", {u: (n, found.get(u)) for u, n in self.expected.items() if found.get(u) != n})


def test_each_line_counts_once_and_a_deleted_topic_stays_deleted(eager_broker: str, settings: Settings) -> None:
    kafka = KafkaSettings(bootstrap_servers=eager_broker, partitions=4)
    settings = settings.model_copy(update={"kafka": kafka, "ranker": RankerSettings(model="none")})
    shop, client = Shop(settings), Client(settings)
    shop.create()
    shop.catalogue(30)
    orders = Orders(shop, client)
    with worker(shop.settings) as running:
        running.wait_ready()
        orders.burst(400)
        until(lambda: running.total("afterclick_users_flushed_total") > 5)
        running.kill()
    orders.burst(200)
    with worker(shop.settings) as running:
        running.wait_ready()
        orders.burst(200)
        orders.check()
        assert running.total("afterclick_catalogue_items") == 30
        deleted_and_created_again(shop, orders, running)
        assert running.stop() == 0


def deleted_and_created_again(shop: Shop, orders: Orders, running: WorkerProcess) -> None:
    """The worker says that the topic is gone; then it reads the new one, which has more partitions, from its start."""
    admin = AdminClient({"bootstrap.servers": shop.settings.kafka.bootstrap_servers})
    admin.delete_topics([shop.events])[shop.events].result(20)
    until(lambda: f"topic {shop.events} does not exist any more; create it again" in running.get("/readyz")[1], 40)
    assert shop.events not in names(shop.settings)
    admin.create_topics([NewTopic(shop.events, num_partitions=5)])[shop.events].result(20)
    until(lambda: "does not exist" not in running.get("/readyz")[1], 40)
    orders.burst(100, views=1)  # they have ids of their own: offsets begin again at 0
    orders.check()

    def with_lag() -> set[str]:
        lags = [s.labels for s in running.samples() if s.name == "afterclick_consumer_lag_messages"]
        return {labels["partition"] for labels in lags if labels["topic"] == shop.events}

    until(lambda: with_lag() == set("01234"))


def test_nothing_starts_while_a_topic_is_missing(eager_broker: str, settings: Settings) -> None:
    kafka = KafkaSettings(bootstrap_servers=eager_broker, partitions=4)
    shop = Shop(settings.model_copy(update={"kafka": kafka}))
    running = WorkerProcess(shop.settings, "state")
    try:
        assert running.process.wait(60) == 2
    finally:
        running.kill()
    lines = [line for line in running.log.read_text().splitlines() if line.startswith(("afterclick: ", "topic "))]
    assert lines[0].startswith(f"afterclick: topic {shop.events}: got none")
    assert not names(shop.settings) & {shop.events, shop.products}
