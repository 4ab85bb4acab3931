"""Measure what the signals of users cost the state tier: bytes of a record, and time of an event and of an impression.

In memory, in this process: no Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from encoders.events.entries import Event
from encoders.events.shown_lists import SeenList, newest, read, seen_list, written
from encoders.interest import BOUGHT, WAITING, Decay, empty, update
from encoders.signals.satisfaction import of_user, signals_of, unclicked_of
from streams.bench.measurement import Measurement, Target
from streams.state.event_memory import seen_of
from streams.state.stored_memory import RECENT
from streams.state.user_record import UserRecord, encode_record

DIM, ITEMS, PAGE = 384, 200, 10
EVENTS = 150
"""More than a record has one by one."""
ROUNDS, REPEATS = 3, 300
MAX_RECORD = 4_096
DECAY = Decay()
START_MS, STEP_MS = 1_790_000_000_000, 40 * 60_000


def full_record(seed: int = 1, with_signals: bool = True) -> UserRecord:
    """Return a record that has all that a record can have, but for searches and a context."""
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, DIM)).astype(np.float32)
    state, seen, shown = empty(DIM), [], b""
    for number in range(EVENTS):
        event = _event(number, with_signals)
        vector = None if number >= EVENTS - WAITING else vectors[event.item]
        state = update(state, event, vector, DECAY)
        seen.append(seen_of("u", f"event-{number}", event))
        shown = written(newest([*read(shown), _page(number)])) if with_signals else b""
    return UserRecord(state, tuple(seen[-RECENT:]), shown=shown)


def signal_costs() -> list[Measurement]:
    """Measure the bytes and the times."""
    record = full_record()
    event, page = _event(EVENTS, True), _page(EVENTS)
    bare = Event(event.item, event.time_ms, event.type)
    vector, state = np.ones(DIM, np.float32), record.interest
    timed: dict[str, Callable[[], object]] = {
        "an event with a dwell time into a full state": lambda: update(state, event, vector, DECAY),
        "a list of 10 items that was shown into a full state": lambda: written(newest([*read(record.shown), page])),
        "satisfaction and fatigue for a request": lambda: _scored(record),
    }
    record_bytes = Measurement(
        "the largest record of a user, 384 numbers a vector",
        "bytes",
        [float(len(encode_record(record)))],
        "the same events without dwell times and impressions",
        [float(len(encode_record(full_record(with_signals=False))))],
        Target(MAX_RECORD, at_most=True),
    )
    plain = [_microseconds(lambda: update(state, bare, vector, DECAY)) for _ in range(ROUNDS)]
    found = [
        Measurement(
            name,
            "us",
            [_microseconds(call) for _ in range(ROUNDS)],
            "an event without a dwell time",
            plain,
        )
        for name, call in timed.items()
    ]
    return [record_bytes, *found]


def _event(number: int, with_signals: bool) -> Event:
    kind = "purchase" if number < BOUGHT else "click"
    return Event(number % ITEMS, START_MS + number * STEP_MS, kind, dwell=0.6 if with_signals else None)


def _page(number: int) -> SeenList:
    items = [f"item-{(number + rank) % ITEMS}" for rank in range(PAGE)]
    return seen_list("u", f"page-{number}", items, START_MS + number * STEP_MS)


def _scored(record: UserRecord) -> object:
    lists = read(record.shown)
    return of_user(signals_of(record.interest, lists, DECAY)), unclicked_of(record.interest, lists)


def _microseconds(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    for _ in range(REPEATS):
        call()
    return (time.perf_counter() - started_s) / REPEATS * 1e6
