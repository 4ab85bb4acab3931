"""A mapping to start from: recognise the contract's fields by their usual names in a survey of records.

A proposal is a guess that a person has to read. Pure: knows no Kafka and no terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from streams.commands.mapping.survey import FoundField, survey
from streams.receive.record_values import payload
from streams.settings.mapped_fields import mapped_fields

UNKNOWN = "…"
"""Stands for a path that nobody but the user can name."""
NAMES: dict[str, tuple[str, ...]] = {
    "event_id": ("eventid", "messageid", "eventuuid", "insertid", "uuid"),
    "user_id": (
        *("userid", "customerid", "visitorid", "memberid", "accountid", "shopperid", "clientid", "profileid"),
        *("anonymousid", "deviceid", "uid", "user", "customer", "visitor"),
    ),
    "item_id": (
        "itemid",
        "productid",
        "sku",
        "skuid",
        "articleid",
        "contentid",
        "variantid",
        "asin",
        "item",
        "product",
    ),
    "timestamp": (
        *("timestamp", "ts", "eventtime", "eventtimestamp", "occurredat", "originaltimestamp", "createdat"),
        *("updatedat", "time", "datetime", "date"),
    ),
    "session_id": ("sessionid", "session"),
    "quantity": ("quantity", "qty", "units"),
    "price": ("price", "unitprice"),
    "currency": ("currency", "currencycode"),
    "title": ("title", "name", "productname", "itemname"),
    "description": ("description", "desc", "longdescription", "shortdescription", "summary"),
    "brand": ("brand", "vendor", "manufacturer"),
    "categories": ("categories", "category", "producttype"),
    "image": ("image", "imageurl"),
    "available": ("available", "isavailable", "instock", "stock", "stocklevel", "inventory", "availablequantity"),
}
"""Field of the contract -> the names that others give it, in small letters without separators, the surest first."""
ORDERS = ("orderid", "transactionid", "ordernumber", "orderno", "invoiceno")
"""Names of the id of an order: the `event_id` of its purchases, where they have none of their own."""
SEPARATORS = (">", "|", "/")
"""What may stand between the categories of one text."""
KINDS = ("eventtype", "eventname", "event", "type", "action", "activity", "interaction", "kind")
"""Names of the field that tells what a record of a mixed topic is."""
WORDS = {
    "forget": r"forget|forgotten|erase|gdpr",
    "purchases": r"purchase|order|buy|bought|transaction|sale",
    "clicks": r"click|view|detail|open|select",
    "impressions": r"impression|shown|displayed",
}
_NOT_THESE = re.compile(r"cancel|refund|return|fail|remove|add|cart|wish|start|list|page|search", re.IGNORECASE)
_MS = range(10**11, 10**14)


def propose(topic: str, records: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Return input -> a table of settings for the records of a topic; empty if nothing is recognised.

    Parameters
    ----------
    topic : str
        The topic's full name.
    records : sequence of object
        Decoded from JSON.
    """
    objects = [one for record in records if isinstance(one := payload(record), dict)]
    rows = [row for one in objects if isinstance(row := one.get("after") or one.get("before"), dict) and "op" in one]
    if rows and len(rows) == len(objects) and "items" in (of_rows := propose(topic, rows)):
        return {"items": {"profile": "debezium", **of_rows["items"]}}
    found = survey(objects)
    kind = next((one for name in KINDS for one in found if _last(one.path) == name and _tells(one)), None)
    if kind is None:
        fields = _recognised(found)
        name = "clicks" if "user_id" in fields else "items" if "title" in fields else ""
        if name == "clicks" and {"price", "quantity"} <= fields.keys():
            name = "purchases"
        return {name: _table(topic, name, found)} if name and "item_id" in fields | _plain_id(name, found) else {}
    proposed = {}
    for name, values in _kinds(kind).items():
        of_kind = survey([record for record in objects if _value(record, kind.path) in values])
        where = {"where": {kind.path: values[0] if len(values) == 1 else values}}
        proposed[name] = {"name": topic, **where, **_table(topic, name, of_kind)}
    return proposed


def _tells(one: FoundField) -> bool:
    return (
        not re.search(r'[\["]', one.path) and all(isinstance(value, str) for value in one.values) and bool(_kinds(one))
    )


def _kinds(one: FoundField) -> dict[str, list[str]]:
    """Return input -> the values of this field that name it."""
    kinds: dict[str, list[str]] = {}
    for value in map(str, one.values):
        name = next((name for name, words in WORDS.items() if re.search(words, value, re.IGNORECASE)), None)
        if name and not _NOT_THESE.search(value):
            kinds.setdefault(name, []).append(value)
    return kinds


def _table(topic: str, name: str, found: Sequence[FoundField]) -> dict[str, Any]:
    """Return the table of one input."""
    fields = _plain_id(name, found) | _recognised(found)
    each = ""
    if name in ("clicks", "purchases") and "[]." in (path := fields.get("item_id", "")):
        each = path.partition("[].")[0]
    known = mapped_fields(name)
    if name == "purchases" and "event_id" not in fields:
        fields |= _order_id(found)
    paths = {
        field: path.removeprefix(f"{each}[].") if each else path
        for field, path in fields.items()
        if field in known and ("[]" not in path or path.startswith(f"{each}[].") or known[field].kind == "texts")
    }
    required = {field: UNKNOWN for field, what in known.items() if what.required and field != "event_id"}
    table: dict[str, Any] = {"name": topic} | ({"each": each} if each else {})
    examples = {one.path: list(one.values) for one in found}
    if _is_number(examples.get(paths.get("available", ""), [""])):
        paths["available"] += " > 0"
    table["fields"] = required | {
        field: paths[field] if what.kind == "boolean" else _or_in_envelope(paths[field], examples)
        for field, what in known.items()
        if field in paths
    }
    if separator := _separator(examples.get(paths.get("categories", ""), [])):
        table["category_separator"] = separator
    times = next((one for one in found if one.path == fields.get("timestamp")), None)
    if "timestamp" in paths and times and (unit := _unit(times.example)):
        table["time_unit"] = unit
    return table


def _recognised(found: Sequence[FoundField]) -> dict[str, str]:
    """Return field of the contract -> the path that is called like it: by name, then by records, then by depth."""
    fields: dict[str, str] = {}
    for field, names in NAMES.items():
        ranked = [
            (names.index(name), -one.records, one.path.count("."), one.path)
            for one in found
            for name in (_last(one.path), _last_two(one.path))
            if name in names
        ]
        if ranked:
            fields[field] = min(ranked)[-1]
    return fields


def _plain_id(name: str, found: Sequence[FoundField]) -> dict[str, str]:
    """Return what a field `id` of the record itself is: of a catalogue the item, of events the event."""
    has_id = any(one.path == "id" for one in found)
    if not has_id or "event_id" in _recognised(found):
        return {}
    return {"item_id" if name == "items" else "event_id": "id"}


def _order_id(found: Sequence[FoundField]) -> dict[str, str]:
    """Return the path of the id of an order, in the record itself before elsewhere."""
    paths = [one.path for one in found if "[]" not in one.path and {_last(one.path), _last_two(one.path)} & {*ORDERS}]
    return {"event_id": min(paths, key=lambda path: path.count("."))} if paths else {}


def _or_in_envelope(path: str, examples: Mapping[str, Any]) -> str | list[str]:
    """Add where the field is in a record that Debezium wrote, if the topic has both kinds of records."""
    inside = f"after.{path}"
    return [path, inside] if inside in examples else path


def _is_number(values: Sequence[Any]) -> bool:
    """Tell whether all values are numbers, as a number of pieces is."""
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _separator(values: Sequence[Any]) -> str:
    """Return what most of the texts are separated by; "" for nothing."""
    texts = [value for value in values if isinstance(value, str)]
    return next((one for one in SEPARATORS if sum(one in text for text in texts) * 2 > len(texts)), "")


def _unit(value: object) -> str:
    """Return the unit of a time; "" where it need not be told."""
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return ""
    number = int(float(text))
    if number in _MS:
        return "" if isinstance(value, int) else "ms"
    return "s" if number < _MS.start else "us" if number < 10**17 else "ns"


def _last(path: str) -> str:
    return _plain(path.rpartition(".")[2])


def _last_two(path: str) -> str:
    return _plain("".join(path.split(".")[-2:]))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _value(record: Any, path: str) -> Any:
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def as_toml(proposed: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables as TOML."""
    return "\n".join(
        "\n".join([f"[topics.{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""])
        for name, table in proposed.items()
    )


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
