"""Look up the paths of a mapping in a decoded record, and convert what is found to what the contract takes.

None stands for no value: the path leads nowhere, or to null, or to an empty text. A value that cannot be converted
stays as it is, and the contract's own validation rejects it. Knows no mapping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streams.settings.record_path import Condition, Member, RecordPath, Step

Lookup = Callable[[Any, Any], Any]
"""From a member of `each` and its record (without `each` twice the record) to a value, or None."""
ANY = "*"
"""In `where`: any value. The path leads to something, and not to null or an empty text."""
_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{0,19})?")
_DECIMAL_COMMA = re.compile(r"[+-]?([0-9]{1,3}([. \u00a0\u202f][0-9]{3})+|[0-9]{1,300})(,[0-9]{1,300})?")
_LARGEST = 2**62
_EXACT = 2**53
_FALSE = ("false", "no", "0")
_UNITS_PER_MS = {"us": 1_000, "ns": 1_000_000}


def lookup(path: RecordPath, each: bool) -> Lookup:
    """Compile a path. With `each` the value is looked up in the member first, then in the record.

    >>> from streams.settings.record_path import parse
    >>> lookup(parse("a[].b"), each=False)({"a": [{"b": 5}, {}, {"b": 6}]}, None)
    [5, 6]
    >>> lookup(parse("id"), each=True)({"sku": "s"}, {"id": 7})
    7
    """
    find = _find(path.steps)
    if path.in_record:
        return lambda _, record: find(record, record)
    if not each or not path.steps:
        return find

    def find_in_both(member: Any, record: Any) -> Any:
        value = find(member, record)
        return find(record, record) if value is None else value

    return find_in_both


def _find(steps: Sequence[Step]) -> Lookup:
    """Compile steps to a function of what they start from; its second argument makes it a `Lookup`."""
    if None in steps:
        cut = steps.index(None)
        members, inner = _find(steps[:cut]), _find(steps[cut + 1 :])
        return lambda start, _: _every(members(start, start), inner)

    def find_by_names(start: Any, _: Any) -> Any:
        for name in steps:
            if type(start) is not dict:
                return None
            start = start.get(name)
        return None if start == "" else start

    def find(start: Any, _: Any) -> Any:
        for step in steps:
            if type(step) is str:
                start = start.get(step) if type(start) is dict else None
            elif type(start) is list:
                start = _member(start, step)
            else:
                return None
        return None if start == "" else start

    return find_by_names if all(type(step) is str for step in steps) else find


def _member(members: list[Any], step: Step) -> Any:
    if isinstance(step, int):
        return members[step] if -len(members) <= step < len(members) else None
    assert isinstance(step, Member)
    return next((member for member in members if type(member) is dict and equals(member.get(step.name), step[1])), None)


def _every(members: Any, inner: Lookup) -> Any:
    """Collect the values in all members of a list, flat. None if there are members, but none has a value."""
    if type(members) is not list:
        return None
    return flat(inner(member, member) for member in members) or (None if members else [])


def flat(values: Iterable[Any]) -> list[Any]:
    """Join lists and single values to one list, without those that are missing."""
    joined: list[Any] = []
    for value in values:
        if type(value) is list:
            joined.extend(member for member in value if member is not None and member != "")
        elif value is not None:
            joined.append(value)
    return joined


def payload(record: Any) -> Any:
    """Return what Kafka Connect's JSON converter wraps with its schema; any other record as it is."""
    if type(record) is dict and len(record) == 2 and "schema" in record and "payload" in record:
        return record["payload"]
    return record


def equals(value: Any, text: str) -> bool:
    """Tell whether a value is written so: a text, an integer, or a boolean as `true` and `false`."""
    if type(value) is bool:
        return text == ("true" if value else "false")
    return bool(value == text) or (type(value) is int and str(value) == text)


def id_at(find: Lookup) -> Lookup:
    """Read an id. A whole number becomes text: many systems have numeric ids."""

    def read(member: Any, record: Any) -> Any:
        value = find(member, record)
        return value if type(value) is str else _as_id(value)

    return read


def _as_id(value: Any) -> Any:
    """Write a whole number as text, also one that a tool wrote as a float, as long as a float holds it exactly.

    >>> _as_id(48213), _as_id(48213.0), _as_id(0.5), _as_id(2.0**53)
    ('48213', '48213', 0.5, 9007199254740992.0)
    """
    if type(value) is float and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    return str(value) if type(value) is int else value


def as_ids(values: Any) -> Any:
    """Write the whole numbers in a list of ids as text."""
    return [_as_id(value) for value in values] if type(values) is list else values


def has_value(find: Lookup, values: Sequence[Any], is_list: bool) -> Callable[[Any], bool]:
    """Compile a test of a record: whether one of the values, or `ANY`, is at a path. Of a list one member is enough."""
    texts = {value for value in values if type(value) is str}
    others = [value for value in values if type(value) is not str]

    def is_one(found: Any) -> bool:
        if type(found) is str and found in texts:
            return True
        if ANY in texts and found is not None:
            return True
        return any(found == other and (type(found) is bool) == (type(other) is bool) for other in others)

    if is_list:
        return lambda record: any(map(is_one, find(record, record) or ()))
    return lambda record: is_one(find(record, record))


def as_texts(value: Any, separator: str) -> Any:
    """Split a text at its separator into a list; without a separator it stays one text of the list.

    >>> as_texts("Women > Shoes", ">"), as_texts(["Women > Shoes", "New"], ">")
    (['Women', 'Shoes'], ['Women', 'Shoes', 'New'])
    """
    texts = value if type(value) is list else [value]
    if not separator:
        return texts
    return flat(
        [part for part in map(str.strip, text.split(separator)) if part] if type(text) is str else text
        for text in texts
    )


def as_milliseconds(value: Any, unit: str) -> Any:
    """Convert a number, or a text of digits, in this unit to milliseconds. Any other text stays: it names its time.

    >>> as_milliseconds(1_700_000_000.5, "s"), as_milliseconds("1700000000000000", "us")
    (1700000000500, 1700000000000)
    """
    if type(value) is str and _NUMBER.fullmatch(value):
        value = float(value) if "." in value else int(value)
    if type(value) not in (int, float) or abs(value) > _LARGEST:
        return value
    if unit == "s":
        return round(value * 1_000)
    return round(value) if unit == "ms" else int(value // _UNITS_PER_MS[unit])


def with_decimal_point(value: Any) -> Any:
    """Write a text that is a number with a decimal comma as one with a point, without what is between thousands.

    >>> [with_decimal_point(text) for text in ("59,90", "-1.234,50", "1.234", "9.5", "5,90 EUR")]
    ['59.90', '-1234.50', '1234', '9.5', '5,90 EUR']
    """
    if type(value) is not str or not _DECIMAL_COMMA.fullmatch(text := value.strip()):
        return value
    return re.sub(r"[^0-9,+-]", "", text).replace(",", ".")


def as_boolean(value: Any, condition: Condition) -> Any:
    """Evaluate what a boolean is read from. Without a value only `not` gives one: what is not there is not so."""
    if condition.sign == "not":
        return not value if type(value) is not str else value.strip().lower() in _FALSE
    if value is None or not condition.sign:
        return value
    if condition.sign == "=":
        return equals(value, condition.operand)
    if type(value) is str and _NUMBER.fullmatch(value):
        value = float(value)
    return value > float(condition.operand) if type(value) in (int, float) else value
