"""Step 1: every kind of bad message is rejected with a text that a person understands, and kept whole."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from streams.contracts import TOPICS, Click, Item, Purchase, RankRequest
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message, Tombstone

NOW_MS = 1_790_000_000_000
GOOD: dict[str, Any] = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": NOW_MS - 1000}
ITEM: dict[str, Any] = {"item_id": "i1", "title": "Trail jacket"}


def message(topic: str, value: Any, key: bytes | None = b"u1") -> Message:
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Message(topic, 3, 41, key, raw)


def changed(**fields: Any) -> dict[str, Any]:
    """`GOOD` with other fields; `...` omits a field."""
    return {name: value for name, value in {**GOOD, **fields}.items() if value is not ...}


BAD: dict[str, tuple[str, Any, str, str]] = {
    "not JSON": ("clicks", b"{oops", "malformed", "JSON is malformed"),
    "not UTF-8": ("clicks", b'{"event_id": "\xff"}', "malformed", "UTF-8"),
    "cut off": ("clicks", b'{"event_id": "e1"', "malformed", "truncated"),
    "an array": ("clicks", [1], "invalid", "Expected `object`"),
    "nested without end": ("clicks", b'{"event_id":' + b"[" * 200_000, "invalid", "Expected `str`"),
    "nested in context": ("clicks", b'{"context":' + b'{"a":' * 200_000, "malformed", "recursion"),
    "wrong type": ("clicks", changed(user_id=5.0), "invalid", "$.user_id"),
    "missing field": ("clicks", changed(item_id=...), "invalid", "item_id"),
    "empty id": ("clicks", changed(user_id=""), "invalid", "length >= 1"),
    "id over 256 characters": ("clicks", changed(user_id="x" * 257), "invalid", "length <= 256"),
    "id over 256 bytes": ("clicks", changed(user_id="\u20ac" * 100), "invalid", "300 bytes"),
    "time in the future": ("clicks", changed(timestamp=NOW_MS + 90_000_000), "time", "25.0 hours ahead"),
    "time in microseconds": ("clicks", changed(timestamp=NOW_MS * 1000), "time", "microseconds"),
    "time before 1990": ("clicks", changed(timestamp=0), "time", "1990"),
    "time in seconds": ("clicks", changed(timestamp=NOW_MS // 1000), "time", "seconds"),
    "time without zone": ("clicks", changed(timestamp="2026-01-01T00:00:00"), "invalid", "timezone"),
    "time as float seconds": ("clicks", changed(timestamp=NOW_MS / 1000), "time", "are these seconds"),
    "NaN price": ("purchases", json.dumps(changed(price=float("nan"))).encode(), "malformed", "malformed"),
    "infinite price": (
        "purchases",
        json.dumps(GOOD).encode()[:-1] + b', "price": 1e999}',
        "invalid",
        "range",
    ),
    "negative price": ("purchases", changed(price=-1), "invalid", "$.price"),
    "return without a purchase": ("purchases", changed(quantity=-2), "invalid", "expected the event_id of a purchase"),
    "return of a quantity": ("purchases", changed(quantity=2, takes_back="e"), "invalid", "expected one below 0"),
    "long id of a purchase": ("purchases", changed(quantity=-1, takes_back="é" * 200), "invalid", "takes_back"),
    "no quantity": ("purchases", changed(quantity=0), "invalid", "quantity: got 0, expected a number above 0"),
    "over 1 MiB": ("clicks", changed(text="x" * (1 << 20)), "too-large", "1048576"),
    "null click": ("clicks", None, "null", "forget"),
    "null impression": ("impressions", None, "null", "null"),
    "null forget": ("forget", None, "null", "null"),
    "item under another key": ("items", ITEM, "key", "item_id"),
    "item without title": ("items", {"item_id": "u1", "title": ""}, "invalid", "title"),
    "blank title": ("items", {"item_id": "u1", "title": " \u200b\t\u3164"}, "invalid", "blanks"),
    "reserved user": ("clicks", changed(user_id="*"), "reserved", "'*'"),
    "reserved user bought": ("purchases", changed(user_id="*"), "reserved", "'*'"),
    "reserved user forgotten": ("forget", {"user_id": "*", "timestamp": NOW_MS}, "reserved", "'*'"),
    "reserved user saw": (
        "impressions",
        {"event_id": "e", "user_id": "*", "list_id": "l", "items": [], "timestamp": NOW_MS},
        "reserved",
        "'*'",
    ),
    "reserved user's request": (
        "rank-requests",
        {"request_id": "r", "user_id": "*", "as_of": NOW_MS, "history": [], "candidates": []},
        "reserved",
        "'*'",
    ),
    "blank candidate": (
        "rank-requests",
        {
            "request_id": "r",
            "user_id": "u",
            "as_of": NOW_MS,
            "history": [],
            "candidates": [{"item_id": "i", "text": " \u00a0"}],
        },
        "invalid",
        "candidates[0].text",
    ),
    "item price below zero": ("items", {**ITEM, "price": -0.01}, "invalid", "price"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_rejected_with_its_error_and_kept_whole(name: str) -> None:
    topic, value, reason, words = BAD[name]
    bad = message(topic, value)
    with pytest.raises(BadMessage) as rejected:
        receive(bad, NOW_MS)
    assert rejected.value.reason == reason
    assert words.lower() in str(rejected.value).lower()
    assert topic in str(rejected.value)
    letter = json.loads(msgspec.json.encode(bad.dead_letter(str(rejected.value))))
    assert (letter["topic"], letter["partition"], letter["offset"]) == (topic, 3, 41)
    payload = letter["payload"]
    assert (base64.b64decode(payload) if payload is not None else None) == bad.value
    assert base64.b64decode(letter["key"]) == b"u1"


def test_a_tombstone_without_a_usable_key_is_rejected() -> None:
    with pytest.raises(BadMessage, match="needs a key"):
        receive(message("items", None, key=None), NOW_MS)
    with pytest.raises(BadMessage, match="UTF-8"):
        receive(message("items", None, key=b"\xff"), NOW_MS)


def test_no_other_user_id_is_reserved_and_few_titles_are_blank() -> None:
    for user_id in ("*x", "**", " ", "\n", "u\0", "undefined", "[object Object]", " u1"):
        assert receive(message("clicks", changed(user_id=user_id)), NOW_MS).user_id == user_id  # type: ignore[union-attr]
    for title in ("帽", "👟", "-", "\u200bHat", "é", "ٱلْ", "7", "€"):
        assert receive(message("items", ITEM | {"title": title}, key=b"i1"), NOW_MS).title == title  # type: ignore[union-attr]


def test_a_message_of_a_worker_is_not_rejected_for_its_user_or_its_time() -> None:
    candidates = [{"item_id": f"i{number}", "text": "x" * 2_000} for number in range(600)]  # over 1 MiB
    late = NOW_MS + 40 * 86_400_000
    rank_request = {"request_id": "r", "user_id": "*", "as_of": late, "history": [], "candidates": candidates}
    received = receive(message("rank-requests", rank_request), NOW_MS, from_worker=True)
    assert isinstance(received, RankRequest)
    assert (received.user_id, received.as_of) == ("*", late)
    assert receive(message("rank-requests", None, key=b"*"), NOW_MS, from_worker=True) == Tombstone("*")
    with pytest.raises(BadMessage, match=r"user_id: got '\*'"):
        receive(message("rank-requests", None, key=b"*"), NOW_MS)
    with pytest.raises(BadMessage, match=r"user_id: got '\*'"):
        receive(message("rank-requests", rank_request), NOW_MS)


@pytest.mark.parametrize("name", BAD)
def test_a_cause_contains_nothing_of_the_message(name: str) -> None:
    topic, value, _, _ = BAD[name]
    with pytest.raises(BadMessage) as rejected:
        receive(message(topic, value), NOW_MS)
    assert len(rejected.value.cause) < 80
    assert not {"e1", "u1", "i1", str(NOW_MS)} & set(rejected.value.cause.split())


def test_good_messages_are_accepted() -> None:
    assert receive(message("clicks", GOOD), NOW_MS) == Click(**GOOD)
    assert receive(message("clicks", changed(unknown="ignored")), NOW_MS) == Click(**GOOD)
    purchase = receive(
        message("purchases", changed(price=0, quantity=2.5, timestamp="2026-01-01T00:00:00+02:00")), NOW_MS
    )
    assert isinstance(purchase, Purchase)
    assert purchase.quantity == 2.5
    assert receive(message("items", ITEM, key=b"i1"), NOW_MS) == Item(**ITEM)
    assert receive(message("items", None, key=b"i1"), NOW_MS) == Tombstone("i1")
    assert receive(message("rank-requests", None), NOW_MS) == Tombstone("u1")


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_schema(topic: str) -> None:
    schema = msgspec.json.schema(TOPICS[topic])
    definition = schema["$defs"][TOPICS[topic].__name__]
    assert definition["description"]
    assert set(definition["required"]) <= set(definition["properties"])
