"""How the pieces between an event and a list grow with users and with items: time, and memory for each.

Every number of users and of items is measured in a process of its own, so that memory is what they alone add.
Called by `bench`; `plot` draws the rows. Knows no Kafka: the users' table is Faust's, without a changelog.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import faust
import numpy as np
from aiokafka.structs import RecordMetadata
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from encoders.interest import BOUGHT, WAITING, Decay, Event, EventType, Interest, Vector, empty, item_key, update
from ranker.recall.candidates import BUILT_IN, UserView, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.nearest_items import top
from streams.bench.rows import Row, Target, percentile
from streams.bench.vectors import interests_in, text_like
from streams.contracts import Click
from streams.faust_compat.table_store import TableStore
from streams.settings import Settings
from streams.state.event_memory import seen_of
from streams.state.tier import StateTier
from streams.state.user_record import UserRecord, encode_record
from streams.state.users import RECENT, Changes, Users

DIM, SEED, LIMIT = 384, 7, 100
SMALLEST, STEP = 1_000, 10
STATE_BYTES = 4_096
EVENTS, SEARCHES, EXACT_SEARCHES = 500, 200, 5
FULL = 64
"""Events of a user whose record has all that it has room for."""
PATTERNS = 64
"""Different records, copied to all users: what is in a record does not change its size."""
DAY_MS, NOW_MS = 86_400_000, 1_795_000_000_000
STATUS = Path("/proc/self/status")

T = TypeVar("T")


@dataclass(frozen=True)
class OfUsers:
    """What so many users cost: seconds of each event and its flush; bytes of each in the worker, and as written."""

    event_s: list[float]
    memory: float
    record: float


@dataclass(frozen=True)
class OfItems:
    """What so many items cost: seconds of each search, of each whole step 3, of each exact search, and per item."""

    search_s: list[float]
    recall_s: list[float]
    exact_s: list[float]
    put_s: float
    memory: float


def measure(items: int, users: int, progress: Progress) -> list[Row]:
    """Measure at 1,000, 10,000 and so on, up to `items` and to `users`."""
    rows = []
    for count in progress.track(list(_sizes(users)), description=f"Up to {users:,} users"):
        rows += _user_rows(count, _alone(partial(of_users, count)))
    for count in progress.track(list(_sizes(items)), description=f"Up to {items:,} items"):
        rows += _item_rows(count, _alone(partial(of_items, count)))
    return rows


def of_users(count: int) -> OfUsers:
    """Fill a worker's table with users of the largest state there is, then take events of theirs in."""
    app = faust.App("bench-growth", store="memory://", web_enabled=False, autodiscover=False)
    table = app.Table("users", key_type=bytes, value_type=bytes, partitions=1, use_partitioner=True)
    store, users = TableStore(table, "states"), Users(table.data, DIM)
    patterns = list(_records())
    before = _memory()
    for begin in range(0, count, PATTERNS):
        some = {f"user-{number}": patterns[number % PATTERNS] for number in range(begin, min(count, begin + PATTERNS))}
        _store(store, {user: {b"u" + user.encode(): bytes(bytearray(value))} for user, value in some.items()})
    memory = (_memory() - before) / count
    tier = StateTier(Settings(), users, Catalogue(DIM), Counts(90.0 * DAY_MS, 3.0 * DAY_MS), BUILT_IN)
    rng = np.random.default_rng(SEED)
    event_s = []
    for number, user in enumerate(rng.integers(0, count, EVENTS).tolist()):
        click = Click(event_id=f"new-{number}", user_id=f"user-{user}", item_id="known-to-nobody", timestamp=NOW_MS)
        begin_s = time.perf_counter()
        tier.accept(click.user_id, [click])
        _store(store, users.begin_flush())
        users.end_flush()
        event_s.append(time.perf_counter() - begin_s)
    return OfUsers(event_s, memory, float(np.mean([len(value) for value in patterns])))


def of_items(count: int) -> OfItems:
    """Fill a catalogue, and find candidates in it."""
    with threadpool_limits(1, "blas"):  # as in a worker
        vectors = text_like(count, DIM, SEED)
        draw = interests_in(vectors, SEED)
        before = _memory()
        catalogue = Catalogue(DIM)
        begin_s = time.perf_counter()
        for number, vector in enumerate(vectors):
            catalogue.put(CatalogueItem(f"item-{number}", f"Title {number}", f"Text of item {number}"), vector)
        put_s = (time.perf_counter() - begin_s) / count
        memory = (_memory() - before) / count
        search_s = [_seconds(partial(catalogue.nearest, draw(), LIMIT)) for _ in range(SEARCHES)]
        exact_s = [_seconds(partial(_exact, draw(), vectors)) for _ in range(EXACT_SEARCHES)]
        counts, rng = Counts(90.0 * DAY_MS, 3.0 * DAY_MS), np.random.default_rng(SEED)
        recall_s = []
        for _ in range(SEARCHES // 4):
            state = _visitor([f"item-{number}" for number in rng.integers(0, count, 50)], catalogue, counts)
            shopper = UserView(state, catalogue, counts, Decay())
            recall_s.append(_seconds(partial(recall, shopper, BUILT_IN, LIMIT, False)))
    return OfItems(search_s, recall_s, exact_s, put_s, memory)


def _sizes(largest: int) -> Iterator[int]:
    size = SMALLEST
    while size < largest:
        yield size
        size *= STEP
    yield largest


def _user_rows(count: int, found: OfUsers) -> list[Row]:
    limit = Target(1.3, at_most=True, of="ratio")
    return [
        Row(
            f"memory of one user's state in a worker, {count:,} users",
            "bytes",
            [found.memory],
            "4 KB",
            [float(STATE_BYTES)],
            limit,
            f"The largest state there is, {found.record:,.0f} bytes as written: full history, purchases and waiting "
            "events. Of few users, memory comes in pages that are not full.",
        ),
        Row(
            f"an event taken in, its state in the table, {count:,} users, p50",
            "ms",
            [percentile(found.event_s, 50) * 1e3],
        ),
    ]


def _item_rows(count: int, found: OfItems) -> list[Row]:
    exact_ms = percentile(found.exact_s, 50) * 1e3
    return [
        Row(
            f"candidates by text, {count:,} items, p50",
            "ms",
            [percentile(found.search_s, 50) * 1e3],
            "exact search with numpy",
            [exact_ms],
        ),
        Row(
            f"candidates by text, {count:,} items, p99",
            "ms",
            [percentile(found.search_s, 99) * 1e3],
            target=Target(10, at_most=True),
        ),
        Row(f"candidates of all sources, {count:,} items, p50", "ms", [percentile(found.recall_s, 50) * 1e3]),
        Row(f"an item into the catalogue, {count:,} items", "ms", [found.put_s * 1e3]),
        Row(f"memory of one item in a worker, {count:,} items", "bytes", [found.memory]),
    ]


def _records() -> Iterator[bytes]:
    """Users' records as written, each as large as a state can be."""
    rng = np.random.default_rng(SEED)
    vectors = text_like(1_000, DIM, SEED)
    for _ in range(PATTERNS):
        state, seen = empty(DIM), []
        for place in range(FULL):
            kind: EventType = "purchase" if place < BOUGHT else "click"
            vector = None if place >= FULL - WAITING else vectors[int(rng.integers(1_000))]
            event = Event(int(rng.integers(2**63)), NOW_MS - (FULL - place) * DAY_MS, kind)
            state = update(state, event, vector, Decay())
            seen.append(seen_of(f"event-{place}", event))
        yield encode_record(UserRecord(state, tuple(seen[-RECENT:])))


def _visitor(item_ids: list[str], catalogue: Catalogue, counts: Counts) -> Interest:
    """Somebody who clicked these, counted for everybody."""
    state = empty(DIM)
    for place, item_id in enumerate(item_ids):
        event = Event(item_key(item_id), NOW_MS - (len(item_ids) - place) * 60_000, "click")
        counts.observe([event], state.history["item"].tolist())
        state = update(state, event, catalogue.vector(event.item), Decay())
    return state


def _store(store: TableStore, changes: Changes) -> None:
    """Write what a flush gave, as if a changelog had acknowledged it."""
    place = RecordMetadata("users-changelog", 0, None, 0, 0, 0, 0)
    store.apply([(key, value, place) for values in changes.values() for key, value in values.items()])


def _exact(queries: Vector, vectors: Vector) -> object:
    return top((queries @ vectors.T).max(axis=0), LIMIT)


def _alone(function: Callable[[], T]) -> T:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function).result()


def _memory() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    [line] = [line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin
