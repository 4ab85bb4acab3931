"""Check the tables of the team's own topics, so that a wrong mapping stops the start.

Each mistake is one line: what, got, expected, what to do. Knows no record.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streams.contracts import TOPICS
from streams.settings.group import TOPIC_LETTERS
from streams.settings.mapped_fields import MappedField, mapped_fields
from streams.settings.profile import over_profile
from streams.settings.record_path import parse, parse_condition

MAX_NAME = 200
"""Characters of a topic's name; chosen by us: `topic/partition/offset/index`, the default event_id, has 256 bytes."""
MAX_TYPE = 64
"""Characters of the name of a type of event, as in the contract."""
TIME_UNITS = ("s", "ms", "us", "ns", "iso")
_KEYS = (
    "name", "profile", "where", "delete", "fields", "constants", "time_unit", "decimal_comma", "each",
    "category_separator", "types", "weights",
)  # fmt: skip
_DEFAULTED = {"event_id"}
"""Required fields that a mapping fills if the record has none."""


def check_tables(input_name: str, tables: Sequence[object]) -> tuple[list[dict[str, Any]], list[str]]:
    """Merge the tables of one input with their profiles, and list what is wrong with them.

    Returns
    -------
    tuple of list of dict and list of str
        The complete tables, and one line for each mistake.
    """
    complete, problems, seen = [], list[str](), list[tuple[object, object]]()
    for table in tables:
        if not isinstance(table, Mapping):
            problems.append(f'got {table!r}, expected a table such as {{ name = "shop-events", fields = {{ … }} }}')
            continue
        merged, wrong = check_table(input_name, table)
        complete.append(merged)
        problems += wrong
        if (key := (merged.get("name"), merged.get("where", {}))) in seen:
            problems.append(f"{key[0]}: got two tables with the same `where`, expected one; take one out")
        seen.append(key)
    return complete, problems


def check_table(input_name: str, table: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Merge one table with its profile, and list what is wrong with it.

    Returns
    -------
    tuple of dict and list of str
        The complete table, and one line for each mistake.
    """
    merged = {key: value for key, value in table.items() if value is not None}  # JSON has null, which unsets
    title, problems = merged.get("name", f"[topics.{input_name}]"), [*_shape(merged)]
    if not problems:
        try:
            merged = over_profile(merged, input_name)
        except ValueError as error:
            problems = [f"profile: {error}; correct it, or write the mapping yourself"]
        else:
            problems = [*_fields(input_name, merged), *_constants(input_name, merged), *_places(input_name, merged)]
    return merged, [f"{title}: {problem}" for problem in problems]


def values_of(value: Any) -> tuple[Any, ...]:
    """Return one value or several as a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _shape(table: Mapping[str, Any]) -> Iterator[str]:
    """Check names and types of the table's own keys."""
    for key in table:
        if key not in _KEYS:
            yield f"{key}: got a setting that does not exist, expected one such as {_close(key, _KEYS)}; rename it"
    name = table.get("name")
    if not isinstance(name, str) or not re.fullmatch(f"{TOPIC_LETTERS}{{1,{MAX_NAME}}}", name):
        yield (
            f"name: got {name!r}, expected the topic's name in Kafka: letters, digits, '.', '_' and '-', at most "
            f"{MAX_NAME}; correct it"
        )
    for key in ("where", "delete", "fields", "constants", "types", "weights"):
        if not isinstance(table.get(key, {}), Mapping):
            yield f"{key}: got {table[key]!r}, expected a table; write {key} = {{ … }}"
    if (unit := table.get("time_unit")) not in (None, *TIME_UNITS):
        yield f"time_unit: got {unit!r}, expected one of {', '.join(TIME_UNITS)}; correct it"
    if not isinstance(decimal_comma := table.get("decimal_comma", False), bool):
        yield f"decimal_comma: got {decimal_comma!r}, expected true or false; correct it"
    if not isinstance(separator := table.get("category_separator", ""), str):
        yield f"category_separator: got {separator!r}, expected a text; correct it"


def _places(input_name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Check the paths of `each`, `where` and `delete`, and the values that these compare with."""
    for path in values_of(table.get("each") or ()):
        yield from _path("each", path)
    for key in ("delete", "category_separator"):
        if table.get(key) and input_name != "items":
            yield f"{key}: got it for {input_name}, expected it for items only; take it out"
    for key in ("types", "weights"):
        if table.get(key) and input_name != "events":
            yield f"{key}: got it for {input_name}, expected it for events only; take it out"
    for name, weight in table.get("weights", {}).items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            yield f"weights.{name}: got {weight!r}, expected a number; correct it"
    for name, ours in table.get("types", {}).items():
        if not isinstance(ours, str) or not 0 < len(ours) <= MAX_TYPE:
            yield f"types.{name}: got {ours!r}, expected the name of a type, 1 to {MAX_TYPE} characters; correct it"
    for key, field in (("time_unit", "timestamp"), ("category_separator", "categories")):
        if table.get(key) and field in mapped_fields(input_name) and not table.get("fields", {}).get(field):
            yield f"{key}: got it without a {field}, expected {field} in fields; add it, or take {key} out"
    for key in ("where", "delete"):
        for path, value in table.get(key, {}).items():
            yield from _path(key, path)
            values = values_of(value)
            if not values or not all(isinstance(member, (str, int, float)) for member in values):
                yield f"{key}.{path}: got {value!r}, expected a text, a number or a boolean, or a list of them"


def _fields(input_name: str, table: Mapping[str, Any]) -> Iterator[str]:
    known, fields = mapped_fields(input_name), table.get("fields", {})
    for name, path in fields.items():
        if name not in known:
            yield _unknown(f"fields.{name}", name, path, input_name)
            continue
        if path != "":
            yield from _field_path(f"fields.{name}", path, known[name])
    given = {name for name, path in fields.items() if path} | table.get("constants", {}).keys()
    for name, field in known.items():
        if field.required and name not in given and name not in _DEFAULTED:
            yield f'fields: got no {name}, expected where it is in your record; add {name} = "…" to fields'


def _field_path(where: str, path: Any, field: MappedField) -> Iterator[str]:
    if isinstance(path, Mapping) and field.kind == "object":
        for name, inner in path.items():
            yield from _path(f"{where}.{name}", inner)
    elif field.kind == "boolean":
        yield from _path(where, path, parse_condition)
    else:
        for one in values_of(path):
            yield from _path(where, one)


def _path(where: str, path: Any, parser: Callable[[str], object] = parse) -> Iterator[str]:
    if not isinstance(path, str):
        yield f"{where}: got {path!r}, expected a path such as product.sku; correct it"
        return
    try:
        parser(path)
    except ValueError as error:
        yield f"{where}: got {path!r}, expected {error}; correct it"


def _constants(input_name: str, table: Mapping[str, Any]) -> Iterator[str]:
    types = {field.name: field.type for field in msgspec.structs.fields(TOPICS[input_name])}
    for name, value in table.get("constants", {}).items():
        if name not in types:
            yield _unknown(f"constants.{name}", name, value, input_name)
            continue
        if name == ("item_id" if input_name == "items" else "event_id"):
            yield f"constants.{name}: got {value!r}, expected none: all messages would be the same one; take it out"
            continue
        try:
            msgspec.convert(value, types[name])
        except msgspec.ValidationError as error:
            yield f"constants.{name}: got {value!r}, but {str(error).replace('`', '')}; correct it"


def _unknown(where: str, name: str, path: Any, input_name: str) -> str:
    known = mapped_fields(input_name)
    if isinstance(path, str) and path in known:
        return f'{where}: got the field on the right, expected it on the left; write {path} = "{name}"'
    return f"{where}: got a field that {input_name} do not have, expected one such as {_close(name, known)}; rename it"


def _close(name: str, names: Collection[str]) -> str:
    return (difflib.get_close_matches(name, names, n=1) or [", ".join(names)])[0]
