"""Counts kept incrementally equal counts made from the whole log, whatever the order and the number of writers."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
import pytest

from encoders.events.entries import Event
from ranker.recall.count_records import ItemCounts
from ranker.recall.count_tables import MAX_NEIGHBOURS
from ranker.recall.counts import DISTANCE_DECAY, Counts

DAY = 86_400_000
START = 1_700_000_000_000


def counts() -> Counts:
    return Counts(co_visit_half_life_ms=90 * DAY, trend_half_life_ms=3 * DAY)


def co_visited(counts: Counts, item: int) -> dict[int, float]:
    """Co-visits of one item, over all shards."""
    visits, total = counts.co_visited([item]), dict[int, float]()
    for other, similarity in zip(visits.items.tolist(), visits.similarities.tolist(), strict=True):
        total[other] = total.get(other, 0.0) + similarity
    return total


def neighbours(row: ItemCounts) -> dict[int, float]:
    """Co-visits as stored, by item."""
    keys, strengths = np.frombuffer(row.neighbours, "<u8"), np.frombuffer(row.strengths, "<f8")
    return dict(zip(keys.tolist(), strengths.tolist(), strict=True))


def at(log2_count: float, time_ms: int, half_life_ms: float) -> float:
    """A stored logarithm as the decayed count that it stands for, as of a time."""
    return float(2.0 ** (log2_count - time_ms / half_life_ms))


def test_decayed_counts_equal_their_definition() -> None:
    rng = random.Random(5)
    times = [START + rng.randrange(200 * DAY) for _ in range(300)]
    seen = counts()
    for time_ms in times:
        seen.observe([Event(1, time_ms, "click")], [])
    now = START + 250 * DAY
    for half_life_ms, stored in ((90 * DAY, seen.popularity(1)), (3 * DAY, seen.trend(1))):
        expected = sum(2.0 ** (-(now - time_ms) / half_life_ms) for time_ms in times)
        assert at(stored, now, half_life_ms) == pytest.approx(expected, rel=1e-9)


def test_co_visits_are_weighted_by_distance_and_normalised_by_popularity() -> None:
    seen = counts()
    seen.observe([Event(1, START, "click")], [])
    seen.observe([Event(2, START, "click")], [1])
    seen.observe([Event(3, START, "click")], [1, 2])
    assert co_visited(seen, 3) == pytest.approx({2: 1.0, 1: DISTANCE_DECAY})
    assert co_visited(seen, 1) == pytest.approx({2: 1.0, 3: DISTANCE_DECAY})
    for _ in range(3):
        seen.observe([Event(2, START, "click")], [])
    assert co_visited(seen, 3)[2] == pytest.approx(1 / math.sqrt(4))
    assert co_visited(seen, 99) == {}


def test_counts_equal_their_definition_on_random_sequences() -> None:
    rng = random.Random()
    now = START + 30 * DAY
    seen, popularity, together = counts(), dict[int, float](), dict[tuple[int, int], float]()
    for _ in range(400):
        time_ms, item = START + rng.randrange(30 * DAY), rng.randrange(60)
        earlier = [rng.randrange(60) for _ in range(rng.randrange(70))]
        seen.observe([Event(item, time_ms, "click")], earlier)
        weight = 2.0 ** (-(now - time_ms) / (90 * DAY))
        popularity[item] = popularity.get(item, 0.0) + weight
        newest_first = list(dict.fromkeys(reversed(earlier[-50:])))
        for other in newest_first:
            distance = earlier[-50:][::-1].index(other)
            if other != item:
                for pair in ((item, other), (other, item)):
                    together[pair] = together.get(pair, 0.0) + weight * DISTANCE_DECAY**distance
    for item in range(60):
        expected = {
            other: min(1.0, count / math.sqrt(popularity[item] * popularity[other]))
            for (mine, other), count in together.items()
            if mine == item and item in popularity and other in popularity
        }
        assert co_visited(seen, item) == pytest.approx(expected)


def test_an_item_does_not_co_visit_itself_and_counts_once_per_sequence() -> None:
    seen = counts()
    seen.observe([Event(1, START, "click")], [2, 1, 2, 2])
    assert set(co_visited(seen, 1)) <= {2}
    [mine] = [row for _, item, row in seen.changes() if item == 1]
    assert at(neighbours(mine)[2], START, 90 * DAY) == pytest.approx(1.0)


def test_two_writers_add_up_to_one() -> None:
    rng = random.Random(6)
    log = [(Event(rng.randrange(8), START + rng.randrange(DAY), "click"), rng.sample(range(8), 3)) for _ in range(200)]
    one, first, second = counts(), counts(), counts()
    second.writer = 3
    for position, (event, earlier) in enumerate(log):
        one.observe([event], earlier)
        (first if position % 2 else second).observe([event], earlier)
    for shard, item, row in second.changes():
        first.put(shard, item, msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=ItemCounts))
    for item in range(8):
        assert first.popularity(item) == pytest.approx(one.popularity(item))
        assert co_visited(first, item) == pytest.approx(co_visited(one, item))
    assert [first.trend(item) for item in range(8)] == pytest.approx([one.trend(item) for item in range(8)])
    assert first.trending() == one.trending()


def test_a_restarted_writer_finds_its_counts_again_and_keeps_what_it_knows_better() -> None:
    before, after = counts(), counts()
    before.observe([Event(1, START, "click")], [2])
    stored = before.changes()
    assert before.changes() == []
    for shard, item, row in stored:
        after.put(shard, item, row)
    assert co_visited(after, 1) == co_visited(before, 1)
    after.observe([Event(1, START, "click")], [])
    mine = after.popularity(1)
    for shard, item, row in stored:
        after.put(shard, item, ItemCounts(popularity=row.popularity))
    assert after.popularity(1) == mine


def test_a_row_is_stored_as_it_is_by_then_and_once_more_if_it_changed_meanwhile() -> None:
    seen = counts()
    seen.observe([Event(1, START, "click")], [2])
    changed = seen.take_changed()
    seen.observe([Event(1, START, "click")], [3])
    [of_item] = [row for _, item, row in seen.stored(changed) if item == 1]
    assert neighbours(of_item).keys() == {2, 3}
    assert {item for _, item, _ in seen.changes()} == {1, 3}


def test_a_writer_stores_no_row_that_another_one_counted() -> None:
    seen = counts()
    seen.observe([Event(1, START, "click")], [2])
    changed = seen.take_changed()
    seen.writer = 3
    seen.observe([Event(1, START, "click")], [])
    assert [(shard, item) for shard, item, _ in seen.stored(changed)] == [(3, 1)]


def test_neighbours_are_bounded_and_the_strongest_stay() -> None:
    seen = counts()
    for other in range(1, 500):
        for _ in range(3 if other == 7 else 1):
            seen.observe([Event(other, START, "click")], [0])
    [kept] = [neighbours(row) for _, item, row in seen.changes() if item == 0]
    assert len(kept) <= MAX_NEIGHBOURS
    assert 7 in kept


def test_trending_follows_the_events() -> None:
    seen = counts()
    for item in range(300):
        seen.observe([Event(item, START, "click")], [])
    for _ in range(20):
        seen.observe([Event(42, START + 10 * DAY, "click")], [])
    assert seen.trending()[0] == 42
