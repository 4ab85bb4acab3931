"""The fields of records whose shape nobody has described: their paths, how many records have them, an example of each.

Paths are written as a mapping writes them. Knows no contract.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_PATHS = 500
"""Paths that are kept; chosen by us: a record whose field names are ids has no end of them."""
MAX_DEPTH = 8
MAX_VALUES = 50
"""Distinct values of a path that are counted."""
_PLAIN = re.compile(r"[^.\[\]\"@=\s]+( [^.\[\]\"@=\s]+)*")
Scalar = str | int | float | bool


@dataclass
class FoundField:
    """One path.

    Attributes
    ----------
    path : str
        `lines[].sku` is the field `sku` of the members of `lines`.
    records : int
        How many records have a value there.
    values : Counter of (str, int, float or bool)
        The values, as long as there are few; the first is the example.
    """

    path: str
    records: int = 0
    values: Counter[Scalar] = field(default_factory=Counter)

    @property
    def example(self) -> Scalar:
        """The first value that was found."""
        return next(iter(self.values))


def survey(records: Sequence[Any]) -> list[FoundField]:
    """Return the paths of all values in records that are decoded from JSON, in the order in which they are found."""
    found: dict[str, FoundField] = {}
    for record in records:
        seen: set[str] = set()
        for path, value in _leaves(record, "", 0):
            if path not in found and len(found) == MAX_PATHS:
                continue
            one = found.setdefault(path, FoundField(path))
            one.records += path not in seen
            seen.add(path)
            if value in one.values or len(one.values) < MAX_VALUES:
                one.values[value] += 1
    return list(found.values())


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Scalar]]:
    """Yield path and value of every text, number and boolean. Empty texts are no values."""
    if isinstance(value, dict) and depth < MAX_DEPTH:
        for name, inner in value.items():
            if name and '"' not in name:
                yield from _leaves(inner, f"{path}{'.' if path else ''}{_quoted(name)}", depth + 1)
    elif isinstance(value, list) and path and not path.endswith("[]") and depth < MAX_DEPTH:
        for inner in value:
            yield from _leaves(inner, f"{path}[]", depth + 1)
    elif isinstance(value, (str, int, float)) and value != "" and path:
        yield path, value


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else f'"{name}"'
