"""Workers that are replaced under load, and workers with RocksDB tables: every event counts once."""

from __future__ import annotations

import shutil
import threading
import time

from streams.settings import Settings
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import Client, until
from tests.integration.test_restarts import Traffic


def test_a_rolling_restart_under_load_loses_nothing(settings: Settings, client: Client) -> None:
    """Two workers, replaced one after the other while events come in; each new one is ready before the next goes."""
    client.items()
    traffic = Traffic(client, 13)

    def beside(name: str) -> Settings:
        own = {"port": free_port()}
        kafka = settings.kafka.model_copy(update={"instance_id": name})
        return settings.model_copy(update={"metrics": settings.metrics.model_copy(update=own), "kafka": kafka})

    def replaced(old: WorkerProcess, name: str) -> WorkerProcess:
        stopping = threading.Thread(target=old.stop)
        stopping.start()
        while stopping.is_alive():
            traffic.burst(5)
            time.sleep(0.05)
        new = WorkerProcess(beside(name), "all")
        while new.total("afterclick_worker_ready") < 2:
            traffic.burst(5)
            time.sleep(0.1)
        return new

    running = [WorkerProcess(beside(name), "all") for name in ("one", "two")]
    try:
        for one in running:
            one.wait_ready()
        traffic.burst(200)
        for index, name in enumerate(("one", "two")):
            running[index] = replaced(running[index], name)
        traffic.burst(100)
        traffic.check(running[0])
        assert [one.stop() for one in running] == [0, 0]
    finally:
        for one in running:
            one.kill()


def test_rocksdb_tables_restore_too(settings: Settings, client: Client) -> None:
    """From the disk, and from the changelog where the disk is empty; each worker ends amid users it just got to know.

    A table that is closed has no users: who reads it then begins them anew.
    """
    without_model = settings.ranker.model_copy(update={"model": "none"})
    tables = settings.tables.model_copy(update={"store": "rocksdb"})
    on_disk = settings.model_copy(update={"tables": tables, "ranker": without_model})
    client.items()
    traffic = Traffic(client, 13, users=2_000)
    for _ in range(2):
        with worker(on_disk, "all") as running:
            running.wait_ready()
            traffic.burst(4_000)
            until(lambda: running.total("afterclick_users_flushed_total"))
            assert running.stop() == 0
        assert any(settings.tables.data_dir.rglob("*.sst")) or any(settings.tables.data_dir.rglob("*.log"))
    shutil.rmtree(settings.tables.data_dir)
    with worker(on_disk, "all") as running:
        running.wait_ready()
        traffic.check(running)


def test_workers_share_partitions_and_take_over_those_of_others(settings: Settings, client: Client) -> None:
    """A second worker joins under load, the first leaves, a third joins and is killed."""

    def beside() -> Settings:
        return settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"port": free_port()})})

    client.items()
    traffic = Traffic(client, 12)
    with worker(settings, "all") as first:
        first.wait_ready()
        traffic.burst(300)
        with worker(beside(), "all") as second:
            while second.total("afterclick_worker_ready") < 2:
                traffic.burst(50)
                time.sleep(0.5)
            assert first.stop() == 0
            for _ in range(5):
                traffic.burst(50)
                time.sleep(0.2)
            with worker(beside(), "state") as third:
                third.wait_ready()
                traffic.burst(300)
                third.kill()
            traffic.burst(100)
            traffic.check(second)
