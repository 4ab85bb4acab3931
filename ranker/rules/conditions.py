"""Conditions on the fields of an item, and on the context of a request.

Values are compared as texts: 12, 12.0 and "12" are equal, and so are true and "true". A field may hold several values;
one of them has to match. A field that an item does not have matches nothing. Knows no file and no list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from encoders.event_time import milliseconds

FIELDS = (
    "item_id",
    "title",
    "description",
    "categories",
    "brand",
    "price",
    "currency",
    "attributes",
    "image",
    "entities",
    "provider",
    "domain",
    "group_id",
    "timestamp",
)
"""The fields of an item that a condition may name; those inside `attributes` as `attributes.colour`."""
DAY_MS = 86_400_000
AGE, TIME = "age_days", "timestamp"
"""A condition on items, on the days since their `timestamp`; and that field."""
REFERENCE = "$context."
"""A text that begins so stands for the value of this key of the context."""

Values = tuple[str, ...]
Read = Callable[[str], Values]
"""Gives the values of a field."""


@dataclass(frozen=True)
class Test:
    """One condition: a field has one of some values, or lies between two numbers.

    Attributes
    ----------
    any_of : tuple of str
        Texts, or references to the context. Empty for a condition on numbers.
    low, high : str, optional
        A number as a text, or a reference to the context.
    """

    __test__ = False

    any_of: Values = ()
    low: str | None = None
    high: str | None = None

    @property
    def references(self) -> set[str]:
        """The keys of the context that the condition needs."""
        given = (*self.any_of, self.low or "", self.high or "")
        return {text.removeprefix(REFERENCE) for text in given if text.startswith(REFERENCE)}

    def bound(self, context: Mapping[str, Any]) -> BoundTest:
        """Return the condition with the values of a context, which has every key that the condition refers to."""
        if self.any_of:
            return BoundTest(frozenset(value for text in self.any_of for value in _resolved(text, context)), 0.0, 0.0)
        low, high = _bound(self.low, context, -float("inf")), _bound(self.high, context, float("inf"))
        return BoundTest(None, low, high)


class BoundTest(NamedTuple):
    """A condition without references: `any_of` are texts; None for a condition on numbers."""

    any_of: frozenset[str] | None
    low: float
    high: float

    def holds(self, values: Values) -> bool:
        """Return whether one of the values fulfils the condition."""
        if self.any_of is not None:
            return not self.any_of.isdisjoint(values)
        return any(self.low <= number <= self.high for number in map(as_number, values) if number is not None)


Conditions = Mapping[str, Test]
"""Field, or key of the context -> condition. All of them have to hold."""
BoundConditions = Mapping[str, BoundTest]


def bind(conditions: Conditions, context: Mapping[str, Any]) -> BoundConditions:
    """Return conditions with the values of a context, which has every key that they refer to."""
    return {name: test.bound(context) for name, test in conditions.items()}


def hold(conditions: BoundConditions, read: Read) -> bool:
    """Return whether all conditions hold."""
    return all(test.holds(read(name)) for name, test in conditions.items())


def references(conditions: Conditions) -> set[str]:
    """Return the keys of the context that the conditions need."""
    return set().union(*(test.references for test in conditions.values()))


def _resolved(text: str, context: Mapping[str, Any]) -> Values:
    """The values that a text of a condition stands for."""
    return look_up(context, text.removeprefix(REFERENCE)) if text.startswith(REFERENCE) else (text,)


def _bound(text: str | None, context: Mapping[str, Any], default: float) -> float:
    """The number that a bound stands for; `default` without one. A reference to no number lets nothing in."""
    if text is None:
        return default
    numbers = [number for number in map(as_number, _resolved(text, context)) if number is not None]
    return numbers[0] if numbers else -default


def look_up(tree: Mapping[str, Any], path: str) -> Values:
    """Return the values at a path, as texts. The parts of a path are divided by dots; a key may have dots, too.

    >>> look_up({"a": {"b": [1, "x"]}, "c.d": True}, "a.b"), look_up({"c.d": True}, "c.d"), look_up({}, "a")
    (('1', 'x'), ('true',), ())
    """
    if path in tree:
        return texts(tree[path])
    head, _, rest = path.partition(".")
    inner = tree.get(head)
    return look_up(inner, rest) if rest and isinstance(inner, Mapping) else ()


def texts(value: Any) -> Values:
    """Return a value as texts: a list as one of each entry, nothing of null and of an object.

    >>> texts([12.0, "12", True, None]), texts("")
    (('12', '12', 'true'), ())
    """
    if isinstance(value, (list, tuple)):
        return tuple(text for entry in value for text in texts(entry))
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, float):
        return (str(int(value)) if value.is_integer() else repr(value),)
    if isinstance(value, datetime):
        return (str(milliseconds(value)),)
    return (str(value),) if isinstance(value, (str, int)) and value != "" else ()


MAX_REMEMBERED = 256
"""Characters of a context that a user's record keeps for rules, of its 4 KB."""


def in_words(context: Mapping[str, str]) -> dict[str, Values]:
    """Return a context as conditions read it, where a text may stand for a list or a boolean.

    >>> in_words({"basket": "i1, i2", "member": "yes", "page": "cart"})
    {'basket': ('i1, i2', 'i1', 'i2'), 'member': ('yes', 'true'), 'page': ('cart',)}
    """
    booleans = {"yes": "true", "no": "false"}
    return {
        key: tuple(dict.fromkeys([value, *value.split(", "), booleans.get(value, value)]))
        for key, value in context.items()
    }


def shortened(context: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    """Return these keys of a context, as far as they fit into `MAX_REMEMBERED` characters together."""
    room, kept = MAX_REMEMBERED, dict[str, str]()
    for key in sorted(context.keys() & set(keys)):
        room -= len(key) + len(context[key])
        if room >= 0:
            kept[key] = context[key]
    return kept


def as_number(text: str) -> float | None:
    """Return the number that a text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def values_of(item: Any, field: str) -> Values:
    """Return the values of an item's field, as texts.

    Parameters
    ----------
    item : object
        With the fields of the contract's item as attributes.
    field : str
        One of `FIELDS`, or `attributes.` and a path.
    """
    name, _, path = field.partition(".")
    return look_up(item.attributes, path) if path else texts(getattr(item, name, None))
