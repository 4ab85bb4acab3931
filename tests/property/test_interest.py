"""The interest state is a function of the set of events: arrival order, wire and restart change nothing."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events.entries import Event, item_key
from encoders.events.shown_lists import newest, read, seen_list, written
from encoders.events.types import DEFAULT_WEIGHTS
from encoders.events.visits import MAX_SLOTS
from encoders.interest import BOUGHT, WAITING, Decay, Interest, Vector, empty, recompute, settle, update
from encoders.interest_record import StateUnreadable, decode, encode
from streams.state.event_memory import seen_of
from streams.state.users import Users

DIM = 384
DECAY = Decay(weights={**DEFAULT_WEIGHTS, "wishlist": 1.5})
_rng = np.random.default_rng(0)
VECTORS = _rng.normal(size=(40, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
KNOWN = {item_key(f"item-{number}"): vector for number, vector in enumerate(VECTORS)}
ITEMS = list(KNOWN)

events = st.lists(
    st.builds(
        Event,
        item=st.sampled_from(ITEMS),
        time_ms=st.integers(1_700_000_000_000, 1_700_000_000_000 + 90 * 86_400_000),
        type=st.sampled_from([*DEFAULT_WEIGHTS, "wishlist"]),
        strength=st.integers(-127, 127),
        dwell=st.one_of(st.none(), st.floats(0, 1)),
        rating=st.one_of(st.none(), st.floats(-1, 1)),
        is_bad_review=st.booleans(),
    ),
    max_size=80,
)


def fold(arrivals: list[Event], known: dict[int, Vector], through_wire: bool = False) -> Interest:
    state = empty(DIM)
    for event in arrivals:
        state = update(state, event, known.get(event.item), DECAY)
        if through_wire:
            state = decode(encode(state))
    return state


def assert_same(state: Interest, reference: Interest, tolerance: float) -> None:
    assert state.version == reference.version
    assert state.as_of_ms == reference.as_of_ms
    for name in ("history", "waiting", "bought"):
        assert getattr(state, name).tolist() == getattr(reference, name).tolist()
    assert state.slots.tolist() == reference.slots.tolist()
    np.testing.assert_allclose(state.responses, reference.responses, rtol=1e-4, atol=1e-6)
    for name in ("session", "long"):
        ours, theirs = getattr(state, name), getattr(reference, name)
        assert np.abs(ours - theirs).max() <= tolerance * max(1.0, float(np.abs(theirs).max()))


@given(events, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_of_arrival_gives_the_batch_recompute(arrivals: list[Event], random: object) -> None:
    shuffled = list(arrivals)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    reference = recompute(arrivals, KNOWN.get, DECAY, DIM)
    assert_same(fold(shuffled, KNOWN), reference, 1e-5)
    assert_same(fold(shuffled, KNOWN, through_wire=True), reference, 2e-3)


@given(events, st.integers(0, 39))
@settings(max_examples=40, deadline=None)
def test_an_event_about_an_unknown_item_counts_once_it_arrives(arrivals: list[Event], late: int) -> None:
    late_item = ITEMS[late]
    before = {item: vector for item, vector in KNOWN.items() if item != late_item}
    waiting = fold(arrivals, before)
    assert_same(waiting, recompute(arrivals, before.get, DECAY, DIM), 1e-5)
    settled = settle(waiting, KNOWN.get, DECAY)
    if sum(event.item == late_item for event in arrivals) <= WAITING:
        assert_same(settled, recompute(arrivals, KNOWN.get, DECAY, DIM), 1e-5)
    assert settle(settled, KNOWN.get, DECAY) is settled


def test_a_full_state_fits_into_4_kb_with_the_events_it_remembers() -> None:
    store: dict[bytes, bytes] = {}
    users, user_id, sizes = Users(store, DIM), "a-user-with-quite-a-long-id" * 8, []
    for number in range(300):
        known = number % 3 > 0
        kind = "purchase" if number % 2 else "click"
        event = Event(ITEMS[number % 40], 1_700_000_000_000 + number * 3_600_000, kind, dwell=0.6)
        memory = users.memory(user_id)
        memory.add(seen_of("u", f"event-{number}", event))
        after = update(users.get(user_id).interest, event, KNOWN[event.item] if known else None, DECAY)
        users.accept(user_id, memory, after)
        page = [f"item-{number}-{rank}" for rank in range(number % 7)]
        lists = [*read(users.get(user_id).shown), seen_list("u", f"{number}", page, event.time_ms)]
        users.put(user_id, shown=written(newest(lists)))
        for values in users.begin_flush().values():
            store.update({key: value for key, value in values.items() if value is not None})
            sizes += [len(value) for key, value in values.items() if key[:1] == b"u" and value is not None]
        users.end_flush()
    state = users.get(user_id).interest
    assert (len(state.history), len(state.waiting), len(state.bought)) == (50, WAITING, BOUGHT)
    assert (len(state.slots), bool(state.responses.all())) == (MAX_SLOTS, False)
    assert max(sizes) <= 4096


@given(st.integers(-149, 38), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=200, deadline=None)
def test_sums_of_any_size_are_stored_without_a_warning_to_the_last_that_fades(
    magnitude: int, seed: int, one_component: bool
) -> None:
    """Down to the smallest float32 that there is; what has faded away is zero."""
    vector = np.random.default_rng(seed).uniform(-1, 1, DIM).astype(np.float32)
    if one_component:
        vector[1:] = 0
    vector = (vector.astype(np.float64) * 2.0**magnitude).astype(np.float32)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        found = decode(encode(replace(empty(DIM), session=vector, long=vector[::-1].copy(), version=1)))
    for ours, theirs in ((found.session, vector), (found.long, vector[::-1])):
        largest = float(np.abs(theirs).max())
        faded = largest / 32767 < np.finfo(np.float32).tiny
        assert np.abs(ours - theirs).max() <= (largest if faded else largest / 2**15)
        assert not faded or not ours.any()


def test_a_user_who_comes_back_after_days_has_no_session_any_more() -> None:
    start, item = 1_700_000_000_000, ITEMS[0]
    for hours in range(24, 24 * 5):
        state = fold(
            [Event(item, start, "click"), Event(item_key("unknown"), start + hours * 3_600_000, "click")], KNOWN
        )
        stored = decode(encode(state))
        assert np.isfinite(stored.session).all()
    assert not stored.session.any()


def test_update_does_not_touch_its_argument() -> None:
    state = fold([Event(ITEMS[0], 1_700_000_000_000, "click")], KNOWN)
    before = encode(state)
    update(state, Event(ITEMS[1], 1_700_000_000_001, "purchase"), VECTORS[1], DECAY)
    assert encode(state) == before


def test_a_state_of_a_newer_program_is_refused_in_words() -> None:
    import msgspec

    wire = msgspec.msgpack.decode(encode(empty(DIM)))
    wire[0] += 1
    with pytest.raises(StateUnreadable, match="schema 4, expected 3"):
        decode(msgspec.msgpack.encode(wire))


def test_decay_is_by_event_time() -> None:
    start = 1_700_000_000_000
    week = 7 * 86_400_000
    state = fold([Event(ITEMS[0], start, "click"), Event(ITEMS[1], start + week, "click")], KNOWN)
    weights = np.linalg.lstsq(VECTORS[:2].T, state.long, rcond=None)[0]
    assert weights == pytest.approx([2.0 ** (-7 / 30), 1.0], abs=1e-4)
    assert np.linalg.lstsq(VECTORS[:2].T, state.session, rcond=None)[0] == pytest.approx([0.0, 1.0], abs=1e-4)
