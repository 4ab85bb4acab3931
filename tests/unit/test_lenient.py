"""Lenient decoding: harmless deviations are coerced, and a value whose meaning would change is rejected."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from encoders.event_time import milliseconds
from streams.contracts import Click, Impression, Item, Purchase, RankRequest
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message

NOW_MS = 1_800_000_000_000
BERLIN = ZoneInfo("Europe/Berlin")
CLICK: dict[str, Any] = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": NOW_MS - 1000}
ITEM: dict[str, Any] = {"item_id": "i1", "title": "Trail jacket"}


def read(topic: str, value: dict[str, Any] | bytes, zone: Any = None) -> tuple[Any, list[str]]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    coerced: list[str] = []
    return receive(Message(topic, 0, 0, b"i1", raw), NOW_MS, zone, coerced=coerced), coerced


@pytest.mark.parametrize(
    ("field", "given", "expected", "kind"),
    [
        ("brand", None, "", "null"),
        ("description", None, "", "null"),
        ("categories", None, [], "null"),
        ("entities", None, [], "null"),
        ("attributes", None, {}, "null"),
        ("available", None, True, "null"),
        ("categories", ["a", None], ["a"], "null"),
        ("categories", "Shoes > Men", ["Shoes > Men"], "single"),
        ("categories", "", [], "empty"),
        ("entities", "x", ["x"], "single"),
        ("attributes", [], {}, "empty"),
        ("price", "89.00", 89.0, "text-as-number"),
        ("price", " 1e2 ", 100.0, "text-as-number"),
        ("price", "", None, "empty"),
        ("currency", "", None, "empty"),
        ("currency", "eur", "EUR", "currency"),
        ("currency", " EUR", "EUR", "currency"),
        ("available", 1, True, "boolean"),
        ("available", 0, False, "boolean"),
        ("available", "true", True, "boolean"),
        ("available", "No", False, "boolean"),
        ("timestamp", "", None, "empty"),
        ("title", 1984, "1984", "number-as-text"),
        ("brand", 4711, "4711", "number-as-text"),
    ],
)
def test_a_harmless_value_of_an_item_is_coerced_and_counted(field: str, given: Any, expected: Any, kind: str) -> None:
    item, coerced = read("items", {**ITEM, field: given})
    assert getattr(item, field) == expected
    assert coerced == [kind]


REJECTED: dict[tuple[str, str], list[Any]] = {
    ("items", "price"): ["89,00", "€ 5", "1e309", "NaN", "inf", "-1", -1, True, [5], "0x10", "1_000", "١"],
    ("items", "available"): [2, 1.0, "", "maybe", []],
    ("items", "item_id"): [42.0, True, None, ["i1"], {}],
    ("items", "currency"): ["€", "EURO", 978],
    ("items", "title"): [None, "", 1.5, ["Hat"], {"a": 1}],
    ("items", "categories"): [{"a": 1}, [["a"]], 5],
    ("items", "brand"): [{"a": 1}, True, 1.5],
    ("purchases", "quantity"): [0, "0", "-2", True, "two"],
    ("clicks", "position"): [-1, 2.5, "2.5", True],
    ("clicks", "event_id"): [None, "", 1.5],
    ("clicks", "user_id"): [None, "", False],
    ("clicks", "timestamp"): [None, True, {}],
}


@pytest.mark.parametrize(
    ("topic", "field", "given"), [(*where, value) for where, values in REJECTED.items() for value in values]
)
def test_a_value_whose_meaning_would_change_is_rejected(topic: str, field: str, given: Any) -> None:
    value = (ITEM if topic == "items" else CLICK) | {field: given}
    with pytest.raises(BadMessage) as rejected:
        read(topic, value)
    assert rejected.value.reason == "invalid"
    assert field in str(rejected.value)


def test_harmless_values_of_events_are_coerced() -> None:
    loose = {"event_id": 7, "item_id": 42, "context": None, "session_id": "", "position": 3.0, "dwell_ms": "1200"}
    click, coerced = read("clicks", CLICK | loose)
    assert click == Click(
        event_id="7", user_id="u1", item_id="42", timestamp=NOW_MS - 1000, position=3, dwell_ms=1200, context={}
    )
    assert sorted(coerced) == sorted(
        ["number-as-text", "number-as-text", "null", "empty", "float-as-integer", "text-as-number"]
    )
    purchase, _ = read("purchases", CLICK | {"quantity": None, "price": "9.50", "currency": "chf"})
    assert isinstance(purchase, Purchase)
    assert (purchase.quantity, purchase.price, purchase.currency) == (1, 9.5, "CHF")
    shown, _ = read("impressions", {"event_id": 1, "user_id": 2, "list_id": 3, "items": [4, "i"], "timestamp": NOW_MS})
    assert shown == Impression(event_id="1", user_id="2", list_id="3", items=["4", "i"], timestamp=NOW_MS)
    with pytest.raises(BadMessage, match=r"items\[1\]"):  # an omitted id would shift the positions behind it
        read("impressions", {"event_id": 1, "user_id": 2, "list_id": 3, "items": [4, None], "timestamp": NOW_MS})


def test_harmless_values_within_a_request_are_coerced() -> None:
    event = {"item_id": 3, "type": "click", "timestamp": str(NOW_MS), "title": "Hat", "brand": None}
    candidate = {"item_id": 4, "text": "Cap", "retrieval_score": "0.5", "sources": None}
    rank_request = {"request_id": 1, "user_id": "u", "as_of": NOW_MS, "history": [event], "candidates": [candidate]}
    request, coerced = read("rank-requests", rank_request)
    assert isinstance(request, RankRequest)
    assert (request.history[0].item_id, request.history[0].timestamp) == ("3", NOW_MS)
    assert (request.candidates[0].retrieval_score, request.candidates[0].sources) == (0.5, [])
    assert len(coerced) == 7


def test_a_message_that_meets_the_contract_has_no_coercion() -> None:
    for topic, value in (
        ("items", ITEM | {"price": 5, "currency": "EUR", "timestamp": "2026-11-22 18:00:00Z", "unknown": None}),
        ("clicks", CLICK | {"timestamp": "2026-11-22T18:00:00+0100", "session_id": None}),
    ):
        assert read(topic, value)[1] == []


def test_a_byte_order_mark_is_accepted() -> None:
    item, coerced = read("items", b"\xef\xbb\xbf" + json.dumps(ITEM).encode())
    assert (item, coerced) == (Item(**ITEM), ["bom"])


SIX_PM = milliseconds(datetime(2026, 11, 22, 18, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("1795566875471", 1_795_566_875_471),
        (1795566875471.5, 1_795_566_875_472),
        (1.795e12, 1_795_000_000_000),
        ("1795566875471.2", 1_795_566_875_471),
        ("2026-11-22 18:00:00 UTC", SIX_PM),
        ("2026-11-22 18:00:00.25 UTC", SIX_PM + 250),
        ("2026-11-22 18:00:00.123456789 UTC", SIX_PM + 123),
        ("2026-11-22T18:00Z", SIX_PM),
        ("2026-11-22T19:00:00+01", SIX_PM),
        ("2026-11-22 19:00:00 +0100", SIX_PM),
        ("2026-11-22T19:00:00+01:00[Europe/Berlin]", SIX_PM),
        ("2026-11-22T18:00:00,5Z", SIX_PM + 500),
    ],
)
def test_times_in_other_forms_are_coerced(written: Any, ms: int) -> None:
    click, coerced = read("clicks", CLICK | {"timestamp": written})
    assert milliseconds(click.timestamp) == ms
    assert coerced == ["time"]


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2026-11-22 19:00:00", "2026-11-22 18:00"),
        ("2026-07-22T19:00:00.5", "2026-07-22 17:00"),
        ("2026-10-25 02:30:00", "2026-10-25 00:30"),  # it comes twice: the first one counts
        ("2026-03-29 02:30:00", "2026-03-29 01:30"),  # it does not exist: the offset before the change counts
    ],
)
def test_a_time_without_a_zone_is_in_the_configured_zone(local: str, utc: str) -> None:
    click, coerced = read("clicks", CLICK | {"timestamp": local}, BERLIN)
    assert click.timestamp.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M") == utc
    assert coerced == ["time"]
    with pytest.raises(BadMessage, match="AFTERCLICK_TIME_ZONE"):
        read("clicks", CLICK | {"timestamp": local})


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (NOW_MS // 1000, "are these seconds"),
        (NOW_MS / 1000, "are these seconds"),
        (str(NOW_MS // 1000), "are these seconds"),
        (NOW_MS * 1000, "microseconds"),
        (str(NOW_MS * 1000), "microseconds"),
        (NOW_MS * 1_000_000, "microseconds"),
        ("2026-11-22", "datetime"),
        ("yesterday", "datetime"),
        ("2026-02-30 18:00:00 UTC", "datetime"),
        ("2026-11-22 18:00:00 PST", "datetime"),
        ("", "datetime"),
        (True, "timestamp"),
        ("1e400", "datetime"),
    ],
)
def test_other_times_are_rejected(written: Any, words: str) -> None:
    with pytest.raises(BadMessage, match=words):
        read("clicks", CLICK | {"timestamp": written}, BERLIN)
