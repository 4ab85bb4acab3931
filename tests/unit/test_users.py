"""A user's record: each event once, however often it comes; erased when asked."""

from __future__ import annotations

from encoders.interest import Decay, Event, empty, update
from streams.users import RECENT, SEEN, Changes, Users

DIM = 8


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


def accept(users: Users, user_id: str, event_id: str, time_ms: int = 1_700_000_000_000) -> None:
    state = update(users.get(user_id).interest, Event(1, time_ms, "click"), None, Decay())
    users.accept(user_id, [event_id], state)


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
    assert users.are_new("u", ["e1"]) == [False]
    accept(users, "u", "e2")
    assert users.get("u").interest.version == 2
    users.end_flush()
    assert users.get("u").interest.version == 2


def test_an_event_id_is_known_long_after_it_left_the_record() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    total = 5 * RECENT + 3
    for number in range(total):
        accept(users, "u", f"e{number}")
        if number % 7 == 0:
            flush(users, store)
    flush(users, store)
    again = Users(store, DIM)
    assert not any(again.are_new("u", [f"e{number}" for number in range(total)]))
    assert again.are_new("u", ["another"]) == [True]
    assert again.are_new("other", ["e0"]) == [True]


def test_the_ids_kept_are_bounded_and_the_oldest_go_first() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    state = empty(DIM)
    for number in range(SEEN + 3 * RECENT):
        users.accept("u", [f"e{number}"], state)
    flush(users, store)
    assert len(store[b"su"]) == 8 * SEEN
    assert users.are_new("u", ["e0"]) == [True]
    assert users.are_new("u", [f"e{3 * RECENT}"]) == [False]


def test_a_touched_record_is_written_again() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "u", "e1")
    before = flush(users, store)
    users.touch("u")
    assert flush(users, store) == before


def test_forgetting_erases_all_but_a_hash_and_a_time() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    for number in range(2 * RECENT):
        accept(users, "secret-user", f"e{number}")
    flush(users, store)
    users.forget("secret-user", 1_700_000_000_500)
    flush(users, store)
    assert [key[:1] for key in store] == [b"f"]
    assert b"secret-user" not in next(iter(store))
    again = Users(store, DIM)
    assert again.get("secret-user").interest.version == 0
    assert again.forgotten_until("secret-user") == 1_700_000_000_500
    assert again.forgotten_until("other") == 0
    again.forget("secret-user", 1)
    assert again.forgotten_until("secret-user") == 1_700_000_000_500


def test_who_waits_for_an_item_is_found_after_a_restart() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "u", "e1")
    flush(users, store)
    assert [user_id for user_id, _ in Users(store, DIM).waiting()] == ["u"]


def test_what_was_not_stored_can_be_given_up() -> None:
    store: dict[bytes, bytes] = {}
    users = Users(store, DIM)
    accept(users, "ann", "e1")
    flush(users, store)
    accept(users, "ann", "e2")
    users.begin_flush()
    accept(users, "ann", "e3")
    users.discard()
    assert users.get("ann").interest.version == 1
    assert users.are_new("ann", ["e1", "e2"]) == [False, True]
    assert users.begin_flush() == {}
