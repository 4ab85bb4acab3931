"""Events taken in together leave what they leave one by one: in a user's state and in everybody's counts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events.entries import Event, item_key
from encoders.interest import Decay, Interest, Vector, empty, update, update_all
from ranker.recall.catalogue import Catalogue
from ranker.recall.count_records import ItemCounts
from ranker.recall.count_tables import MAX_NEIGHBOURS
from ranker.recall.counts import Counts
from streams.contracts import Click, Item, Purchase
from streams.settings import Settings
from streams.state.tier import Outcome, StateTier
from streams.state.user_record import UserRecord
from streams.state.users import Users

DIM, START, DAY = 16, 1_700_000_000_000, 86_400_000
DECAY = Decay()
ITEMS = [f"item-{number}" for number in range(30)]
VECTORS = np.random.default_rng(3).normal(size=(len(ITEMS), DIM)).astype(np.float32)

clicks = st.lists(
    st.builds(
        lambda kind, number, user, item, time_ms: kind(
            event_id=f"e{number}", user_id=f"u{user}", item_id=ITEMS[item], timestamp=START + time_ms
        ),
        st.sampled_from([Click, Purchase]),
        st.integers(0, 150),
        st.integers(0, 2),
        st.integers(0, len(ITEMS) - 1),
        st.one_of(st.integers(0, 90 * DAY), st.integers(0, 5)),
    ),
    max_size=200,
)


def assert_alike(ours: Interest, theirs: Interest) -> None:
    assert (ours.version, ours.as_of_ms) == (theirs.version, theirs.as_of_ms)
    for name in ("history", "waiting", "bought"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    for name in ("session", "long"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert np.abs(mine - other).max() <= 1e-6 * max(1.0, float(np.abs(other).max()))


@given(clicks, st.lists(st.integers(0, 40)), st.booleans(), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_update_all_is_update_after_update(several: list[Click], cuts: list[int], in_order: bool, history: int) -> None:
    if in_order:
        several = sorted(several, key=lambda click: cast(int, click.timestamp))
    decay = Decay(history=history)
    known: dict[str, Vector | None] = dict(zip(ITEMS[:20], VECTORS, strict=False))
    events = [
        Event(item_key(c.item_id), cast(int, c.timestamp), "purchase" if isinstance(c, Purchase) else "click")
        for c in several
    ]
    vectors = [known.get(click.item_id) for click in several]
    one_by_one = together = empty(DIM)
    for event, vector in zip(events, vectors, strict=True):
        one_by_one = update(one_by_one, event, vector, decay)
    for begin, end in pairwise(sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})):
        together = update_all(together, events[begin:end], vectors[begin:end], decay)
    assert_alike(together, one_by_one)


class Tier:
    """A state tier that knows the first twenty items."""

    def __init__(self) -> None:
        self.users = Users({}, DIM)
        self.counts = Counts(90 * DAY, 3 * DAY)
        self.tier = StateTier(Settings(), self.users, Catalogue(DIM), self.counts, ())
        for item_id, vector in zip(ITEMS[:20], VECTORS, strict=False):
            self.tier.put_item(Item(item_id=item_id, title=item_id), vector / np.linalg.norm(vector), START)

    def take(self, several: Sequence[Click]) -> list[Outcome]:
        by_user: dict[str, list[int]] = {}
        outcomes: list[Outcome] = ["accepted"] * len(several)
        for index, click in enumerate(several):
            by_user.setdefault(click.user_id, []).append(index)
        for user_id, indices in by_user.items():
            outcome = self.tier.accept(user_id, [several[index] for index in indices])
            for index, one in zip(indices, outcome, strict=True):
                outcomes[index] = one
        return outcomes

    def record(self, user_id: str) -> UserRecord:
        return self.users.get(user_id)

    def counted(self) -> dict[int, tuple[float, float, dict[int, float]]]:
        return {item: (row.popularity, row.trend, neighbours(row)) for _, item, row in self.counts.changes()}


def neighbours(row: ItemCounts) -> dict[int, float]:
    keys, strengths = np.frombuffer(row.neighbours, "<u8"), np.frombuffer(row.strengths, "<f8")
    return dict(zip(keys.tolist(), strengths.tolist(), strict=True))


@given(clicks, st.integers(1, 200), st.integers(0, 90 * DAY))
@settings(max_examples=60, deadline=None)
def test_a_batch_leaves_what_its_events_leave_one_by_one(several: list[Click], size: int, forgotten_ms: int) -> None:
    """Repeated, late and forgotten events, unknown items; records, outcomes and counts."""
    one_by_one, together = Tier(), Tier()
    for tier in (one_by_one, together):
        tier.tier.forget("u2", START + forgotten_ms)
    expected, outcomes = list[Outcome](), list[Outcome]()
    for click in several:
        expected += one_by_one.take([click])
        one_by_one.counts.trending()  # counted by itself, for it is read
    for begin in range(0, len(several), size):
        outcomes += together.take(several[begin : begin + size])
    assert outcomes == expected
    for user_id in ("u0", "u1", "u2"):
        mine, theirs = together.record(user_id), one_by_one.record(user_id)
        assert mine.recent == theirs.recent
        assert_alike(mine.interest, theirs.interest)
    ours, reference = together.counted(), one_by_one.counted()
    assert ours.keys() == reference.keys()
    for item, (popularity, trend, others) in reference.items():
        assert ours[item][:2] == pytest.approx((popularity, trend), abs=1e-6)
        assert ours[item][2] == pytest.approx(others, abs=1e-6)


def test_counts_of_a_batch_keep_the_strong_where_there_is_no_room() -> None:
    """The strong come again in every batch and stay; nobody kept is stronger than the whole log makes them."""
    rng = np.random.default_rng()
    batched, unbounded = Counts(90 * DAY, 3 * DAY), dict[int, float]()
    hub = 0
    once = rng.permutation(np.arange(21, 1_021)).reshape(40, 25)
    others = [rng.permutation(np.concatenate([np.arange(1, 21), some])) for some in once]
    for other in np.concatenate(others).tolist():
        batched.observe([Event(other, START, "click")], [hub])
        unbounded[other] = unbounded.get(other, 0.0) + 1.0
    [kept] = [neighbours(row) for _, item, row in batched.changes() if item == hub]
    assert len(kept) == MAX_NEIGHBOURS
    assert set(range(1, 21)) <= set(kept), "forty times as often as the others"
    for other, strength in kept.items():
        assert 2.0 ** (strength - START / (90 * DAY)) <= unbounded[other] * (1 + 1e-6)
