"""More users than the model keeps up with, and months of events at once. In the end the model has ranked every list."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from streams.kafka.topics import group_id
from streams.settings import Settings
from streams.testing.worker_process import WorkerProcess, worker
from tests import models
from tests.client import ITEMS, Client, now_ms, until

USERS, DAY_MS = 240, 86_400_000
OF_OLD_EVENTS = 60


def overloaded(client: Client) -> list[str]:
    return [user for user, list_ in client.newest().items() if list_["degraded"] == "overload"]


def waiting(running: WorkerProcess) -> float:
    return running.total("afterclick_lists_to_rank_again")


class RankGroup:
    """How far the rank tier's group is in its topic. What is committed is not delivered again."""

    def __init__(self, settings: Settings) -> None:
        server = {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": group_id(settings, "rank")}
        self._consumer = Consumer(server)
        topic = settings.topic("rank-requests")
        self._partitions = [TopicPartition(topic, number) for number in range(settings.kafka.partitions)]

    def ends(self) -> list[int]:
        return [self._consumer.get_watermark_offsets(each, timeout=10)[1] for each in self._partitions]

    def has_committed(self, ends: list[int]) -> bool:
        committed = self._consumer.committed(self._partitions, timeout=10)
        return all(each.offset >= end for each, end in zip(committed, ends, strict=True) if end)


def test_lists_that_went_out_without_the_model_are_ranked_again_by_the_next_worker(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    """The first worker's model is too slow for them, and the worker is killed; whoever clicks meanwhile comes first."""
    model = models.classifier(tmp_path / "slow", hidden_size=64, intermediate_size=256)
    slow = settings.model_copy(update={"ranker": settings.ranker.model_copy(update={"model": str(model)})})
    impatient = slow.model_copy(update={"ranker": slow.ranker.model_copy(update={"max_wait_ms": 1})})
    client.items()
    with worker(impatient) as running:
        running.wait_ready()
        for number in range(USERS):
            client.click(f"u{number}", ITEMS[number % len(ITEMS)])
        for number in range(OF_OLD_EVENTS):
            client.click(f"old{number}", ITEMS[number], timestamp=now_ms() - 90 * DAY_MS)
        client.flush()
        everybody = {f"u{number}" for number in range(USERS)} | {f"old{number}" for number in range(OF_OLD_EVENTS)}
        until(lambda: client.redis.exists(*(settings.key_prefix + user for user in everybody)) == len(everybody), 60)
        group = RankGroup(settings)
        ends = group.ends()
        until(lambda: group.has_committed(ends))
        running.kill()
    left = overloaded(client)
    assert len(left) > USERS / 2
    assert not [user for user in left if user.startswith("old")], "nobody waits for these lists, so the model has time"
    with worker(slow) as running:
        running.wait_ready()
        until(lambda: waiting(running) > 0, 10)
        client.click("fresh", ITEMS[0])
        client.flush()
        until(lambda: client.cached("fresh"))
        assert waiting(running) > 0, "it waited for the others"
        until(lambda: not waiting(running) and not running.total("afterclick_consumer_lag_messages"), 120)
        lists = client.newest()
        assert lists.keys() == everybody | {"fresh"}
        assert {list_["degraded"] for list_ in lists.values()} == {None}
        assert [user for user in lists if client.cached(user) != lists[user]] == []
        assert running.total("afterclick_lists_ranked_again_total") >= len(left)
