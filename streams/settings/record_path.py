"""The path of a value in a record, as a mapping writes it, parsed.

| path | value |
|---|---|
| `userId` | the field of that name |
| `product.sku` | a field of an object |
| `"product.sku"` | a field whose own name has a dot |
| `lines[0].sku` | of the first member of a list; `[-1]`: of the last |
| `params[key=page].value` | of the first member whose `key` is `page` |
| `products[].sku` | of every member: a list |
| `$.id` | looked up in the record only, where `each` is set |
| `@` | the member of `each` itself |

Knows no record: `streams.receive.record_values` looks the value up.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NAME = re.compile(r'"([^"]+)"|([^.\[\]"@=\s]([^.\[\]"=]*[^.\[\]"=\s])?)')
_BRACKET = re.compile(r"\[(?:(-?[0-9]{1,6})|([^\[\]=]+)=([^\[\]]+)|)\]")
_CONDITION = re.compile(
    r"(?:(?P<negated>not)\s+)?(?P<path>(?:[^=>\[]|\[[^\]]*\])+?)(?:\s*(?P<sign>[=>])\s*(?P<operand>[^=>\s][^=>]*))?"
)
_FORM = 'names with dots between them (product.sku), after a name also [0], [key=page] or [], a name with dots in "…"'


class Member(NamedTuple):
    """The step to the first member of a list whose field `name` has this value."""

    name: str
    value: str


Step = str | int | Member | None
"""The name of a field, the index of a member, the first member that fits; None: every member."""


class RecordPath(NamedTuple):
    """A parsed path.

    Attributes
    ----------
    text : str
        As it was written.
    steps : tuple of Step
        From the record to the value. Empty: the member of `each` itself.
    in_record : bool
        The value is looked up in the record, never in a member of `each`.
    """

    text: str
    steps: tuple[Step, ...]
    in_record: bool = False


class Condition(NamedTuple):
    """What a boolean is read from: `in_stock`, `not hidden`, `stock > 0` or `status = active`.

    Attributes
    ----------
    sign : str
        "" for the value itself, "not", ">" or "=".
    operand : str
        What `>` and `=` compare the value with.
    """

    path: RecordPath
    sign: str = ""
    operand: str = ""


def parse(text: str) -> RecordPath:
    """Parse a path.

    Raises
    ------
    ValueError
        The text is no path. The message says what is expected.

    >>> parse("params[key=page].value").steps
    ('params', Member(name='key', value='page'), 'value')
    >>> parse('$."a.b"[].c')
    RecordPath(text='$."a.b"[].c', steps=('a.b', None, 'c'), in_record=True)
    """
    if text == "@":
        return RecordPath(text, ())
    in_record = text.startswith("$.")
    position, steps = 2 if in_record else 0, list[Step]()
    while position < len(text) or not steps:
        if bracket := _BRACKET.match(text, position) if steps else None:
            index, name, value = bracket.groups()
            steps.append(int(index) if index else Member(name, value) if name else None)
            position = bracket.end()
            continue
        if steps and text[position] != ".":
            raise ValueError(_FORM)
        name_match = _NAME.match(text, position + bool(steps))
        if not name_match:
            raise ValueError(_FORM)
        steps.append(name_match[1] or name_match[2])
        position = name_match.end()
    return RecordPath(text, tuple(steps), in_record)


def parse_condition(text: str) -> Condition:
    """Parse what a boolean is read from.

    Raises
    ------
    ValueError
        The text is no condition. The message says what is expected.

    >>> parse_condition("not flags.hidden").sign, parse_condition("stock > 0").operand
    ('not', '0')
    >>> parse_condition("fields[name=status].value = active").path.text
    'fields[name=status].value'
    """
    match = _CONDITION.fullmatch(text)
    if match is None or (match["negated"] and match["sign"]):
        raise ValueError("a path, not a path, path > number or path = value")
    path, sign, operand = parse(match["path"].strip()), match["sign"] or "", (match["operand"] or "").strip()
    if sign == ">":
        try:
            float(operand)
        except ValueError:
            raise ValueError("path > number") from None
    return Condition(path, "not" if match["negated"] else sign, operand)
