"""One suite over every store that a flush writes to: Faust's tables, in memory and in RocksDB, and the tests' own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition
from faust.assignor.client_assignment import ClientAssignment

from encoders.events.entries import Event
from encoders.interest import Decay, update
from streams.faust_compat.table_store import TableStore
from streams.state.changelog import Store
from streams.state.event_memory import seen_of
from streams.state.users import Users
from tests.stores import MemoryStore

PARTITIONS, DIM = 4, 8
CHANGELOG = "stores-users-changelog"
FAUST = {"faust-memory": "memory://", "faust-rocksdb": "rocksdb://?driver=rocksdict"}
Change = tuple[bytes, bytes | None]


@dataclass
class Case:
    """A store, the mapping that users are read from, and a function that assigns partitions to the worker."""

    store: Store
    values: Mapping[bytes, bytes]
    hold: Callable[[Sequence[int]], None]


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Case]:
    if kind == "memory":
        memory = MemoryStore()
        yield Case(memory, memory, lambda partitions: setattr(memory, "held", partitions))
        return
    app = faust.App("stores", store=FAUST[kind], datadir=str(folder), web_enabled=False, autodiscover=False)
    table: Any = app.Table("users", key_type=bytes, value_type=bytes, partitions=PARTITIONS, use_partitioner=True)

    def hold(partitions: Sequence[int]) -> None:
        """Stand in for the consumer group, which needs a broker."""
        assigned = {TopicPartition("clicks", 9), *(TopicPartition(CHANGELOG, number) for number in partitions)}
        app.consumer = SimpleNamespace(assignment=lambda: assigned)  # type: ignore[assignment]
        app.assignor._assignment = ClientAssignment(actives={CHANGELOG: list(partitions)}, standbys={})  # type: ignore[attr-defined]

    hold(range(PARTITIONS))
    try:
        yield Case(TableStore(table, CHANGELOG), table.data, hold)
    finally:
        getattr(table.data, "_dbs", {}).clear()  # as Faust's store closes: RocksDB's lock goes with its object


@pytest.fixture(params=["memory", *FAUST])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with opened(request.param, tmp_path) as case:
        yield case


def apply(store: Store, changes: Sequence[Change], first_offset: int = 0) -> None:
    """Write these, as Kafka acknowledged them: each key has its partition, and each partition its offsets."""
    store.apply([(key, value, produced(partition_of(key), first_offset + n)) for n, (key, value) in enumerate(changes)])


def partition_of(key: bytes) -> int:
    return key[-1] % PARTITIONS


def produced(partition: int, offset: int) -> RecordMetadata:
    return RecordMetadata(CHANGELOG, partition, TopicPartition(CHANGELOG, partition), offset, 0, 0, 0)


def random_changes(rng: random.Random, count: int) -> list[Change]:
    """Values and deletions of few keys, so that keys come again, in one batch too; any bytes."""
    keys = [b"u" + bytes([number, 0, 255 - number]) for number in range(12)]
    return [(rng.choice(keys), rng.choice([None, rng.randbytes(rng.randint(1, 40))])) for _ in range(count)]


def test_it_holds_what_a_dictionary_would(case: Case) -> None:
    """Batches of any size, in which the last change of a key counts."""
    rng, expected = random.Random(5), dict[bytes, bytes]()
    for _ in range(60):
        changes = random_changes(rng, rng.randint(0, 9))
        apply(case.store, changes)
        for key, value in changes:
            if value is None:
                expected.pop(key, None)
            else:
                expected[key] = value
        assert dict(case.values.items()) == expected
        assert {key: case.values.get(key) for key, _ in changes} == {key: expected.get(key) for key, _ in changes}


def test_an_unknown_key_has_no_value_and_its_deletion_is_no_error(case: Case) -> None:
    assert case.values.get(b"unobody") is None
    apply(case.store, [(b"unobody", None)])
    assert case.values.get(b"unobody") is None
    assert list(case.values.items()) == []


def test_no_change_is_no_error(case: Case) -> None:
    case.store.apply([])
    assert list(case.values.items()) == []


def test_it_says_which_partitions_it_holds(case: Case) -> None:
    case.hold([0, 3])
    assert set(case.store.partitions()) == {0, 3}
    case.hold([])
    assert set(case.store.partitions()) == set()


def flush(users: Users, store: Store) -> None:
    apply(store, [change for values in users.begin_flush().values() for change in values.items()])
    users.end_flush()


def accept(users: Users, user_id: str, events: int) -> None:
    memory, interest = users.memory(user_id), users.get(user_id).interest
    for number in range(events):
        event = Event(number + 1, 1_700_000_000_000 + number * 1_000, "click")
        memory.add(seen_of("u", f"e{number}", event))
        interest = update(interest, event, None, Decay())
    users.accept(user_id, memory, interest)


def test_users_are_read_as_they_were_flushed(case: Case) -> None:
    """The record, and the events that did not fit into it; whose items are unknown; and erased, but for the hash."""
    users = Users(case.values, DIM)
    for user_id, events in (("ann", 3), ("bob", 100)):
        accept(users, user_id, events)
        flush(users, case.store)
    reader = Users(case.values, DIM)
    assert [reader.get(user_id).interest.version for user_id in ("ann", "bob", "cyd")] == [3, 100, 0]
    first = seen_of("u", "e0", Event(1, 1_700_000_000_000, "click"))
    assert reader.memory("bob").look_up(first) == "known"
    assert {user_id for user_id, _ in reader.waiting()} == {"ann", "bob"}
    users.forget("bob", 1_800_000_000_000)
    flush(users, case.store)
    reader = Users(case.values, DIM)
    assert (reader.get("bob").interest.version, reader.get("ann").interest.version) == (0, 3)
    assert reader.forgotten_until("bob") == 1_800_000_000_000
    assert not [key for key, _ in case.values.items() if b"bob" in key]


@pytest.mark.parametrize("kind", FAUST)
def test_restored_from_the_changelog_it_holds_what_was_flushed(kind: str, tmp_path: Path) -> None:
    changes = random_changes(random.Random(6), 80)
    with opened(kind, tmp_path / "flushed") as flushed, opened(kind, tmp_path / "restored") as restored:
        assert isinstance(restored.store, TableStore)
        apply(flushed.store, changes)
        for partition in range(PARTITIONS):
            records = [
                ConsumerRecord(CHANGELOG, partition, offset, 0, 0, key, value, None, 0, 0, ())
                for offset, (key, value) in enumerate(changes)
                if partition_of(key) == partition
            ]
            restored.store.restore(faust.types.TP(CHANGELOG, partition), records)
        assert dict(restored.values.items()) == dict(flushed.values.items())


def test_rocksdb_keeps_values_and_offsets_over_a_restart(tmp_path: Path) -> None:
    """A worker that starts again reads the changelog from behind the newest offset that its store holds."""
    with opened("faust-rocksdb", tmp_path) as before:
        apply(before.store, [(b"ua", b"1"), (b"ub", b"2"), (b"ua", b"3"), (b"ub", None)], first_offset=40)
    with opened("faust-rocksdb", tmp_path) as after:
        values: Any = after.values
        a, b = (faust.types.TP(CHANGELOG, partition_of(key)) for key in (b"ua", b"ub"))
        assert (values.persisted_offset(a), values.persisted_offset(b)) == (42, 43)
        assert dict(values.items()) == {b"ua": b"3"}
