"""A field that no contract has is counted each time, and named in the log once."""

from __future__ import annotations

import json

import pytest

from streams import metrics
from streams.receive import unknown_fields
from streams.receive.unknown_fields import UnknownFields


def counted() -> float:
    return float(metrics.unknown_fields.labels("rank-requests")._value.get())


def test_each_is_named_once_wherever_it_is(caplog: pytest.LogCaptureFixture) -> None:
    fields, before = UnknownFields("rank-requests"), counted()
    request = {
        "user_id": "u",
        "placment": "cart",
        "candidates": [{"item_id": "i", "score": 1}, {"item_id": "j", "score": 2}],
        "history": [{"item_id": "i", "title": "A tent", "type": "click"}],
        "trigger": {"event_id": "e", "type": "click", "why": "x"},
        "features": None,
    }
    for _ in range(2):
        fields.note(json.dumps(request).encode())
    assert counted() - before == 6
    assert [message.split("field ")[1].split(",")[0] for message in caplog.messages] == [
        "candidates[].score",
        "placment",
        "trigger.why",
    ]


def test_a_producer_that_makes_names_up_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_fields, "MAX_NAMED", 5)
    fields = UnknownFields("rank-requests")
    for number in range(9):
        fields.note(json.dumps({f"made-up-{number}": 1}).encode())
    assert len(caplog.messages) == 5
