"""Coerce harmless deviations: fit a decoded JSON value to its contract where only one meaning is possible.

| received | becomes | kind |
|---|---|---|
| null for a field with a default, null in a list of names | omitted | null |
| "" for an optional number, id, time or currency; [] for an object | omitted | empty |
| one text for a list of texts | a list of one text (`"Shoes > Men"` stays one category) | single |
| an integer for a text or an id | its digits; a float or a boolean never becomes an id | number-as-text |
| a text of digits for a number (`"89.00"`; no comma, no currency sign) | the number | text-as-number |
| 3.0 for an integer | 3 | float-as-integer |
| 0, 1, "true", "false", "yes", "no" for a boolean | the boolean | boolean |
| "eur" or " EUR" for a currency | EUR | currency |
| a time in another form (`encoders.lenient_time`) | the time | time |

Any other deviation stays as it is, and the contract's own validation rejects it. NaN, infinities and numbers beyond the
range of a float are never accepted. Knows neither Kafka nor metrics: the kinds are returned.
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
OMITTED = object()
"""Stands for a value whose field is omitted."""
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})([eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


class _Context(NamedTuple):
    """The zone of times that name none, and the kinds of the values coerced so far."""

    zone: tzinfo | None
    kinds: list[str]

    def coerced(self, kind: str, value: Any) -> Any:
        self.kinds.append(kind)
        return value


_Fit = Callable[[Any, _Context], Any]


def fit(value: Any, struct: type[msgspec.Struct], zone: tzinfo | None = None) -> tuple[Any, list[str]]:
    """Coerce a decoded JSON value so that `msgspec.convert` accepts it for the struct, where its meaning is plain.

    Parameters
    ----------
    value : object
        Any decoded JSON value.
    struct : type
        The contract.
    zone : tzinfo, optional
        The zone of times that name none. Without it such times stay as they are.

    Returns
    -------
    tuple of object and list of str
        The fitted value, and the kind of each coercion.

    >>> from streams.contracts import Item
    >>> fit({"item_id": 42, "title": "Hat", "brand": None, "price": "89.00"}, Item)
    ({'item_id': '42', 'title': 'Hat', 'price': 89.0}, ['number-as-text', 'null', 'text-as-number'])
    """
    context = _Context(zone, [])
    return _struct(struct)(value, context), context.kinds


@cache
def _struct(struct: type[msgspec.Struct]) -> _Fit:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    fields = {field.encode_name: _field(field) for field in info.fields}

    def fit_object(value: Any, context: _Context) -> Any:
        if not isinstance(value, dict):
            return value
        fitted = {name: fields[name](inner, context) for name, inner in value.items() if name in fields}
        return {name: inner for name, inner in fitted.items() if inner is not OMITTED}

    return fit_object


def _field(field: inspect.Field) -> _Fit:
    types = _members(field.type)
    fit_value = _value(types)
    nullable = any(isinstance(type_, inspect.NoneType) for type_ in types)
    # "" is a valid plain text, and for a boolean it may mean false
    empty: list[Any] = [] if any(_is_name(type_) or isinstance(type_, inspect.BoolType) for type_ in types) else [""]
    empty += [[]] if isinstance(types[0], inspect.DictType) else []

    def fit_field(value: Any, context: _Context) -> Any:
        if not field.required:
            if value is None and not nullable:
                return context.coerced("null", OMITTED)
            if (value.strip() if isinstance(value, str) else value) in empty:
                return context.coerced("empty", OMITTED)
        return fit_value(value, context)

    return fit_field


def _is_name(type_: inspect.Type) -> bool:
    """Whether the type is a text that may be empty. An id may not be empty."""
    return isinstance(type_, inspect.StrType) and not type_.min_length


def _members(type_: inspect.Type) -> list[inspect.Type]:
    if isinstance(type_, inspect.Metadata):
        return _members(type_.type)
    if isinstance(type_, inspect.UnionType):
        return [member for inner in type_.types for member in _members(inner)]
    return [type_]


def _value(types: list[inspect.Type]) -> _Fit:
    """Give the function that fits a value other than null to a field of these types."""
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
    return by_type.get(type(type_), _unchanged)


def _list(items: list[inspect.Type]) -> _Fit:
    fit_item = _value(items)
    [item] = items
    omit_null = _is_name(item)  # in a list of ids an omitted null would shift the positions of the ids behind it

    def fit_list(value: Any, context: _Context) -> Any:
        if isinstance(value, str) and isinstance(item, inspect.StrType):
            return context.coerced("single", [value] if value.strip() else [])
        if not isinstance(value, list):
            return value
        kept = [inner for inner in value if inner is not None] if omit_null else value
        context.kinds.extend(["null"] * (len(value) - len(kept)))
        return [fit_item(inner, context) for inner in kept]

    return fit_list


def _unchanged(value: Any, _: _Context) -> Any:
    return value


def _text(value: Any, context: _Context) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return context.coerced("number-as-text", str(value))
    return value


def _currency(value: Any, context: _Context) -> Any:
    if isinstance(value, str) and (code := value.strip().upper()) != value and len(code) == 3:
        return context.coerced("currency", code)
    return value


def _number(value: Any, context: _Context) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) and math.isfinite(number := float(value)):
        return context.coerced("text-as-number", number)
    return value


def _integer(value: Any, context: _Context) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return context.coerced("float-as-integer", int(value))
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return context.coerced("text-as-number", int(value))
    return value


def _boolean(value: Any, context: _Context) -> Any:
    text = str(value).strip().lower() if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    if text in _TRUE or text in _FALSE:
        return context.coerced("boolean", text in _TRUE)
    return value


def _time(value: Any, context: _Context) -> Any:
    if not isinstance(value, (str, float)) or _is_strict(value):
        return value
    moment = lenient_time(value, context.zone)
    return value if moment is None else context.coerced("time", moment)


def _is_strict(value: str | float) -> bool:
    try:
        msgspec.convert(value, Timestamp)
    except msgspec.ValidationError:
        return False
    return True
