"""Times of events: whatever clocks say, a state is never ahead of its records, and a replay gives the same one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.contracts import Click
from streams.kafka import record_time
from streams.kafka.record_time import AHEAD_MS, LOG_APPEND_TIME, Record, RecordTimes, counted_at, receive_dated
from streams.receive.message import BadMessage, Message
from streams.settings import KafkaSettings
from tests.unit.test_state_worker import NOW, World

DAY = 86_400_000
OFF = st.integers(-60 * DAY, 60 * DAY)


class Sent(NamedTuple):
    """An event: when it was written, as its record says, and how far its own time is from that."""

    written_ms: int
    off_ms: int
    kind: int


SENT = st.builds(Sent, st.integers(NOW - 30 * DAY, NOW), st.integers(-DAY, DAY), st.sampled_from([0, LOG_APPEND_TIME]))


async def unbounded(*_: Any) -> dict[str, str]:
    return {}


async def bounded(*_: Any) -> dict[str, str]:
    return {"message.timestamp.after.max.ms": "3600000"}


def at(sent: Sent, our_clock_ms: int, config: Any) -> int | None:
    """When the event counts, to a worker whose clock says so; None if it is refused."""
    value = {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": sent.written_ms + sent.off_ms}
    record = Record("clicks", sent.written_ms, sent.kind)
    times = RecordTimes(KafkaSettings())
    with (
        mock.patch.object(record_time, "now_ms", return_value=our_clock_ms),
        mock.patch.object(RecordTimes, "_config", config),
    ):
        asyncio.run(times.look([record]))
        try:
            message = Message("clicks", 0, 0, b"u", json.dumps(value).encode())
            decoded, written_ms = receive_dated(times, record, message, None)
        except BadMessage:
            return None
        assert isinstance(decoded, Click)
        timestamp = counted_at(decoded, written_ms).timestamp
        assert isinstance(timestamp, int)
        return timestamp


@given(SENT, st.integers(0, 60 * DAY))
def test_it_is_the_same_at_any_later_time(sent: Sent, later_ms: int) -> None:
    assert at(sent, NOW, unbounded) == at(sent, NOW + later_ms, unbounded)


@given(SENT, OFF)
def test_where_kafka_bounds_times_our_clock_is_of_no_consequence(sent: Sent, off_ms: int) -> None:
    expected = min(sent.written_ms, sent.written_ms + sent.off_ms)
    assert at(sent, NOW + off_ms, bounded) == expected


@given(SENT, OFF)
def test_nothing_counts_in_the_future_of_both_its_record_and_our_clock(sent: Sent, off_ms: int) -> None:
    clock_ms = NOW + off_ms
    counts_ms = at(sent, clock_ms, unbounded)
    assert counts_ms is None or counts_ms <= max(sent.written_ms, clock_ms)
    if counts_ms is not None and not sent.kind:
        assert counts_ms <= clock_ms + AHEAD_MS


@pytest.fixture(autouse=True)
def _asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordTimes, "_config", unbounded)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(-5_000, DAY)), min_size=1, max_size=8), st.integers(0, 7))
def test_who_is_forgotten_does_not_come_back_by_what_was_sent_before_again(
    events: Sequence[tuple[int, int]], forgotten_after: int
) -> None:
    """The same records once more, and the same messages in new records of a producer that tries again an hour later.

    Of these, not the few that are dated between: by then nobody can tell them from what is new.
    """
    world = World()
    before = [
        world.click("u", f"e{number}", sent_ms + off_ms, written_ms=NOW + sent_ms)
        for number, (sent_ms, off_ms) in enumerate(events)
    ]
    wish = world.forget("u", 10_000, written_ms=NOW + 10_000)
    again = [
        world.click("u", f"e{number}", sent_ms + off_ms, written_ms=NOW + 3_600_000 + sent_ms)
        for number, (sent_ms, off_ms) in enumerate(events)
        if sent_ms + off_ms <= 10_000 or sent_ms + off_ms > 2 * 3_600_000
    ]
    real = world.click("u", "new", 3_700_000, written_ms=NOW + 3_700_000)

    async def played() -> None:
        await world.work([*before[:forgotten_after], wish, *before[forgotten_after:], *before, *again])
        assert world.version("u") == 0
        assert world.tier.users.forgotten_until("u") == NOW + 10_000
        await world.work([real, wish])
        assert world.version("u") == 1, "a wish that was met is not met again"

    asyncio.run(played())
