"""A record of another shape becomes messages of the contract; what is wrong is said in terms of the record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.contracts import Click, Item, Purchase
from streams.receive.decode import receive
from streams.receive.inputs import Inputs
from streams.receive.mapping import MAX_MEMBERS, Mapping
from streams.receive.message import BadMessage, Message, Tombstone, Unreadable
from streams.settings import Settings, TopicsSettings
from streams.settings.topics import topic_source

NOW_MS = 1_800_000_000_000
VIEWS = {
    "name": "shop-events",
    "where": {"eventType": "view"},
    "fields": {"user_id": "userId", "item_id": "product.sku", "timestamp": "ts", "event_id": "id"},
    "time_unit": "s",
}
ORDERS = {
    "name": "shop-events",
    "where": {"eventType": "order"},
    "each": "lines",
    "fields": {"user_id": "userId", "item_id": "sku", "timestamp": "ts", "quantity": "qty", "price": "unitPrice"},
    "time_unit": "s",
}
CATALOGUE = {
    "name": "products",
    "fields": {"item_id": "id", "title": "name", "categories": "category", "available": "stock > 0"},
    "constants": {"currency": "EUR"},
    "category_separator": ">",
    "delete": {"state": ["gone", "merged"]},
}


def inputs(prefix: str = "", **tables: Any) -> Inputs:
    return Inputs(Settings(topic_prefix=prefix, topics=TopicsSettings.model_validate(tables)))


def mapped(input_name: str, record: object, **table: Any) -> list[dict[str, Any]]:
    return Mapping(input_name, topic_source(input_name, {"name": "t", **table})).apply(record, "t/0/7")


def click(record: object, **table: Any) -> dict[str, Any]:
    fields = {"user_id": "u", "item_id": "i", "timestamp": "t", **table.pop("fields", {})}
    (made,) = mapped("clicks", record, fields=fields, **table)
    return made


def accepted(read: list[Message]) -> list[Any]:
    return [receive(message, NOW_MS) for message in read]


def test_one_mixed_topic_feeds_clicks_and_purchases() -> None:
    both = inputs(clicks=VIEWS, purchases=ORDERS)
    view = {"eventType": "view", "userId": 5, "product": {"sku": "s1"}, "ts": 1_700_000_000, "id": None}
    lines = [{"sku": 1, "qty": 2, "unitPrice": "3.50"}, {"sku": 2, "qty": None, "unitPrice": None, "ts": 1_700_000_009}]
    order = {"eventType": "order", "userId": 5, "ts": 1_700_000_000, "lines": lines}
    assert accepted(both.read("shop-events", 2, 40, b"any", json.dumps(view).encode())) == [
        Click(event_id="shop-events/2/40", user_id="5", item_id="s1", timestamp=1_700_000_000_000)
    ]
    read = both.read("shop-events", 2, 41, None, json.dumps(order).encode())
    assert [message.key for message in read] == [b"5", b"5"]
    id_, first, second = "shop-events/2/41", 1_700_000_000_000, 1_700_000_009_000
    assert accepted(read) == [
        Purchase(event_id=f"{id_}/0", user_id="5", item_id="1", timestamp=first, quantity=2, price=3.5),
        Purchase(event_id=f"{id_}/1", user_id="5", item_id="2", timestamp=second),
    ]
    assert both.read("shop-events", 2, 42, None, b'{"eventType": "login"}') == []
    assert both.read("shop-events", 2, 43, b"5", None) == []


def test_the_contracts_topics_pass_through_with_their_bytes() -> None:
    both = inputs("live.", clicks=VIEWS)
    for value in (b"junk", b"", None, b'{"event_id": "e"}'):
        assert both.read("live.clicks", 1, 2, b"k", value) == [Message("clicks", 1, 2, b"k", value)]
    assert (both.is_mapped("shop-events"), both.is_mapped("live.clicks")) == (True, False)


def test_the_catalogue_is_mapped_under_its_item_ids_and_deletions_are_tombstones() -> None:
    catalogue = inputs(items=CATALOGUE)
    product = {"id": 7, "name": "Hat", "category": "Women > Hats", "stock": 0}
    item = Item(item_id="7", title="Hat", categories=["Women", "Hats"], currency="EUR", available=False)
    assert accepted(catalogue.read("products", 0, 1, b"another key", json.dumps(product).encode())) == [item]
    gone = json.dumps({"id": 7, "state": "gone"}).encode()
    assert accepted(catalogue.read("products", 0, 2, None, gone)) == [Tombstone("7")]
    assert accepted(catalogue.read("products", 0, 3, b"7", None)) == [Tombstone("7")]
    with pytest.raises(BadMessage, match="null value without a key"):
        catalogue.read("products", 0, 4, None, None)
    with pytest.raises(BadMessage, match="items from products: item_id missing: got no value at id"):
        catalogue.read("products", 0, 5, None, b'{"state": "gone"}')
    several = inputs(items={**CATALOGUE, "each": "all"})
    with pytest.raises(BadMessage, match="items from products: delete: got 2 members at all, expected one item"):
        several.read("products", 0, 6, None, b'{"state": "gone", "all": [{"id": 1}, {"id": 2}]}')


@pytest.mark.parametrize(
    ("unit", "value", "time"),
    [
        ("s", 1_700_000_000, 1_700_000_000_000),
        ("s", 1_700_000_000.25, 1_700_000_000_250),
        ("s", "1700000000", 1_700_000_000_000),
        ("ms", "1700000000000", 1_700_000_000_000),
        ("us", 1_700_000_000_123_456, 1_700_000_000_123),
        ("ns", "1700000000123456789", 1_700_000_000_123),
        ("s", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("iso", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        (None, 1_700_000_000_000, 1_700_000_000_000),
        ("s", True, True),
    ],
)
def test_times_have_a_unit(unit: str | None, value: object, time: object) -> None:
    assert click({"u": "u", "i": "i", "t": value}, time_unit=unit)["timestamp"] == time


@pytest.mark.parametrize(
    ("path", "record", "value"),
    [
        ("a.b", {"a": {"b": "x"}}, "x"),
        ('"a.b"', {"a.b": "x"}, "x"),
        ("a[1].b", {"a": [{}, {"b": "x"}]}, "x"),
        ("a[-1]", {"a": ["w", "x"]}, "x"),
        ("a[k=2].v", {"a": [{"k": 1, "v": "w"}, {"k": 2, "v": "x"}]}, "x"),
        (["a", "b"], {"a": "", "b": "x"}, "x"),
        (["a", "b"], {"a": None, "b": "x"}, "x"),
        ("a.b", {"a": ["x"]}, None),
        ("a[3]", {"a": ["x"]}, None),
    ],
)
def test_paths_lead_to_values(path: object, record: dict[str, Any], value: object) -> None:
    made = click({"u": "u", "i": "i", "t": 1, **record}, fields={"text": path})
    assert made.get("text") == value


@pytest.mark.parametrize(
    ("condition", "record", "available"),
    [
        ("on", {"on": False}, False),
        ("not off", {"off": True}, False),
        ("not off", {}, True),
        ("not gone_at", {"gone_at": "2026-01-01"}, False),
        ("not off", {"off": "false"}, True),
        ("stock > 2", {"stock": 2}, False),
        ("stock > 2", {"stock": "3"}, True),
        ("stock > 2", {}, None),
        ("state = active", {"state": "active"}, True),
        ("state = active", {"state": "draft"}, False),
    ],
)
def test_an_item_is_available_on_a_condition(condition: str, record: dict[str, Any], available: bool | None) -> None:
    fields = {"item_id": "i", "title": "t", "available": condition}
    (made,) = mapped("items", {"i": 1, "t": "T", **record}, fields=fields)
    assert made.get("available") is available


def test_lists_and_objects_are_put_together() -> None:
    fields = {"item_id": "i", "title": "t", "categories": ["a", "b[].c"], "attributes": {"colour": "x.y", "size": "z"}}
    record = {"i": 1, "t": "T", "a": "A", "b": [{"c": "B"}, {"c": None}], "x": {"y": "red"}}
    (made,) = mapped("items", record, fields=fields)
    assert made == {"item_id": "1", "title": "T", "categories": ["A", "B"], "attributes": {"colour": "red"}}


def test_a_member_comes_before_its_record() -> None:
    table = {"each": "l", "fields": {"user_id": "@", "item_id": "$.i", "timestamp": "t", "event_id": "id"}}
    record = {"l": ["a", "b"], "i": 7, "t": 1, "id": "e"}
    made = mapped("clicks", record, **table)
    assert [(one["event_id"], one["user_id"], one["item_id"]) for one in made] == [("e/0", "a", "7"), ("e/1", "b", "7")]
    fields = {"user_id": "$.u", "item_id": "id", "timestamp": "t"}
    (one,) = mapped("clicks", {"u": 1, "id": 2, "t": 3, "row": {"u": 4, "id": 5}}, each="row", fields=fields)
    assert one == {"event_id": "t/0/7", "user_id": "1", "item_id": "5", "timestamp": 3}


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({"a": "x"}, True),
        ({"a": ["w", "x"]}, True),
        ({"a": "y"}, False),
        ({"a": "*"}, True),
        ({"none": "*"}, False),
        ({"o.n": 1}, True),
        ({"o.n": True}, False),
        ({"o.b": True}, True),
        ({"l[].k": 2}, True),
        ({"l[].k": 3}, False),
        ({"a": "x", "o.n": 2}, False),
    ],
)
def test_where_chooses_records(where: dict[str, Any], fits: bool) -> None:
    record = {"a": "x", "o": {"n": 1, "b": True}, "l": [{"k": 1}, {"k": 2}], "u": 1, "i": 1, "t": 1}
    fields = {"user_id": "u", "item_id": "i", "timestamp": "t"}
    assert bool(mapped("clicks", record, where=where, fields=fields)) is fits


@pytest.mark.parametrize(
    ("record", "error", "cause"),
    [
        (
            {"product": {"sku": None}},
            "clicks from shop-events: item_id missing: got no value at product.sku, expected one; correct the path",
            "item_id missing at product.sku",
        ),
        (
            {"product": {"id": "a", "cat": "b"}},
            "clicks from shop-events: item_id missing: got no value at product.sku, expected one; correct the path, or "
            "narrow `where`; product has id, cat",
            "item_id missing at product.sku",
        ),
        (
            {"product": None, "lines": [{"sku": "a"}]},
            "clicks from shop-events: item_id missing: got no value at product.sku, expected one; correct the path, or "
            'narrow `where`; the record has lines[].sku: set each = "lines" for one message a member',
            "item_id missing at product.sku",
        ),
        (
            {"product": {"sku": 1.5}},
            "clicks from shop-events: Expected `str`, got `float` - at `$.item_id`; see `afterclick schema clicks` for "
            "what is expected; item_id was read at product.sku: correct the path",
            "item_id: Expected str, got float",
        ),
        (
            {"ts": 1},
            "clicks from shop-events: timestamp: got 1000 ms since the epoch, expected 1990 or later; are these "
            "seconds? An integer time is in milliseconds; timestamp was read at ts: correct the path, or set time_unit "
            '= "s"',
            "timestamp before 1990",
        ),
        ([1], "clicks from shop-events: got a JSON array of 1; send each object as a message of its own", "no object"),
        (b"\x1f\x8b\x08", "shop-events: JSON is malformed", "gzip"),
        (Unreadable("offsets 4 to 6 have a wrong checksum"), "clicks from shop-events: offsets 4 to 6", "unreadable"),
    ],
)
def test_errors_name_the_users_path(record: Any, error: str, cause: str) -> None:
    view = {"eventType": "view", "userId": 5, "product": {"sku": "s1"}, "ts": 1_700_000_000}
    value = (
        record if isinstance(record, bytes) else json.dumps({**view, **record} if record != [1] else record).encode()
    )
    with pytest.raises(BadMessage) as caught:
        accepted(inputs(clicks=VIEWS).read("shop-events", 0, 1, None, value))
    assert str(caught.value).startswith(error)
    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (None, "each: got no value at lines, expected a list or an object"),
        ("x", "each: got 'x' at lines, expected a list or an object"),
        ([{}] * (MAX_MEMBERS + 1), f"each: got {MAX_MEMBERS + 1} members at lines, expected at most"),
        ([{"sku": 1}, {}], r"item_id missing: got no value at sku \(member 1 of lines\)"),
    ],
)
def test_a_record_is_mapped_whole_or_not_at_all(lines: object, error: str) -> None:
    record = {"eventType": "order", "userId": 5, "ts": 1, "lines": lines}
    with pytest.raises(BadMessage, match=f"purchases from shop-events: {error}"):
        inputs(purchases=ORDERS).read("shop-events", 0, 1, None, json.dumps(record).encode())


def test_a_number_is_no_time_where_times_are_texts() -> None:
    with pytest.raises(BadMessage, match="got 5 at t, expected a text as in ISO 8601"):
        click({"u": 1, "i": 1, "t": 5}, time_unit="iso")
