"""An outage of Kafka is two log lines, a moving broker is none, and a line that needs a person is never left out."""

from __future__ import annotations

import logging
import re

import pytest

from streams.kafka import outage
from streams.kafka.outage import CALM_S, LASTS_S, Outage, Quiet

SIGNS = [
    "Unable connect to \"127.0.0.1:9092\": [Errno 111] Connect call failed ('127.0.0.1', 9092)",
    "Unable connect to node with id 1: KafkaConnectionError: Connection at 127.0.0.1:9092 closed",
    "Unable to update metadata from [1]",
    "Failed fetch messages from 1: NodeNotReadyError: Attempt to send a request to node which is not ready",
    "Group Coordinator Request failed: [Error 15] GroupCoordinatorNotAvailableError",
    "Marking the coordinator dead (node 1)for group afterclick-rank.",
    "Heartbeat session expired - marking coordinator dead",
    "Heartbeat failed for group g: coordinator (node 1) is either not started or not valid",
    "Got error produce response: [Error 6] NotLeaderForPartitionError",
    "Error sending OffsetCommitRequest_v2 to node 1 [[Error 7] RequestTimedOutError] -- marking coordinator dead",
]
MOVES = [
    "Heartbeat failed for group g because it is rebalancing",
    "Heartbeat failed: local member_id was not recognized; resetting and re-joining group",
    "OffsetCommit failed for group g due to group error ([Error 25] UnknownMemberIdError: g), will rejoin",
    "Got error produce response: MembershipLost: our partitions are another worker's by now: "
    "what was in hand is dropped",
]
OTHERS = [
    "Topic clicks is not authorized for this client",
    "Not authorized to read from topic clicks.",
    "OffsetCommit failed for unauthorized topics {'clicks'}",
    "Libraries for zstd compression codec not found",
    "Unable connect to node with id 1: [Error 58] SaslAuthenticationFailed: Authentication failed",
    "Unable connect to node with id 1: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
    "Unable connect to node with id 1: KafkaConnectionError: Connection closed during SSL handshake",
    "Got error produce response: [Error 10] MessageSizeTooLargeError",
]


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def told(clock: list[float], caplog: pytest.LogCaptureFixture) -> tuple[Outage, list[str]]:
    """An outage to be, and what the log says of it."""
    lines: list[str] = []
    collect = logging.Handler()
    collect.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    outage.logger.addHandler(collect)
    return Outage("Kafka", "work waits for it", lambda: clock[0]), lines


def test_an_outage_of_a_hundred_seconds_is_two_lines(clock: list[float], told: tuple[Outage, list[str]]) -> None:
    kafka, lines = told
    was_logged = [kafka.is_logged]
    for _ in range(100):
        clock[0] += 1
        kafka.seen(SIGNS[0])
        was_logged.append(kafka.is_logged)
    assert was_logged == [False] * 3 + [True] * 98
    assert len(lines) == 1
    assert re.fullmatch(r"Kafka is away since \d\d:\d\d:\d\d UTC \(.*\); work waits for it", lines[0])
    assert SIGNS[0] in lines[0]
    kafka.back()
    assert len(lines) == 1, "a second ago its client complained"
    clock[0] += CALM_S
    kafka.back()
    kafka.back()
    assert lines[1:] == ["Kafka is back after 99 s"]
    assert kafka.is_logged is False
    kafka.seen(SIGNS[0])
    clock[0] += LASTS_S
    kafka.seen(SIGNS[0])
    assert len(lines) == 3, "the next outage has its line"


def test_a_long_outage_is_reminded_of_now_and_then(clock: list[float], told: tuple[Outage, list[str]]) -> None:
    redis, lines = told
    for _ in range(3_600):
        clock[0] += 1
        redis.seen("away", lasts_s=0)
    redis.back(calm_s=0)
    assert len(lines) == 2 + 3_600 / outage.REMIND_S - 1
    assert lines[1].endswith("(5 minutes)")
    assert lines[-1] == "Kafka is back after 3599 s"


def test_a_replaced_broker_is_no_outage(clock: list[float], told: tuple[Outage, list[str]]) -> None:
    kafka, lines = told
    for _ in range(10):
        for sign in SIGNS:
            kafka.seen(sign)
        clock[0] += outage.APART_S + 1
    assert lines == []
    kafka.seen("one more")
    clock[0] += 40  # aiokafka's patience with a broker that stands still
    kafka.seen("one more")
    assert len(lines) == 1


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_only_signs_are_kept_out_of_the_log(told: tuple[Outage, list[str]], keep: bool, level: int) -> None:
    quiet = Quiet(told[0], keep)

    def passes(text: str, name: str = "aiokafka.consumer.fetcher") -> bool:
        return quiet.filter(logging.LogRecord(name, level, "f.py", 1, "%s", (text,), None))

    assert [passes(sign) for sign in SIGNS] == [keep] * len(SIGNS)
    assert [passes(move) for move in MOVES] == [keep] * len(MOVES)
    assert all(passes(text) for text in OTHERS)
    assert [passes(sign, "streams.faust_compat.consumer_thread") for sign in SIGNS] == [keep] * len(SIGNS)
    assert all(passes(sign, "streams.worker.run") for sign in SIGNS)


def test_a_bug_is_never_taken_for_an_outage(told: tuple[Outage, list[str]]) -> None:
    error = (ValueError, ValueError("NodeNotReadyError"), None)
    record = logging.LogRecord("aiokafka", logging.ERROR, "f.py", 1, SIGNS[0], None, error)
    assert Quiet(told[0], keep=False).filter(record)
