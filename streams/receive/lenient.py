"""Take what is harmless in a message: fit a decoded JSON value to its contract where only one meaning is possible.

| found | becomes | kind |
|---|---|---|
| null for a field with a default, null in a list of names | left out | null |
| "" for an optional number, id, time or currency; [] for an object | left out | empty |
| one text for a list of texts | a list of one (`"Shoes > Men"` stays one category) | single |
| an integer for a text or an id | its digits; no float and no boolean is an id | number-as-text |
| digits for a number, as text (`"89.00"`, no comma, no sign of a currency) | the number | text-as-number |
| 3.0 for an integer | 3 | float-as-integer |
| 0, 1, "true", "false", "yes", "no" for a boolean | the boolean | boolean |
| "eur" or " EUR" for a currency | EUR | currency |
| a time in another form (`encoders.lenient_time`) | the time | time |

Whatever else is wrong is left as it is, for the contract's own check to refuse. NaN, infinities and numbers beyond a
float never get through. Knows neither Kafka nor metrics: kinds are returned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import tzinfo
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from encoders.lenient_time import lenient_time
from streams.contracts import Timestamp

KINDS = (
    "null", "empty", "single", "number-as-text", "text-as-number", "float-as-integer", "boolean", "currency", "time",
)  # fmt: skip
LEAVE_OUT = object()
"""In the place of a value: its field, or its place in the list, goes."""
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})([eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


class _Into(NamedTuple):
    """Where values are fitted: the zone of times without one, and the kinds met so far."""

    zone: tzinfo | None
    kinds: list[str]

    def met(self, kind: str, value: Any) -> Any:
        self.kinds.append(kind)
        return value


_Fit = Callable[[Any, _Into], Any]


def fit(value: Any, struct: type[msgspec.Struct], zone: tzinfo | None = None) -> tuple[Any, list[str]]:
    """Give a value that `msgspec.convert` takes for the struct where the one given is harmless, and the kinds met.

    >>> from streams.contracts import Item
    >>> fit({"item_id": 42, "title": "Hat", "brand": None, "price": "89.00"}, Item)
    ({'item_id': '42', 'title': 'Hat', 'price': 89.0}, ['number-as-text', 'null', 'text-as-number'])
    """
    into = _Into(zone, [])
    return _struct(struct)(value, into), into.kinds


@cache
def _struct(struct: type[msgspec.Struct]) -> _Fit:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    fields = {field.encode_name: _field(field) for field in info.fields}

    def fit_object(value: Any, into: _Into) -> Any:
        if not isinstance(value, dict):
            return value
        fitted = {name: fields[name](inner, into) for name, inner in value.items() if name in fields}
        return {name: inner for name, inner in fitted.items() if inner is not LEAVE_OUT}

    return fit_object


def _field(field: inspect.Field) -> _Fit:
    types = _members(field.type)
    fit_value = _value(types)
    nullable = any(isinstance(type_, inspect.NoneType) for type_ in types)
    # "" is a value of a plain text, and of a boolean it may mean false
    nothing: list[Any] = [] if any(_is_name(type_) or isinstance(type_, inspect.BoolType) for type_ in types) else [""]
    nothing += [[]] if isinstance(types[0], inspect.DictType) else []

    def fit_field(value: Any, into: _Into) -> Any:
        if not field.required:
            if value is None and not nullable:
                return into.met("null", LEAVE_OUT)
            if (value.strip() if isinstance(value, str) else value) in nothing:
                return into.met("empty", LEAVE_OUT)
        return fit_value(value, into)

    return fit_field


def _is_name(type_: inspect.Type) -> bool:
    """A text that may be empty, unlike an id."""
    return isinstance(type_, inspect.StrType) and not type_.min_length


def _members(type_: inspect.Type) -> list[inspect.Type]:
    if isinstance(type_, inspect.Metadata):
        return _members(type_.type)
    if isinstance(type_, inspect.UnionType):
        return [member for inner in type_.types for member in _members(inner)]
    return [type_]


def _value(types: list[inspect.Type]) -> _Fit:
    """What fits a value to a field of these types; null is no matter of it."""
    if any(isinstance(type_, inspect.DateTimeType) for type_ in types):
        return _time
    [type_] = [member for member in types if not isinstance(member, inspect.NoneType)]
    if isinstance(type_, inspect.StructType):
        return _struct(type_.cls)
    if isinstance(type_, inspect.ListType):
        return _list(_members(type_.item_type))
    if isinstance(type_, inspect.StrType):
        return _currency if type_.max_length == 3 else _text
    by_type: dict[type[inspect.Type], _Fit] = {
        inspect.FloatType: _number,
        inspect.IntType: _integer,
        inspect.BoolType: _boolean,
    }
    return by_type.get(type(type_), _as_it_is)


def _list(items: list[inspect.Type]) -> _Fit:
    fit_item = _value(items)
    [item] = items
    names = _is_name(item)  # among ids, one that is left out would move those behind it

    def fit_list(value: Any, into: _Into) -> Any:
        if isinstance(value, str) and isinstance(item, inspect.StrType):
            return into.met("single", [value] if value.strip() else [])
        if not isinstance(value, list):
            return value
        kept = [inner for inner in value if inner is not None] if names else value
        into.kinds.extend(["null"] * (len(value) - len(kept)))
        return [fit_item(inner, into) for inner in kept]

    return fit_list


def _as_it_is(value: Any, _: _Into) -> Any:
    return value


def _text(value: Any, into: _Into) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return into.met("number-as-text", str(value))
    return value


def _currency(value: Any, into: _Into) -> Any:
    if isinstance(value, str) and (better := value.strip().upper()) != value and len(better) == 3:
        return into.met("currency", better)
    return value


def _number(value: Any, into: _Into) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) and math.isfinite(number := float(value)):
        return into.met("text-as-number", number)
    return value


def _integer(value: Any, into: _Into) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return into.met("float-as-integer", int(value))
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return into.met("text-as-number", int(value))
    return value


def _boolean(value: Any, into: _Into) -> Any:
    written = str(value).strip().lower() if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    if written in _TRUE or written in _FALSE:
        return into.met("boolean", written in _TRUE)
    return value


def _time(value: Any, into: _Into) -> Any:
    if not isinstance(value, (str, float)) or _is_plain(value):
        return value
    moment = lenient_time(value, into.zone)
    return value if moment is None else into.met("time", moment)


def _is_plain(value: str | float) -> bool:
    try:
        msgspec.convert(value, Timestamp)
    except msgspec.ValidationError:
        return False
    return True
