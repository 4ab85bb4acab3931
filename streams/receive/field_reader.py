"""Compile where a field of the contract is in a record, to a function that reads it.

The paths say where, the kind of the field says what is made of the value. Knows no topic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from streams.receive import record_values
from streams.receive.message import BadMessage
from streams.receive.record_values import Lookup
from streams.settings.mapped_fields import MappedField
from streams.settings.record_path import RecordPath, parse, parse_condition
from streams.settings.topics import Paths, TopicSource


class FieldReader(NamedTuple):
    """A field of the contract, compiled.

    Attributes
    ----------
    name : str
        The field.
    required : bool
        A message without it is rejected.
    read : callable
        From a member of `each` and its record to the value, or to None.
    place : str
        The paths, in words.
    """

    name: str
    required: bool
    read: Lookup
    place: str


def field_reader(name: str, field: MappedField, paths: Paths, source: TopicSource, title: str) -> FieldReader:
    """Compile one field.

    Parameters
    ----------
    name : str
        The field.
    field : MappedField
        Its kind.
    paths : str, tuple of str or dict
        Where it is: one path, several, or names of an object with a path each.
    source : TopicSource
        Its other settings.
    title : str
        The input and the topic, for errors.
    """
    return FieldReader(name, field.required, _read(field, name, paths, source, title), place_of(paths))


def place_of(paths: Paths) -> str:
    """Name the paths, for errors."""
    return ", ".join(paths.values()) if isinstance(paths, dict) else " or ".join(texts_of(paths))


def texts_of(paths: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return one path or several as a tuple; an empty text is none."""
    return ((paths,) if paths else ()) if isinstance(paths, str) else paths


def _read(field: MappedField, name: str, paths: Paths, source: TopicSource, title: str) -> Lookup:
    each = bool(source.each)
    if isinstance(paths, dict):
        return _object({inner: _first((parse(path),), each) for inner, path in paths.items()})
    if field.kind == "boolean":
        condition = parse_condition(texts_of(paths)[0])
        find = _first((condition.path,), each)
        return lambda member, record: record_values.as_boolean(find(member, record), condition)
    parsed = tuple(map(parse, texts_of(paths)))
    find = _all(parsed, each) if field.kind == "texts" else _first(parsed, each)
    if field.kind == "id":
        return record_values.id_at(find)
    separator = source.category_separator if name == "categories" else ""
    converters: dict[str, Callable[[Any], Any]] = {
        "ids": record_values.as_ids,
        "texts": lambda value: record_values.as_texts(value, separator),
    }
    if source.decimal_comma:
        converters["number"] = record_values.with_decimal_point
    if source.time_unit:
        converters["time"] = _time(source.time_unit, f"{title}: {name}", place_of(paths))
    return _converted(find, converters[field.kind]) if field.kind in converters else find


def _first(paths: tuple[RecordPath, ...], each: bool) -> Lookup:
    """Read the first of the paths that has a value."""
    finds = [record_values.lookup(path, each) for path in paths]
    if len(finds) == 1:
        return finds[0]

    def read(member: Any, record: Any) -> Any:
        for find in finds:
            if (value := find(member, record)) is not None:
                return value
        return None

    return read


def _all(paths: tuple[RecordPath, ...], each: bool) -> Lookup:
    """Read all values at all of the paths, as one list."""
    finds = [record_values.lookup(path, each) for path in paths]
    if len(finds) == 1:
        return finds[0]
    return lambda member, record: record_values.flat(find(member, record) for find in finds) or None


def _object(reads: dict[str, Lookup]) -> Lookup:
    def read(member: Any, record: Any) -> Any:
        found = {name: value for name, find in reads.items() if (value := find(member, record)) is not None}
        return found or None

    return read


def _converted(find: Lookup, convert: Callable[[Any], Any]) -> Lookup:
    def read(member: Any, record: Any) -> Any:
        value = find(member, record)
        return None if value is None else convert(value)

    return read


def _time(unit: str, title: str, place: str) -> Callable[[Any], Any]:
    """Convert a time of this unit; a number is no time where times are texts."""
    if unit != "iso":
        return lambda value: record_values.as_milliseconds(value, unit)

    def check(value: Any) -> Any:
        if type(value) is not str:
            error = f"{title}: got {value!r} at {place}, expected a text as in ISO 8601, because time_unit is iso"
            raise BadMessage("time", f"{error}; set the unit of your numbers", f"{title}: no text at {place}")
        return value

    return check
