"""The log read again, from anywhere, in any batches, changes nothing: not the state, not everybody's counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise, repeat, takewhile
from typing import cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from encoders.events.entries import item_key
from encoders.interest import Interest
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from streams.contracts import Click, Item, Purchase
from streams.settings import Settings
from streams.state import stored_memory
from streams.state.tier import Outcome, StateTier
from streams.state.users import Users

DIM, START, DAY = 8, 1_700_000_000_000, 86_400_000
ITEMS = [f"item-{number}" for number in range(6)]
VECTORS = np.eye(DIM, dtype=np.float32)

Log = list[Click]
clicks = st.builds(
    lambda kind, number, item, second: kind(
        event_id=f"e{number}", user_id="ann", item_id=ITEMS[item], timestamp=START + second * 1000 + number
    ),
    st.sampled_from([Click, Purchase]),
    st.integers(0, 12),
    st.integers(0, len(ITEMS) - 1),
    st.one_of(st.integers(0, 90 * 86_400), st.integers(0, 60)),
)
logs = st.lists(clicks, max_size=80)
sizes_of_batches = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@contextmanager
def small_memory(recent: int, middle: int, seen: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("RECENT", recent), ("MIDDLE", middle), ("SEEN", seen)):
            patch.setattr(stored_memory, name, size)
        yield


class Worker:
    """A state tier over a store that outlives it."""

    def __init__(self, store: dict[bytes, bytes], counts: Counts) -> None:
        self.store, self.counts = store, counts
        self.users = Users(store, DIM)
        self.tier = StateTier(Settings(), self.users, Catalogue(DIM), counts, ())
        for item_id, vector in zip(ITEMS[:4], VECTORS, strict=False):  # the others are not in the catalogue
            self.tier.put_item(Item(item_id=item_id, title=item_id), vector, START)

    def take(self, batch: Sequence[Click], written: int | None = None) -> list[Outcome]:
        """Take in a batch and flush it; only so many of the writes reach the store if `written` is given."""
        outcomes = self.tier.accept("ann", batch) if batch else []
        changes = [change for values in self.users.begin_flush().values() for change in values.items()]
        for key, value in changes[:written]:
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value
        self.users.end_flush()
        return outcomes

    def read(self, log: Log, at: Sequence[int]) -> list[Outcome]:
        return [outcome for begin, end in pairwise(split(log, at)) for outcome in self.take(log[begin:end])]

    @property
    def interest(self) -> Interest:
        return self.users.get("ann").interest


def split(log: Log, sizes: Sequence[int]) -> list[int]:
    """Where batches of these sizes begin and end, over and over."""
    ends = accumulate(chain.from_iterable(repeat(sizes)))
    return [0, *takewhile(lambda end: end < len(log), ends), len(log)]


@dataclass
class Snapshot:
    """All that replays must not change."""

    interest: Interest
    popularity: list[float]
    trend: list[float]
    co_visits: list[list[float]]

    @staticmethod
    def of(worker: Worker) -> Snapshot:
        keys = [item_key(item_id) for item_id in ITEMS]
        counts = worker.counts
        return Snapshot(
            worker.interest,
            [counts.popularity(key) for key in keys],
            [counts.trend(key) for key in keys],
            [array.tolist() for array in counts.co_visited(keys)],
        )

    def assert_same(self, worker: Worker) -> None:
        now = Snapshot.of(worker)
        assert (now.popularity, now.trend, now.co_visits) == (self.popularity, self.trend, self.co_visits)
        assert_alike(now.interest, self.interest)


def assert_alike(mine: Interest, other: Interest) -> None:
    assert (mine.version, mine.as_of_ms) == (other.version, other.as_of_ms)
    for name in ("history", "waiting", "bought"):
        assert getattr(mine, name).tolist() == getattr(other, name).tolist()
    assert mine.slots.tolist() == other.slots.tolist()
    np.testing.assert_allclose(mine.responses, other.responses, rtol=1e-4, atol=1e-6)
    for name in ("session", "long"):  # the store has them in 16 bits
        ours, theirs = getattr(mine, name), getattr(other, name)
        assert np.abs(ours - theirs).max() <= 1e-3 * max(1.0, float(np.abs(theirs).max()))


@given(
    logs,
    sizes_of_batches,
    st.lists(st.tuples(st.integers(0, 80), sizes_of_batches, st.booleans()), min_size=1, max_size=3),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 12)),
)
@settings(max_examples=150, deadline=None)
def test_no_replay_from_anywhere_changes_anything(
    log: Log, at: list[int], replays: list[tuple[int, list[int], bool]], sizes: tuple[int, int, int]
) -> None:
    """Ids that come again, also under other times, in any order of time; a memory of a few events that rolls over."""
    with small_memory(*sizes):
        worker = Worker({}, Counts(90 * DAY, 3 * DAY))
        worker.read(log, at)
        before = Snapshot.of(worker)
        for begin, again, restarted in replays:
            worker = Worker(worker.store, worker.counts) if restarted else worker
            assert set(worker.read(log[begin:], again)) <= {"duplicate"}
            before.assert_same(worker)


@given(logs, sizes_of_batches, st.integers(0, 80), sizes_of_batches)
@settings(max_examples=60, deadline=None)
def test_an_event_counts_once_and_all_do_while_the_memory_holds_them(
    log: Log, at: list[int], begin: int, again: list[int]
) -> None:
    with small_memory(2, 4, 1_000):
        worker = Worker({}, Counts(90 * DAY, 3 * DAY))
        worker.read(log, at)
        worker.read(log[begin:], again)
        distinct = {(type(click), click.event_id, click.item_id) for click in log}
        assert worker.interest.version == len(distinct)


@given(st.permutations(range(60)), sizes_of_batches, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_only_what_is_older_than_all_that_is_remembered_is_refused(order: list[int], at: list[int], seen: int) -> None:
    """Late events with ids of their own: refused only if `seen` newer ones were there before."""
    log = [Click(event_id=f"e{n}", user_id="ann", item_id="item-0", timestamp=START + n * 1000) for n in order]
    with small_memory(1, 1, seen):
        outcomes = Worker({}, Counts(90 * DAY, 3 * DAY)).read(log, at)
    for index, (number, outcome) in enumerate(zip(order, outcomes, strict=True)):
        newer = sum(other > number for other in order[:index])
        assert outcome == "accepted" or newer >= seen


@given(
    st.lists(clicks, min_size=10, max_size=60),
    sizes_of_batches,
    st.integers(0, 9),
    st.integers(0, 3),
    sizes_of_batches,
)
@settings(max_examples=150, deadline=None)
def test_a_flush_of_which_only_a_first_part_was_written_loses_and_doubles_nothing(
    log: Log, at: list[int], dies: int, written: int, again: list[int]
) -> None:
    """A worker dies in the middle of a flush; who comes after it reads the log from where the flush began."""
    with small_memory(2, 4, 1_000):
        whole = Worker({}, Counts(90 * DAY, 3 * DAY))
        whole.read(log, at)
        first, batches = Worker({}, Counts(90 * DAY, 3 * DAY)), list(pairwise(split(log, at)))
        for number, (begin, end) in enumerate(batches):
            if number == dies:
                first.take(log[begin:end], written)
                second = Worker(first.store, Counts(90 * DAY, 3 * DAY))
                second.read(log[begin:], again)
                assert_alike(second.interest, whole.interest)
                return
            first.take(log[begin:end])


def click_at(kind: type[Click], event_id: str, item: int, time_ms: int) -> Click:
    return kind(event_id=event_id, user_id="ann", item_id=ITEMS[item], timestamp=START + time_ms)


REPEATED_WITHIN_THE_NEWEST_SECOND = [
    click_at(Click, "e0", 1, 1_000),
    click_at(Purchase, "e1", 0, 0),
    click_at(Purchase, "e1", 0, 1_001),
]


@example(REPEATED_WITHIN_THE_NEWEST_SECOND, [1], 0, [1], [1])
@given(logs, sizes_of_batches, st.integers(0, 90 * DAY), sizes_of_batches, sizes_of_batches)
@settings(max_examples=60, deadline=None)
def test_who_was_forgotten_is_not_brought_back_and_who_came_back_stays(
    log: Log, at: list[int], forgotten_ms: int, later: list[int], again: list[int]
) -> None:
    with small_memory(2, 4, 8):
        worker = Worker({}, Counts(90 * DAY, 3 * DAY))
        worker.read(log, at)
        worker.tier.forget("ann", START + forgotten_ms)
        worker.take([])
        counted = Snapshot.of(worker).popularity
        worker.read(log, again)
        assert worker.interest.version == 0, "forgotten: all that was accepted"
        assert Snapshot.of(worker).popularity == counted
        after_ms = worker.users.forgotten_until("ann") - START + 1
        since = [structs.replace(click, timestamp=cast(int, click.timestamp) + after_ms) for click in log]
        worker.read(since, later)
        before = Snapshot.of(worker)
        worker = Worker(worker.store, worker.counts)
        worker.read(log, at)
        worker.tier.forget("ann", START + forgotten_ms)
        worker.read(since, again)
        before.assert_same(worker)
