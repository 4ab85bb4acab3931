"""When a record was written: which clock is trusted, and when an event counts that is dated later."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streams.contracts import Click, Forget
from streams.kafka import record_time
from streams.kafka.record_time import LOG_APPEND_TIME, Record, RecordTimes, counted_at, receive_dated
from streams.receive.message import BadMessage, Message
from streams.settings import KafkaSettings

NOW = 1_790_000_000_000
HOUR, DAY = 3_600_000, 86_400_000


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_time, "now_ms", lambda: NOW)


def times_of(monkeypatch: pytest.MonkeyPatch, **config: str) -> tuple[RecordTimes, list[str]]:
    """With what Kafka says of every topic, and the topics that it is asked about."""
    asked: list[str] = []

    async def answer(_: RecordTimes, topic: str) -> dict[str, str]:
        asked.append(topic)
        return {name.replace("_", "."): value for name, value in config.items()}

    monkeypatch.setattr(RecordTimes, "_config", answer)
    return RecordTimes(KafkaSettings()), asked


def written(times: RecordTimes, ahead_ms: int, kind: int = 0) -> int | None:
    """How far ahead of our clock such a record is believed to be written."""
    record = Record("clicks", NOW + ahead_ms, kind)
    asyncio.run(times.look([record]))
    believed = times.written_ms(record)
    return None if believed is None else believed - NOW


def test_a_producers_clock_is_trusted_for_an_hour_bounded_for_a_day_and_refused_beyond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times, _ = times_of(monkeypatch)
    assert [written(times, ahead) for ahead in (-400 * DAY, -1, 0, 3_000, HOUR)] == [-400 * DAY, -1, 0, 3_000, HOUR]
    assert [written(times, ahead) for ahead in (HOUR + 1, DAY)] == [0, 0]
    assert [written(times, ahead) for ahead in (DAY + 1, 40 * DAY)] == [None, None]


@pytest.mark.parametrize(
    ("config", "believed"),
    [
        ({"message_timestamp_after_max_ms": "3600000"}, True),  # Kafka 4's default
        ({"message_timestamp_after_max_ms": str(2**63 - 1), "message_timestamp_type": "CreateTime"}, False),
        ({"message_timestamp_after_max_ms": str(2**63 - 1), "message_timestamp_type": "LogAppendTime"}, True),
        ({"message_timestamp_difference_max_ms": "60000"}, True),
        ({}, False),
    ],
)
def test_where_kafka_bounds_times_our_own_clock_is_behind(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, str], believed: bool
) -> None:
    times, asked = times_of(monkeypatch, **config)
    assert written(times, 3_000) == 3_000
    assert asked == [], "only once a record looks wrong"
    assert written(times, 40 * DAY) == (40 * DAY if believed else None)
    assert written(times, 20 * HOUR) == (20 * HOUR if believed else 0)
    assert asked == ["clicks"], "once"


def test_the_brokers_own_time_is_trusted_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    times, asked = times_of(monkeypatch)
    assert written(times, 40 * DAY, LOG_APPEND_TIME) == 40 * DAY
    assert asked == []


@pytest.mark.parametrize("stored", [-1, 0, NOW // 1000])
def test_a_record_without_a_time_or_in_seconds_counts_as_written_now(
    monkeypatch: pytest.MonkeyPatch, stored: int
) -> None:
    times, _ = times_of(monkeypatch)
    assert times.written_ms(Record("clicks", stored, 0)) == NOW


def received(times: RecordTimes, topic: str, time_ms: int = NOW + 40 * DAY, ours: bool = False) -> Any:
    value = {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": time_ms}
    message = Message(topic, 0, 0, b"u", json.dumps(value).encode())
    return receive_dated(times, Record(topic, NOW + 40 * DAY, 0), message, None, ours)


def test_only_forget_requests_and_our_own_messages_are_taken_from_an_untrusted_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times, _ = times_of(monkeypatch)
    for time_ms in (NOW, NOW + 40 * DAY):
        with pytest.raises(
            BadMessage, match=r"the record's own time: got 1793456000000 .* 960\.0 hours ahead"
        ) as error:
            received(times, "clicks", time_ms)
        assert error.value.reason == "time"
    wish, written_ms = received(times, "forget")
    assert counted_at(wish, written_ms) == Forget(user_id="u", timestamp=NOW)
    assert received(times, "clicks", ours=True)[1] == NOW


def test_an_event_counts_no_later_than_its_record_was_written() -> None:
    click = Click(event_id="e", user_id="u", item_id="i", timestamp=NOW)
    assert counted_at(click, NOW) is click
    assert counted_at(click, NOW - 1).timestamp == NOW - 1
