"""The memory of a user's events: it recognises repeats, and knows the last event of an item and busy hours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.events.entries import Event
from ranker.recall.event_runs import NO_EARLIER_EVENTS, EarlierEvents
from streams.state.event_memory import ENTRY, EventMemory, OlderEvents, SeenEvent, as_entries, newest, seen_of

START = 1_700_000_000


def seen(number: int, second: int = START, item: int = 1, kind: str = "click") -> SeenEvent:
    return seen_of("u", f"e{number}", Event(item, second * 1000, kind))


def memory(
    recent: list[SeenEvent], middle: Sequence[SeenEvent] = (), oldest: Sequence[SeenEvent] = (), horizon: int = -1
) -> EventMemory:
    return EventMemory(recent, OlderEvents(as_entries(middle), as_entries(oldest), horizon))


def test_any_time_fits() -> None:
    times = [-5, 0, 999, 1_000, 2**31 * 1000, 2**32 * 1000 - 1, 2**50]
    seconds = [seen_of("u", "e", Event(1, time_ms, "click")).second for time_ms in times]
    assert seconds == [0, 0, 0, 1, 2**31, 2**32 - 1, 2**32 - 1]
    assert as_entries([seen_of("u", "e", Event(2**64 - 1, 2**50, "click"))])["item"] == [2**32 - 1]


def test_an_event_is_recognised_in_every_part() -> None:
    remembered = memory([seen(1)], [seen(2)], [seen(3)], horizon=START - 10)
    assert [remembered.look_up(seen(number)) for number in (1, 2, 3, 4)] == ["known", "known", "known", "new"]
    assert remembered.look_up(seen(4, START - 10)) == "too-old"
    assert remembered.look_up(seen(3, START - 20)) == "known"
    remembered.add(seen(4))
    assert remembered.look_up(seen(4)) == "known"


def test_the_later_time_of_a_repeated_event_is_kept() -> None:
    remembered = memory([], [seen(1)])
    assert remembered.look_up(seen(1)) == "known"
    assert remembered.recent == []
    assert remembered.look_up(seen(1, START + 5)) == "known"
    assert remembered.recent == [seen(1, START + 5)]
    assert remembered.newest_second() == START + 5


def test_the_last_event_about_an_item_is_found_in_every_part() -> None:
    remembered = memory([seen(1, START)], [seen(2, START + 20)], [seen(3, START + 10), seen(4, START + 90, item=2)])
    assert remembered.before(seen(9, START + 50)) == EarlierEvents(30_000, 3)
    assert remembered.before(seen(9, START + 5)) == EarlierEvents(-15_000, 3)
    assert remembered.before(seen(9, item=3)) == NO_EARLIER_EVENTS
    assert remembered.before(seen(9, item=1 + 2**40)) == EarlierEvents(-20_000, 3), "by 32 bits of the item's key"
    remembered.add(seen(5, START + 40))
    assert remembered.before(seen(9, START + 50)) == EarlierEvents(10_000, 4)


def test_the_last_event_about_a_dropped_item_is_at_the_horizon() -> None:
    assert memory([], [seen(1, START)], horizon=START - 60).before(seen(9, item=2)) == EarlierEvents(60_000, 0)


def test_a_user_is_busy_with_so_many_events_in_the_hour_before_or_after() -> None:
    every_minute = [seen(number, START + number * 60) for number in range(120)]
    for remembered in (memory(every_minute), memory(every_minute[100:], every_minute[50:100], every_minute[:50])):
        last, middle = START + 119 * 60, START + 60 * 60
        assert remembered.is_busy(last, 60)
        assert not remembered.is_busy(last, 61)
        assert remembered.is_busy(START, 60), "a late event"
        assert remembered.is_busy(middle, 60)
        assert not remembered.is_busy(middle, 61), "the hour before and the hour after are counted apart"
        assert not remembered.is_busy(last + 3_600, 1)
        remembered.add(seen(500, last))
        assert remembered.is_busy(last, 61)


def test_the_newest_events_are_kept_once_each_and_the_horizon_is_the_newest_of_the_others() -> None:
    entries = as_entries([seen(1, 10), seen(2, 30), seen(3, 20), seen(1, 40), seen(4, 5)])
    kept, horizon = newest(entries, 2, -1)
    assert (kept.tolist(), horizon) == ([seen(2, 30), seen(1, 40)], 20)
    kept, horizon = newest(entries, 4, 7)
    assert (kept["second"].tolist(), horizon) == ([5, 20, 30, 40], 7)
    assert newest(entries, 3, 100)[1] == 100
    assert len(newest(np.empty(0, ENTRY), 3, -1)[0]) == 0
