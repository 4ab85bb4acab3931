"""A user's record accepts each event once, however often it comes, and is erased on request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from encoders.events.entries import Event
from encoders.interest import Decay, empty, update
from encoders.interest_record import StateUnreadable
from streams.state import stored_memory
from streams.state.event_memory import seen_merge, seen_of
from streams.state.staged_store import Changes
from streams.state.stored_memory import MIDDLE, RECENT, SEEN
from streams.state.user_record import Link
from streams.state.users import Users

DIM, START = 8, 1_700_000_000_000


def flush(users: Users, store: dict[bytes, bytes]) -> Changes:
    changes = users.begin_flush()
    for values in changes.values():
        for key, value in values.items():
            if value is None:
                store.pop(key, None)
            else:
                store[key] = value
    users.end_flush()
    return changes


def accept(users: Users, user_id: str, event_id: str, time_ms: int = START) -> str:
    event, memory = Event(1, time_ms, "click"), users.memory(user_id)
    novelty = memory.look_up(seen_of(user_id, event_id, event))
    state = users.get(user_id).interest
    if novelty == "new":
        memory.add(seen_of(user_id, event_id, event))
        state = update(state, event, None, Decay())
    users.accept(user_id, memory, state)
    return novelty


def novelty_of(users: Users, user_id: str, event_id: str, time_ms: int = START) -> str:
    return users.memory(user_id).look_up(seen_of(user_id, event_id, Event(1, time_ms, "click")))


def fill(users: Users, user_id: str, times_ms: Iterator[int] | range) -> None:
    """Accept one event at each of these times, in one batch."""
    memory = users.memory(user_id)
    for time_ms in times_ms:
        memory.add(seen_of("u", f"e{time_ms}", Event(1, time_ms, "click")))
    users.accept(user_id, memory, empty(DIM))


def test_many_events_of_a_user_are_one_write() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    for number in range(5):
        accept(users, "u", f"e{number}")
    assert users.get("u").interest.version == 5
    assert [list(values) for values in flush(users, store).values()] == [[b"uu"]]
    assert Users(store, DIM).get("u").interest.version == 5
    assert flush(users, store) == {}


def test_changes_are_readable_while_they_are_flushed() -> None:
    users = Users({}, DIM)
    accept(users, "u", "e1")
    users.begin_flush()
    assert novelty_of(users, "u", "e1") == "known"
    accept(users, "u", "e2")
    assert users.get("u").interest.version == 2
    users.end_flush()
    assert users.get("u").interest.version == 2


def test_an_event_is_one_id_about_one_item_in_one_topic() -> None:
    users = Users({}, DIM)
    accept(users, "u", "1")
    memory = users.memory("u")
    assert memory.look_up(seen_of("u", "1", Event(1, START, "click"))) == "known"
    assert memory.look_up(seen_of("u", "1", Event(1, START + 9 * 86_400_000, "click"))) == "known", "sent again later"
    assert memory.look_up(seen_of("u", "1", Event(1, START, "purchase"))) == "new"
    assert memory.look_up(seen_of("u", "1", Event(2, START, "click"))) == "new"
    assert novelty_of(users, "another", "1") == "new"


def test_an_event_is_recognised_long_after_it_left_the_record() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    total = 3 * MIDDLE + RECENT + 3
    for number in range(total):
        assert accept(users, "u", f"e{number}", START - number) == "new"
        if number % 7 == 0:
            flush(users, store)
    flush(users, store)
    assert {key[:1] for key in store} == {b"u", b"m", b"s"}
    again = Users(store, DIM)
    assert {novelty_of(again, "u", f"e{number}", START - number) for number in range(total)} == {"known"}
    assert novelty_of(again, "u", "another") == "new"
    assert novelty_of(again, "other", "e0") == "new"


def test_the_newest_events_by_time_are_kept_and_older_events_are_treated_as_repeats() -> None:
    """20,000 events, then an import of older events: the memory is bounded, and no event counts twice."""
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    total = SEEN + 4 * MIDDLE
    times = range(START, START + total * 1000, 1000)
    for begin in range(0, total, 300):
        fill(users, "u", times[begin : begin + 300])
        flush(users, store)
    assert len(store[b"su"]) == 16 * SEEN + 8
    assert len(store[b"mu"]) <= 16 * (MIDDLE + 600)
    assert novelty_of(users, "u", "never sent", times[0]) == "too-old"
    novelties = {novelty_of(users, "u", f"e{time_ms}", time_ms) for time_ms in times}
    assert novelties == {"known", "too-old"}
    assert novelty_of(users, "u", f"e{times[-SEEN]}", times[-SEEN]) == "known"
    assert novelty_of(users, "u", "never sent", times[-SEEN]) == "new", "late, and newer than all dropped events"
    fill(users, "u", range(START - total * 1000, START, 1000))  # would push out every id if kept by arrival
    flush(users, store)
    fill(users, "u", range(START - RECENT - 1, START))
    flush(users, store)
    assert novelty_of(users, "u", f"e{times[-SEEN]}", times[-SEEN]) == "known"


def test_an_id_that_came_again_with_a_later_time_is_kept_as_long_as_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("RECENT", 2), ("MIDDLE", 4), ("SEEN", 8)):
        monkeypatch.setattr(stored_memory, name, size)
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "u", "first", START)
    for number in range(1, 40):
        assert accept(users, "u", f"e{number}", START + number * 1000) == "new"
        flush(users, store)
        assert accept(users, "u", "first", START + number * 1000 + 500) == "known"
    assert users.get("u").interest.version == 40


def test_a_repeated_event_writes_the_record_again() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "u", "e1")
    before = flush(users, store)
    assert accept(users, "u", "e1") == "known"
    assert flush(users, store) == before


def test_forgetting_erases_all_but_a_hash_and_two_times() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    for number in range(2 * MIDDLE):
        accept(users, "secret-user", f"e{number}")
        if number % RECENT == 0:
            flush(users, store)
    flush(users, store)
    assert users.forget("secret-user", START + 500)
    flush(users, store)
    assert [key[:1] for key in store] == [b"f"]
    assert b"secret-user" not in next(iter(store))
    again = Users(store, DIM)
    assert again.get("secret-user").interest.version == 0
    assert again.forgotten_until("secret-user") == START + 500
    assert again.forgotten_until("other") == 0
    assert not again.forget("secret-user", 1)
    assert again.forgotten_until("secret-user") == START + 500


def test_forgetting_covers_accepted_events_of_the_future() -> None:
    users = Users({}, DIM)
    accept(users, "u", "e1", START + 86_400_000)
    assert users.forget("u", START)
    assert users.forgotten_until("u") == START + 86_400_000


def test_a_repeated_request_to_be_forgotten_keeps_a_user_who_came_back() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "u", "e1")
    assert users.forget("u", START)
    flush(users, store)
    accept(users, "u", "e2", START + 1)
    flush(users, store)
    again = Users(store, DIM)
    assert not again.forget("u", START)
    assert again.get("u").interest.version == 1
    assert again.forget("u", START + 2)
    assert again.get("u").interest.version == 0


def test_users_who_wait_for_an_item_are_found_after_a_restart() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "u", "e1")
    flush(users, store)
    assert [user_id for user_id, _ in Users(store, DIM).waiting()] == ["u"]


def test_a_merged_user_is_found_by_way_of_others() -> None:
    users = Users({}, DIM)
    for user_id, into, stage in (("a", "b", "moved"), ("b", "c", "moved"), ("c", "d", "asked")):
        users.set_link(user_id, Link(into, START, cast(Any, stage)))
    assert [users.member_of(user_id) for user_id in "abcd"] == ["c", "c", "c", "d"]


def test_changes_that_were_not_stored_can_be_discarded() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "ann", "e1")
    flush(users, store)
    accept(users, "ann", "e2")
    users.begin_flush()
    accept(users, "ann", "e3")
    users.discard()
    assert users.get("ann").interest.version == 1
    assert [novelty_of(users, "ann", event_id) for event_id in ("e1", "e2")] == ["known", "new"]
    assert users.begin_flush() == {}


@pytest.mark.parametrize("key", [b"mu", b"su"])
def test_a_damaged_memory_is_refused(key: bytes) -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    for begin in range(0, 3 * MIDDLE, RECENT + 1):
        fill(users, "u", range(START + begin, START + begin + RECENT + 1))
        flush(users, store)
    for damaged in (b"", store[key][:-1], store[key][:3]):
        with pytest.raises(StateUnreadable, match="restore the changelog"):
            Users({**store, key: damaged}, DIM).memory("u")


def test_the_state_of_a_visitor_brings_along_the_context_of_the_newer_events() -> None:
    users = Users({}, DIM)
    for user_id, context, newest_ms in (
        ("visitor", {"device": "phone"}, 2),
        ("ann", {"device": "tv", "page": "home"}, 1),
    ):
        users.accept(user_id, users.memory(user_id), empty(DIM), START + newest_ms, context)
    assert users.take_in("ann", "visitor", seen_merge("visitor", "ann", START), users.state_of("visitor"), Decay())
    assert users.get("ann").context == {"device": "phone", "page": "home"}
