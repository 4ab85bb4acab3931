"""The faults: each breaks something, waits, and mends it. Knows the fleet and the servers, not the checks.

A fault is a function of the ground and a random generator; it returns when everything that it broke is mended or has
its supervisor at work. What then has to be true again, and how long that takes, `campaign` measures.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from tests.faults import contents
from tests.faults.cluster import Kafka, Redis, Wire
from tests.faults.load import Load
from tests.faults.waiting import until
from tests.faults.workers import Fleet, Member

KiB = 1024


@dataclass
class Ground:
    """All that can be broken."""

    kafka: Kafka
    redis: Redis
    wire: Wire
    fleet: Fleet
    spare: Member
    load: Load
    session_timeout_s: float


class NobodyLeft(Exception):
    """Whom the fault wants to break is down already, by another one."""


Fault = Callable[[Ground, random.Random], None]


def _one(
    ground: Ground, dice: random.Random, role: str = "any", fits: Callable[[Member], bool] = lambda _: True
) -> Member:
    members = [member for member in ground.fleet.running(role) if fits(member)]
    if not members:
        raise NobodyLeft
    return dice.choice(members)


def kill_worker(ground: Ground, dice: random.Random) -> None:
    ground.fleet.kill(_one(ground, dice))


def kill_all_workers(ground: Ground, dice: random.Random) -> None:
    for member in ground.fleet.running("any"):
        ground.fleet.kill(member)


def terminate_worker(ground: Ground, dice: random.Random) -> None:
    ground.fleet.terminate(_one(ground, dice))


def stop_worker(ground: Ground, dice: random.Random) -> None:
    """SIGSTOP for longer than the session time-out: its partitions go to others while it still has work in hand."""
    member = _one(ground, dice)
    ground.load.pace(3)  # so that there is work in hand
    time.sleep(0.5)
    member.send(signal.SIGSTOP)
    ground.load.pace(1 / 3)
    time.sleep(ground.session_timeout_s + dice.uniform(2, 5))
    member.send(signal.SIGCONT)


def stop_worker_briefly(ground: Ground, dice: random.Random) -> None:
    member = _one(ground, dice)
    member.send(signal.SIGSTOP)
    time.sleep(dice.uniform(0.2, ground.session_timeout_s / 2))
    member.send(signal.SIGCONT)


def kill_broker(ground: Ground, dice: random.Random) -> None:
    broker = dice.choice(ground.kafka.brokers)
    broker.kill()
    time.sleep(dice.uniform(1, 6))
    broker.start()
    broker.wait(90)


def kill_cluster(ground: Ground, dice: random.Random) -> None:
    ground.kafka.kill()
    time.sleep(dice.uniform(1, 10))
    ground.kafka.start()


def restart_redis_empty(ground: Ground, dice: random.Random) -> None:
    ground.redis.kill()
    time.sleep(dice.uniform(0, 3))
    ground.redis.start()
    ground.redis.wait(10)


def cut_redis(ground: Ground, dice: random.Random) -> None:
    ground.wire.cut()
    time.sleep(dice.uniform(2, 8))
    ground.wire.mend()


def stall_redis(ground: Ground, dice: random.Random) -> None:
    ground.wire.stall()
    time.sleep(dice.uniform(2, 8))
    ground.wire.mend()


def slow_redis(ground: Ground, dice: random.Random) -> None:
    ground.wire.slow(dice.uniform(0.05, 0.4))
    time.sleep(dice.uniform(3, 8))
    ground.wire.mend()


def fail_redis_over(ground: Ground, dice: random.Random) -> None:
    """The master becomes a replica and keeps its connections, READONLY; its successor has its address. Then back."""
    with TemporaryDirectory() as folder:
        successor = Redis(Path(folder))
        successor.start()
        try:
            successor.wait(10)
            with successor.client as new, ground.redis.client as old:
                for master, replica, port in ((old, new, successor.port), (new, old, ground.redis.port)):
                    _succeed(master, replica)
                    ground.wire.lead_to(port)
                    time.sleep(dice.uniform(3, 6))
        except redis.RedisError:
            raise NobodyLeft from None
        finally:
            ground.wire.lead_to(ground.redis.port)
            with ground.redis.client as old, suppress(redis.RedisError):
                old.replicaof("NO", "ONE")
            successor.kill()


def _succeed(master: Any, replica: Any) -> None:
    """The replica gets all that the master has, and its place."""
    host, port = "127.0.0.1", master.connection_pool.connection_kwargs["port"]
    replica.replicaof(host, port)
    until(lambda: replica.info("replication")["master_link_status"] == "up", 30, "the replica is not in step")
    replica.replicaof("NO", "ONE")
    master.replicaof(host, replica.connection_pool.connection_kwargs["port"])


def fill_redis(ground: Ground, dice: random.Random) -> None:
    """Not a byte more, and nothing is evicted."""
    with (
        ground.redis.client as client,
        suppress(redis.RedisError),
    ):  # another fault has it down: it comes back with room
        client.config_set("maxmemory", 1)
        time.sleep(dice.uniform(3, 8))
        client.config_set("maxmemory", 0)


def kill_worker_without_redis(ground: Ground, dice: random.Random) -> None:
    """What a rank worker could not write to Redis must not die with it."""
    ground.wire.cut()
    time.sleep(dice.uniform(2, 4))
    ground.fleet.kill(_one(ground, dice, "rank"))
    time.sleep(dice.uniform(0, 2))
    ground.wire.mend()


def add_and_remove_worker(ground: Ground, dice: random.Random) -> None:
    ground.fleet.add(ground.spare)
    time.sleep(dice.uniform(4, 12))
    ground.fleet.remove(ground.spare)


def delete_folder(ground: Ground, dice: random.Random) -> None:
    ground.fleet.kill(_one(ground, dice, "state"), and_its_folder=True)


def fill_disk(ground: Ground, dice: random.Random) -> None:
    """The worker's files cannot grow; it may end, and comes back when there is room again."""
    member = _one(ground, dice, "state", lambda member: member.settings.tables.store == "rocksdb")
    if member.worker is not None:
        member.limit_files(member.worker.log.stat().st_size + 8 * KiB)
    time.sleep(dice.uniform(3, 6))
    if member.worker is not None and member.worker.process.poll() is None:
        member.limit_files(2**62)


def _model(how: str) -> Fault:
    def breaks(ground: Ground, dice: random.Random) -> None:
        member = _one(ground, dice, "rank", lambda member: member.settings.ranker.model != "none")
        member.tell(model=how)
        time.sleep(dice.uniform(4, 8))
        member.tell()

    return breaks


def jump_clock(ground: Ground, dice: random.Random) -> None:
    """One worker's time of day is days off, either way, and jumps back."""
    member = _one(ground, dice)
    member.tell(clock_s=dice.choice([-1, 1]) * dice.uniform(1, 40) * 86_400)
    time.sleep(dice.uniform(3, 6))
    member.tell()


def abort_transaction(ground: Ground, dice: random.Random) -> None:
    contents.abort_transaction(ground.load, dice)


def empty_partitions(ground: Ground, dice: random.Random) -> None:
    contents.empty_partitions(ground.load)
    ground.fleet.kill(_one(ground, dice, "state"))


def damage_batch(ground: Ground, dice: random.Random) -> None:
    contents.damage_batch(ground.load, ground.kafka)
    ground.fleet.kill(_one(ground, dice, "state"))


FAULTS: dict[str, Fault] = {
    "kill -9 a worker": kill_worker,
    "kill -9 all workers": kill_all_workers,
    "SIGTERM a worker": terminate_worker,
    "SIGSTOP past the session": stop_worker,
    "SIGSTOP briefly": stop_worker_briefly,
    "kill -9 a broker": kill_broker,
    "kill -9 the cluster": kill_cluster,
    "Redis restarts empty": restart_redis_empty,
    "Redis unreachable": cut_redis,
    "Redis hangs": stall_redis,
    "Redis slow": slow_redis,
    "READONLY failover of Redis": fail_redis_over,
    "Redis is full": fill_redis,
    "kill -9 without Redis": kill_worker_without_redis,
    "a worker comes and goes": add_and_remove_worker,
    "data folder deleted": delete_folder,
    "disk full": fill_disk,
    "model raises": _model("raise"),
    "model hangs": _model("hang"),
    "model returns NaN": _model("nan"),
    "clock jumps": jump_clock,
    "aborted transaction": abort_transaction,
    "partitions emptied": empty_partitions,
    "batch unreadable": damage_batch,
}


def schedule(dice: random.Random, count: int, kinds: Sequence[str], two_at_once: float) -> list[tuple[str, ...]]:
    """So many times one fault, or with this chance two; each kind as often as the others, as far as may be."""
    chosen: list[tuple[str, ...]] = []
    while len(chosen) < count:
        for kind in dice.sample(kinds, len(kinds)):
            other = dice.choice(kinds)
            two = dice.random() < two_at_once and other != kind
            chosen.append((kind, other) if two else (kind,))
    return chosen[:count]
