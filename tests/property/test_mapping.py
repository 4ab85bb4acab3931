"""Whatever the mapping: a record that holds a message's values at the mapped paths gives that message back."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.receive.decode import receive
from streams.receive.inputs import Inputs
from streams.receive.keys import key_of_fields
from streams.receive.message import BadMessage, Message
from streams.settings import Settings, TopicsSettings
from streams.settings.mapped_fields import mapped_fields

NOW_MS = 1_800_000_000_000
PER_MS = {"s": 1_000, "ms": 1, "us": 1e-3, "ns": 1e-6}
INPUTS = ("clicks", "purchases", "events", "searches", "impressions", "items", "knowledge", "forget")
texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)
names = st.text("abcdefgh_éß -.$:/", min_size=1, max_size=6).filter(lambda name: name.strip() == name)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "timestamp": st.integers(700_000_000, 1_799_999_999).map(lambda seconds: seconds * 1_000),
    "items": st.lists(texts, min_size=1, max_size=3),
    "categories": st.lists(texts, min_size=1, max_size=3),
    "entities": st.lists(texts, min_size=1, max_size=3),
    "attributes": st.dictionaries(texts, texts, min_size=1, max_size=2),
    "embeddings": st.dictionaries(st.just("image"), st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1),
    "context": st.dictionaries(texts, texts, min_size=1, max_size=2),
    "position": st.integers(0, 99),
    "dwell_ms": st.integers(0, 99),
    "quantity": st.floats(0.5, 9),
    "price": st.floats(0, 99),
    "rating": st.floats(1, 5),
    "best_rating": st.floats(5, 10),
    "results": st.lists(texts, min_size=1, max_size=3),
    "currency": st.sampled_from(["EUR", "USD"]),
    "available": st.booleans(),
    "title": texts.map("T".__add__),  # like a search's text, never blank
    "text": texts.map("T".__add__),
    "head": texts.map("head ".__add__),
}


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An input and a message of its contract."""
    name = draw(st.sampled_from(INPUTS))
    fields = mapped_fields(name)
    given_fields = [field for field in fields if fields[field].required or draw(st.booleans())]
    message = {field: draw(VALUES.get(field, texts)) for field in given_fields}
    if "takes_back" in message:  # a return
        message["quantity"] = -message.get("quantity", 1.0)
    if "propensities" in message:
        message["propensities"] = [0.5] * len(message["items"])
    return name, message


def put(record: dict[str, Any], path: list[str], value: object) -> None:
    """Write a value into a record at a path."""
    for name in path[:-1]:
        record = record.setdefault(name, {})
    record[path[-1]] = value


def quoted(path: list[str]) -> str:
    return ".".join(f'"{name}"' for name in path)


@settings(deadline=None, max_examples=50)
@given(messages(), st.data())
def test_a_mapping_inverts_what_was_mapped(message: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    input_name, expected = message
    unit = data.draw(st.sampled_from([None, *PER_MS]))
    in_member = data.draw(st.booleans())
    record: dict[str, Any] = {"kind": "wanted"}
    member: dict[str, Any] = {}
    paths = {}
    for number, (field, value) in enumerate(expected.items()):
        if field == "timestamp" and unit:
            value = round(value / PER_MS[unit])
        elif field.endswith("_id") and value.isascii() and value.isdigit() and str(int(value)) == value:
            value = int(value)
        home = member if in_member and data.draw(st.booleans()) else record
        outer = data.draw(st.sampled_from([[], ["shared"], ["shared", "in it"]]))
        path = [*outer, *(f"{name}{number}" for name in data.draw(st.lists(names, min_size=1, max_size=2)))]
        put(home, path, value)
        paths[field] = ("$." if in_member and home is record else "") + quoted(path)
    table: dict[str, Any] = {"name": "theirs", "where": {"kind": "wanted"}, "fields": paths}
    if in_member:
        record["members"] = [member]
        table["each"] = "members"
        if "event_id" in expected:
            expected = {**expected, "event_id": f"{expected['event_id']}/0"}
    if unit and "timestamp" in expected:
        table["time_unit"] = unit
    inputs = Inputs(Settings(topics=TopicsSettings.model_validate({input_name: table})))
    (made,) = inputs.read("theirs", 0, 0, None, json.dumps(record).encode())
    key = key_of_fields(input_name, expected) or expected["user_id"].encode()
    own = Message(input_name, 0, 0, key, json.dumps(expected).encode())
    assert receive(made, NOW_MS) == receive(own, NOW_MS)
    assert made.key == key


THEIRS = {"name": "theirs", "fields": {"user_id": "u", "item_id": "i", "timestamp": "t"}}
PREFIXED = Inputs(Settings(topic_prefix="p.", topics=TopicsSettings.model_validate({"clicks": THEIRS})))


@given(st.binary(), st.one_of(st.none(), st.binary()), st.sampled_from([*INPUTS, "rank-requests", "routed-events"]))
def test_a_topic_of_the_contract_passes_through_untouched(value: bytes, key: bytes | None, name: str) -> None:
    assert PREFIXED.read(f"p.{name}", 3, 4, key, value) == [Message(name, 3, 4, key, value)]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("uitcselq"), inner), max_leaves=12
)
TABLES: dict[str, dict[str, Any]] = {
    "clicks": {"fields": {"user_id": "u", "item_id": ["i.i", "i"], "timestamp": "t", "position": "q"}},
    "purchases": {
        "each": ["l", "e"],
        "time_unit": "s",
        "fields": {"user_id": "$.u", "item_id": "@", "timestamp": "t", "quantity": "q", "price": "l[0].q"},
    },
    "impressions": {"fields": {"user_id": "u", "list_id": "c", "items": "l[].i", "timestamp": "t"}},
    "items": {
        "delete": {"e": "*"},
        "category_separator": ">",
        "fields": {
            "item_id": "i",
            "title": "t",
            "categories": ["c", "l[].c", "s[u=1]"],
            "available": "q > 0",
            "attributes": {"c": "c", "s": "s.s"},
            "entities": "e",
        },
    },
    "knowledge": {"each": "l", "fields": {"head": "i", "relation": "t", "tail": "q"}},
}
ALONE = [
    Inputs(Settings(topics=TopicsSettings.model_validate({name: {"name": "t", **table}})))
    for name, table in TABLES.items()
]
CALLED = st.fixed_dictionaries({}, optional=dict.fromkeys("uitcselq", ANYTHING))


@settings(deadline=None, max_examples=40)
@example(b'{"u": 1, "i": 1, "t": 1, "q": 1000000000000000000000000000000}', b"")
@given(st.one_of(ANYTHING, CALLED).map(lambda value: json.dumps(value).encode()) | st.binary(), st.binary())
def test_a_record_is_mapped_or_rejected_whatever_it_holds(value: bytes, key: bytes) -> None:
    for inputs in ALONE:
        for sent in (value, None):
            with contextlib.suppress(BadMessage):
                for message in inputs.read("t", 0, 0, key, sent):
                    receive(message, NOW_MS)
