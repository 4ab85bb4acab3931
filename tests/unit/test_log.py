"""The log limits repeated lines, and says how many it left out."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from streams.kafka import reject
from streams.kafka.reject import rejected
from streams.receive.message import BadMessage, Message
from streams.settings import Settings
from streams.worker import log
from streams.worker.log import BURST, EVERY_S, MAX_KINDS, RateLimit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def record(text: str, *arguments: object, line: int = 1) -> logging.LogRecord:
    return logging.LogRecord("streams", logging.WARNING, "f.py", line, text, arguments, None)


def test_a_kind_is_limited_and_others_are_not(clock: list[float]) -> None:
    limit = RateLimit()
    assert sum(limit.filter(record("rejected %d", number)) for number in range(1000)) == BURST
    assert limit.filter(record("another", line=2))
    clock[0] = EVERY_S
    again = record("rejected %d", 1000)
    assert limit.filter(again)
    assert again.getMessage() == f"rejected 1000 (and {1000 - BURST} more like it)"


def test_the_filters_memory_is_bounded(clock: list[float]) -> None:
    limit = RateLimit()
    for line in range(3 * MAX_KINDS):
        limit.filter(record("x", line=line))
    assert len(limit._kinds) <= MAX_KINDS


def test_a_rejection_is_logged_without_its_content(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Message("clicks", 1, 2, b"secret-user", b"secret-payload")
    monkeypatch.setattr(reject, "_summary", reject.Summary())
    rejected(Settings(), message, BadMessage("malformed", "clicks: secret-text"))
    assert caplog.messages == ["rejected clicks/1/2: malformed"]
