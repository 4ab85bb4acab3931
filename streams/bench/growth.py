"""Measure how the parts between an event and a list grow with users and with items: time and memory of each.

Each number of users and of items is measured in a process of its own, so that the memory is what they alone add. Knows
no Kafka: the users' table is Faust's, without a changelog.
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
from threadpoolctl import threadpool_limits

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, Interest, Vector, empty, update
from ranker.progress import StageProgress
from ranker.recall.candidates import BUILT_IN, recall
from ranker.recall.catalogue import Catalogue, CatalogueItem
from ranker.recall.counts import Counts
from ranker.recall.nearest_items import top
from ranker.recall.user_view import UserView
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.signals import full_record
from streams.bench.synthetic_vectors import interests_in, text_like
from streams.bench.timing import seconds
from streams.contracts import Click
from streams.faust_compat.table_store import TableStore
from streams.settings import Settings
from streams.state.staged_store import Changes
from streams.state.tier import StateTier
from streams.state.user_record import encode_record
from streams.state.users import Users
from streams.terminal.progress_bar import track

DIM, SEED, LIMIT = 384, 7, 100
SMALLEST, STEP = 1_000, 10
STATE_BYTES = 4_096
EVENTS, SEARCHES, EXACT_SEARCHES = 500, 200, 5
PATTERNS = 64
"""Different records, copied to all users: the content of a record does not change its size."""
DAY_MS, NOW_MS = 86_400_000, 1_795_000_000_000
STATUS = Path("/proc/self/status")

T = TypeVar("T")


@dataclass(frozen=True)
class UserCosts:
    """The costs with a number of users.

    Attributes
    ----------
    event_s : list of float
        Seconds of each event with its flush.
    memory_bytes : float
        Memory of one user in the worker.
    record_bytes : float
        Mean size of a user's record as written.
    """

    event_s: list[float]
    memory_bytes: float
    record_bytes: float


@dataclass(frozen=True)
class ItemCosts:
    """The costs with a number of items.

    Attributes
    ----------
    search_s, recall_s, exact_s : list of float
        Seconds of each search by text, of each search by all sources, and of each exact search.
    put_s : float
        Mean seconds of one item into the catalogue.
    memory_bytes : float
        Memory of one item in the worker.
    """

    search_s: list[float]
    recall_s: list[float]
    exact_s: list[float]
    put_s: float
    memory_bytes: float


def measure(items: int, users: int, stage: StageProgress) -> list[Measurement]:
    """Measure with 1,000, 10,000 and so on, up to `items` items and `users` users."""
    measurements = []
    for count in track(list(_sizes(users)), f"Up to {users:,} users", stage):
        measurements += user_measurements(count, in_own_process(partial(measure_users, count)))
    for count in track(list(_sizes(items)), f"Up to {items:,} items", stage):
        measurements += item_measurements(count, in_own_process(partial(measure_items, count)))
    return measurements


def measure_users(count: int) -> UserCosts:
    """Fill a worker's table with users of the largest possible state, then accept events of some of them."""
    app = faust.App("bench-growth", store="memory://", web_enabled=False, autodiscover=False)
    table = app.Table("users", key_type=bytes, value_type=bytes, partitions=1, use_partitioner=True)
    store, users = TableStore(table, "states"), Users(table.data, DIM)
    patterns = [encode_record(full_record(seed)) for seed in range(PATTERNS)]
    before = _memory_bytes()
    for begin in range(0, count, PATTERNS):
        numbers = range(begin, min(count, begin + PATTERNS))
        records = {f"user-{number}": patterns[number % PATTERNS] for number in numbers}
        _store(store, {user: {b"u" + user.encode(): bytes(bytearray(value))} for user, value in records.items()})
    memory = (_memory_bytes() - before) / count
    tier = StateTier(Settings(), users, Catalogue(DIM), Counts(90.0 * DAY_MS, 3.0 * DAY_MS), BUILT_IN)
    rng = np.random.default_rng(SEED)
    event_s = []
    for number, user in enumerate(rng.integers(0, count, EVENTS).tolist()):
        click = Click(event_id=f"new-{number}", user_id=f"user-{user}", item_id="not-in-catalogue", timestamp=NOW_MS)
        begin_s = time.perf_counter()
        tier.accept(click.user_id, [click])
        _store(store, users.begin_flush())
        users.end_flush()
        event_s.append(time.perf_counter() - begin_s)
    return UserCosts(event_s, memory, float(np.mean([len(value) for value in patterns])))


def measure_items(count: int) -> ItemCosts:
    """Fill a catalogue, and search it for candidates."""
    with threadpool_limits(1, "blas"):  # as in a worker
        vectors = text_like(count, DIM, SEED)
        draw = interests_in(vectors, SEED)
        before = _memory_bytes()
        catalogue = Catalogue(DIM)
        begin_s = time.perf_counter()
        for number, vector in enumerate(vectors):
            catalogue.put(CatalogueItem(f"item-{number}", f"Title {number}", f"Text of item {number}"), vector)
        put_s = (time.perf_counter() - begin_s) / count
        memory = (_memory_bytes() - before) / count
        search_s = [seconds(catalogue.text.nearest, draw(), LIMIT) for _ in range(SEARCHES)]
        exact_s = [seconds(_exact, draw(), vectors) for _ in range(EXACT_SEARCHES)]
        counts, rng = Counts(90.0 * DAY_MS, 3.0 * DAY_MS), np.random.default_rng(SEED)
        recall_s = []
        for _ in range(SEARCHES // 4):
            state = _visitor([f"item-{number}" for number in rng.integers(0, count, 50)], catalogue, counts)
            shopper = UserView(state, catalogue, counts, Decay())
            recall_s.append(seconds(recall, shopper, BUILT_IN, LIMIT, "unbought"))
    return ItemCosts(search_s, recall_s, exact_s, put_s, memory)


def user_measurements(count: int, costs: UserCosts) -> list[Measurement]:
    """Return what `count` users cost."""
    return [
        Measurement(
            f"memory of one user's state in a worker, {count:,} users",
            "bytes",
            [costs.memory_bytes],
            "4 KB",
            [float(STATE_BYTES)],
            Target(1.3, at_most=True, of="ratio"),
            f"The largest possible state, {costs.record_bytes:,.0f} bytes as written: full history, purchases and "
            "waiting events. With few users, much of the memory is pages that are not full.",
        ),
        Measurement(
            f"an event taken in, its state in the table, {count:,} users, p50",
            "ms",
            [percentile(costs.event_s, 50) * 1e3],
        ),
    ]


def item_measurements(count: int, costs: ItemCosts) -> list[Measurement]:
    """Return what `count` items cost."""
    exact_ms = percentile(costs.exact_s, 50) * 1e3
    return [
        Measurement(
            f"candidates by text, {count:,} items, p50",
            "ms",
            [percentile(costs.search_s, 50) * 1e3],
            "exact search with numpy",
            [exact_ms],
        ),
        Measurement(
            f"candidates by text, {count:,} items, p99",
            "ms",
            [percentile(costs.search_s, 99) * 1e3],
            target=Target(10, at_most=True),
        ),
        Measurement(f"candidates of all sources, {count:,} items, p50", "ms", [percentile(costs.recall_s, 50) * 1e3]),
        Measurement(f"an item into the catalogue, {count:,} items", "ms", [costs.put_s * 1e3]),
        Measurement(f"memory of one item in a worker, {count:,} items", "bytes", [costs.memory_bytes]),
    ]


def in_own_process(function: Callable[[], T]) -> T:
    """Call a function in a fresh process; return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function).result()


def _sizes(largest: int) -> Iterator[int]:
    size = SMALLEST
    while size < largest:
        yield size
        size *= STEP
    yield largest


def _visitor(item_ids: list[str], catalogue: Catalogue, counts: Counts) -> Interest:
    """Return the state of a user who clicked these items, with their clicks counted."""
    state = empty(DIM)
    for number, item_id in enumerate(item_ids):
        event = Event(item_key(item_id), NOW_MS - (len(item_ids) - number) * 60_000, "click")
        counts.observe([event], state.history["item"].tolist())
        state = update(state, event, catalogue.vector(event.item), Decay())
    return state


def _store(store: TableStore, changes: Changes) -> None:
    """Write the changes of a flush, as if a changelog had acknowledged them."""
    metadata = RecordMetadata("users-changelog", 0, None, 0, 0, 0, 0)
    store.apply([(key, value, metadata) for values in changes.values() for key, value in values.items()])


def _exact(queries: Vector, vectors: Vector) -> object:
    return top((queries @ vectors.T).max(axis=0), LIMIT)


def _memory_bytes() -> int:
    """Return the resident memory of this process."""
    gc.collect()
    [line] = [line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
