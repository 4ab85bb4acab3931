"""The faults: each breaks something, waits, and mends it. Knows the fleet and the servers, not the checks.

A fault is a function of the system and a random generator. It returns when everything that it broke is mended, or the
supervisor is about to restart it.
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

from tests.faults import data_faults
from tests.faults.cluster import Kafka, Redis, Wire
from tests.faults.load import Load
from tests.faults.waiting import until
from tests.faults.workers import Fleet, Member

KiB = 1024


@dataclass
class System:
    """Everything that runs and can be broken.

    Attributes
    ----------
    kafka, redis, wire : Kafka, Redis, Wire
        `wire` is between the workers and Redis.
    fleet : Fleet
    spare : Member
        A worker that is not in the fleet.
    load : Load
    session_timeout_s : float
        After so long without a heartbeat, Kafka gives a worker's partitions to others.
    """

    kafka: Kafka
    redis: Redis
    wire: Wire
    fleet: Fleet
    spare: Member
    load: Load
    session_timeout_s: float


class NoTarget(Exception):
    """What the fault wants to break is down already, by another fault."""


Fault = Callable[[System, random.Random], None]


def _any_member(
    system: System, dice: random.Random, role: str = "any", fits: Callable[[Member], bool] = lambda _: True
) -> Member:
    """Choose a running member of a role that fits.

    Raises
    ------
    NoTarget
        There is none.
    """
    members = [member for member in system.fleet.running(role) if fits(member)]
    if not members:
        raise NoTarget
    return dice.choice(members)


def kill_worker(system: System, dice: random.Random) -> None:
    system.fleet.kill(_any_member(system, dice))


def kill_all_workers(system: System, dice: random.Random) -> None:
    for member in system.fleet.running("any"):
        system.fleet.kill(member)


def terminate_worker(system: System, dice: random.Random) -> None:
    system.fleet.terminate(_any_member(system, dice))


def stop_worker(system: System, dice: random.Random) -> None:
    """Stop a worker for longer than its session time-out: its partitions go to others while it has in-flight work."""
    member = _any_member(system, dice)
    system.load.pace(3)  # so that the worker has in-flight work
    time.sleep(0.5)
    member.send(signal.SIGSTOP)
    system.load.pace(1 / 3)
    time.sleep(system.session_timeout_s + dice.uniform(2, 5))
    member.send(signal.SIGCONT)


def stop_worker_briefly(system: System, dice: random.Random) -> None:
    member = _any_member(system, dice)
    member.send(signal.SIGSTOP)
    time.sleep(dice.uniform(0.2, system.session_timeout_s / 2))
    member.send(signal.SIGCONT)


def kill_broker(system: System, dice: random.Random) -> None:
    broker = dice.choice(system.kafka.brokers)
    broker.kill()
    time.sleep(dice.uniform(1, 6))
    broker.start()
    broker.wait(90)


def kill_cluster(system: System, dice: random.Random) -> None:
    system.kafka.kill()
    time.sleep(dice.uniform(1, 10))
    system.kafka.start()


def restart_redis_empty(system: System, dice: random.Random) -> None:
    system.redis.kill()
    time.sleep(dice.uniform(0, 3))
    system.redis.start()
    system.redis.wait(10)


def cut_redis(system: System, dice: random.Random) -> None:
    system.wire.cut()
    time.sleep(dice.uniform(2, 8))
    system.wire.mend()


def stall_redis(system: System, dice: random.Random) -> None:
    system.wire.stall()
    time.sleep(dice.uniform(2, 8))
    system.wire.mend()


def slow_redis(system: System, dice: random.Random) -> None:
    system.wire.slow(dice.uniform(0.05, 0.4))
    time.sleep(dice.uniform(3, 8))
    system.wire.mend()


def fail_redis_over(system: System, dice: random.Random) -> None:
    """Make another Redis the master under the same address, then the old one again.

    The old master becomes a replica; its open connections stay and get READONLY errors.
    """
    with TemporaryDirectory() as folder:
        successor = Redis(Path(folder))
        successor.start()
        try:
            successor.wait(10)
            with successor.client as new, system.redis.client as old:
                for master, replica, port in ((old, new, successor.port), (new, old, system.redis.port)):
                    _switch_over(master, replica)
                    system.wire.lead_to(port)
                    time.sleep(dice.uniform(3, 6))
        except redis.RedisError:
            raise NoTarget from None
        finally:
            system.wire.lead_to(system.redis.port)
            with system.redis.client as old, suppress(redis.RedisError):
                old.replicaof("NO", "ONE")
            successor.kill()


def _switch_over(master: Any, replica: Any) -> None:
    """Make a replica the master, and the master its replica, when the replica has all data."""
    host, port = "127.0.0.1", master.connection_pool.connection_kwargs["port"]
    replica.replicaof(host, port)
    until(lambda: replica.info("replication")["master_link_status"] == "up", 30, "the replica is not in step")
    replica.replicaof("NO", "ONE")
    master.replicaof(host, replica.connection_pool.connection_kwargs["port"])


def fill_redis(system: System, dice: random.Random) -> None:
    """Let Redis refuse every write for lack of memory."""
    with (
        system.redis.client as client,
        suppress(redis.RedisError),
    ):  # another fault has stopped Redis: it restarts with free memory
        client.config_set("maxmemory", 1)
        time.sleep(dice.uniform(3, 8))
        client.config_set("maxmemory", 0)


def kill_worker_without_redis(system: System, dice: random.Random) -> None:
    """Kill a rank worker while Redis is unreachable: its lists that are not in Redis must not be lost."""
    system.wire.cut()
    time.sleep(dice.uniform(2, 4))
    system.fleet.kill(_any_member(system, dice, "rank"))
    time.sleep(dice.uniform(0, 2))
    system.wire.mend()


def add_and_remove_worker(system: System, dice: random.Random) -> None:
    system.fleet.add(system.spare)
    time.sleep(dice.uniform(4, 12))
    system.fleet.remove(system.spare)


def delete_folder(system: System, dice: random.Random) -> None:
    system.fleet.kill(_any_member(system, dice, "state"), delete_folder=True)


def fill_disk(system: System, dice: random.Random) -> None:
    """Let no file of a worker grow. The worker may end; it restarts when there is space again."""
    member = _any_member(system, dice, "state", lambda member: member.settings.tables.store == "rocksdb")
    if member.worker is not None:
        member.limit_files(member.worker.log.stat().st_size + 8 * KiB)
    time.sleep(dice.uniform(3, 6))
    if member.worker is not None and member.worker.process.poll() is None:
        member.limit_files(2**62)


def _break_model(fault: str) -> Fault:
    """Return the fault that a rank worker's model raises, hangs or returns NaN (`raise`, `hang`, `nan`)."""

    def break_model(system: System, dice: random.Random) -> None:
        member = _any_member(system, dice, "rank", lambda member: member.settings.ranker.model != "none")
        member.control_process(model=fault)
        time.sleep(dice.uniform(4, 8))
        member.control_process()

    return break_model


def jump_clock(system: System, dice: random.Random) -> None:
    """Set one worker's clock days forward or back, then right again."""
    member = _any_member(system, dice)
    member.control_process(clock_s=dice.choice([-1, 1]) * dice.uniform(1, 40) * 86_400)
    time.sleep(dice.uniform(3, 6))
    member.control_process()


def abort_transaction(system: System, dice: random.Random) -> None:
    data_faults.abort_transaction(system.load, dice)


def empty_partitions(system: System, dice: random.Random) -> None:
    data_faults.empty_partitions(system.load)
    system.fleet.kill(_any_member(system, dice, "state"))


def damage_batch(system: System, dice: random.Random) -> None:
    data_faults.damage_batch(system.load, system.kafka)
    system.fleet.kill(_any_member(system, dice, "state"))


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
    "model raises": _break_model("raise"),
    "model hangs": _break_model("hang"),
    "model returns NaN": _break_model("nan"),
    "clock jumps": jump_clock,
    "aborted transaction": abort_transaction,
    "partitions emptied": empty_partitions,
    "batch unreadable": damage_batch,
}


def schedule(dice: random.Random, count: int, kinds: Sequence[str], two_at_once: float) -> list[tuple[str, ...]]:
    """Draw an order of faults in which each kind is as frequent as the others, as far as possible.

    Parameters
    ----------
    dice : random.Random
    count : int
    kinds : sequence of str
    two_at_once : float
        The probability that a second, different fault comes at the same time.

    Returns
    -------
    list of tuple of str
        `count` tuples of one or two kinds.
    """
    chosen: list[tuple[str, ...]] = []
    while len(chosen) < count:
        for kind in dice.sample(kinds, len(kinds)):
            other = dice.choice(kinds)
            two = dice.random() < two_at_once and other != kind
            chosen.append((kind, other) if two else (kind,))
    return chosen[:count]
