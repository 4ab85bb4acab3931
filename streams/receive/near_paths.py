"""Say what a record has near a path that leads nowhere, for the person who has to correct the path.

Names fields, never values. Knows no mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from streams.settings.record_path import RecordPath

NAMES_SHOWN = 8
_MAX_FIELDS = 500
"""Fields of a record that are looked at; chosen by us: a record of any size is rejected at once."""
_MAX_DEPTH = 6
_MAX_NAME = 60


def near(path: RecordPath, record: Any, called: str = "the record") -> str:
    """Say where a field of the same name is, or which fields are there where the path ends; "" if nothing is near.

    Parameters
    ----------
    path : RecordPath
        Leads to no value.
    record : object
        Decoded from JSON; a member of `each` where the path begins there.
    called : str
        What to call it.

    >>> from streams.settings.record_path import parse
    >>> near(parse("sku"), {"lines": [{"sku": "a"}]})
    'the record has lines[].sku: set each = "lines" for one message a member'
    >>> near(parse("id"), {"product": {"id": "a"}})
    'the record has product.id'
    >>> near(parse("product.id"), {"product": {"sku": "a", "cat": "b"}})
    'product has sku, cat'
    """
    names = [step for step in path.steps if isinstance(step, str)]
    if len(names) != len(path.steps) or not names:
        return ""
    found = next((one for one in islice(_fields(record, "", 0), _MAX_FIELDS) if one[1] == names[-1]), None)
    if found is not None:
        place, members = found[0], found[0].rpartition("[].")[0]
        advice = f': set each = "{members}" for one message a member' if members and "[]" not in members else ""
        return "" if place == path.text else f"{called} has {place}{advice}"
    return _there(record, names, called)


def _there(record: Any, names: Sequence[str], called: str) -> str:
    """Name the fields of the innermost object on the way."""
    place = ""
    for name in names:
        if not isinstance(record, dict) or not isinstance(inner := record.get(name), dict):
            break
        record, place = inner, f"{place}{'.' if place else ''}{name}"
    if not isinstance(record, dict) or not record or len(place) > _MAX_NAME:
        return ""
    shown = [name[:_MAX_NAME] for name in islice(record, NAMES_SHOWN)]
    more = f" and {len(record) - NAMES_SHOWN} more" if len(record) > NAMES_SHOWN else ""
    return f"{place or called} has {', '.join(shown)}{more}"


def _fields(value: Any, place: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield path and name of every field that has a value, the outermost first; of a list its first member's."""
    if depth == _MAX_DEPTH or not isinstance(value, dict):
        return
    inner = []
    for name, one in value.items():
        here = f"{place}.{name}" if place else name
        if len(name) > _MAX_NAME:
            continue
        if isinstance(one, list) and one and isinstance(one[0], dict):
            inner.append((one[0], f"{here}[]"))
        elif isinstance(one, dict):
            inner.append((one, here))
        elif one is not None and one != "":
            yield here, name
    for one, here in inner:
        yield from _fields(one, here, depth + 1)
