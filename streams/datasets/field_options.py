"""The options that describe files of another shape: `--fields`, `--time-unit`, `--where` and `--decimal-comma`.

Knows no file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from streams.contracts import TOPICS
from streams.datasets.messages import InputError
from streams.datasets.record_shapes import MappedShape
from streams.receive import mapping
from streams.settings.topics import MAPPED_INPUTS, topic_source

TIME_UNITS = ("s", "ms", "us", "ns", "iso")
_PAIR = re.compile(r",(?=\s*[\w.]+\s*=)")
"""A comma between two pairs; the name of a column may have commas."""


class Header(NamedTuple):
    """The names that a file has.

    Attributes
    ----------
    names : tuple of str
        The columns of a CSV, or the names in the first objects of JSON.
    is_complete : bool
        The file has no others.
    """

    names: tuple[str, ...]
    is_complete: bool

    def has(self, column: str) -> bool:
        """Tell whether a path, or a column of this name, is in the file."""
        return column in self.names or any(re.match(rf"{re.escape(name)}[.\[]", column) for name in self.names if name)


def merged(headers: Sequence[Header]) -> Header:
    """The names that the files of one topic have together."""
    names = dict.fromkeys(name for header in headers for name in header.names)
    return Header(tuple(names), all(header.is_complete for header in headers))


class FieldOptions(NamedTuple):
    """What the command line says about files of another shape.

    Attributes
    ----------
    fields : tuple of str
        Pairs `field=column`, one or several in each text; `topic.field=column` is for the file of that topic alone.
    time_unit : str, optional
        One of `TIME_UNITS`.
    where : tuple of str
        Pairs `column=value`: only records with all these values are read.
    decimal_comma : bool
        Numbers have a decimal comma.
    """

    fields: tuple[str, ...] = ()
    time_unit: str | None = None
    where: tuple[str, ...] = ()
    decimal_comma: bool = False

    @classmethod
    def given(
        cls, fields: list[str] | None, time_unit: str | None, where: list[str] | None, decimal_comma: bool
    ) -> FieldOptions:
        """Take the options as the command line gives them."""
        return cls(tuple(fields or ()), time_unit, tuple(where or ()), decimal_comma)

    def shapes(self, files: Mapping[str, Header]) -> dict[str, MappedShape]:
        """Give the shapes of the files that the options describe.

        A column is meant in every file that has it. A field that is not named is under the contract's name. The unit of
        times and the decimal comma are meant for the files that the other options describe; without those, for all.

        Parameters
        ----------
        files : mapping of str to Header
            Topic -> the names in its files.

        Raises
        ------
        InputError
            A pair cannot be read, a field is none of the contract's, or no file has a column.
        """
        if self.time_unit not in (None, *TIME_UNITS):
            raise InputError(f"--time-unit: got {self.time_unit!r}, expected one of {', '.join(TIME_UNITS)}")
        tables: dict[str, _Table] = {topic: _Table({}, {}) for topic in files}
        for name, column in _pairs("--fields", self.fields):
            field, topics = _meant(name, files)
            for topic in _holders("--fields", column, {topic: files[topic] for topic in topics}):
                tables[topic].fields[field] = _path(files[topic], column)
        for column, value in _pairs("--where", self.where):
            for topic in _holders("--where", column, files):
                tables[topic].where[_path(files[topic], column)] = _written(value)
        described = any(table.fields or table.where for table in tables.values())
        everywhere = bool(self.time_unit or self.decimal_comma) and not described
        return {
            topic: MappedShape("--fields", [self._mapping(topic, table)])
            for topic, table in tables.items()
            if everywhere or table.fields or table.where
        }

    def _mapping(self, topic: str, table: _Table) -> mapping.Mapping:
        own_names = {name: name for name in TOPICS[topic].__struct_fields__}
        values = {
            "name": "file",
            "fields": own_names | table.fields,
            "where": table.where,
            "time_unit": self.time_unit,
            "decimal_comma": self.decimal_comma,
        }
        return mapping.Mapping(topic, topic_source(topic, values))


class _Table(NamedTuple):
    """What the options say about one file: the paths of fields, and the values that a record must have."""

    fields: dict[str, str]
    where: dict[str, list[str | int | bool]]


def _meant(name: str, files: Collection[str]) -> tuple[str, list[str]]:
    """Give the field of `field` or `topic.field`, and the topics that have it."""
    prefix, dot, field = name.rpartition(".")
    candidates = [topic for topic in files if not dot or topic == prefix]
    if topics := [topic for topic in candidates if field in TOPICS[topic].__struct_fields__]:
        return field, topics
    known = dict.fromkeys(field for topic in candidates or files for field in TOPICS[topic].__struct_fields__)
    if not dot and (others := [topic for topic in MAPPED_INPUTS if field in TOPICS[topic].__struct_fields__]):
        raise InputError(
            f"--fields: got {name!r}, a field of {' and '.join(others)}, but no file of them; expected their file too: "
            f"--{others[0]} FILE, which may be the same file"
        )
    raise InputError(
        f"--fields: got {name!r}, expected FIELD=COLUMN for {', '.join(files)}, with a field of {', '.join(known)}; "
        "TOPIC.FIELD=COLUMN is for one file alone"
    )


def _holders(option: str, column: str, files: Mapping[str, Header]) -> list[str]:
    """Give the topics whose files have a column; if none has it, those whose later records may."""
    holders = [topic for topic, header in files.items() if header.has(column)]
    if holders := holders or [topic for topic, header in files.items() if not header.is_complete]:
        return holders
    columns = ", ".join(dict.fromkeys(name for header in files.values() for name in header.names if name))
    raise InputError(f"{option}: got the column {column!r}, expected one that a file has: {columns}")


def _path(header: Header, column: str) -> str:
    """Write a column as a path; the name of a column may have dots and brackets."""
    return f'"{column}"' if column in header.names and not column.replace("_", "").isalnum() else column


def _written(text: str) -> list[str | int | bool]:
    """Give the values that a text may stand for in JSON."""
    number: list[str | int | bool] = [int(text)] if text.isascii() and text.isdecimal() else []
    return [text, *number, *([text == "true"] if text in ("true", "false") else [])]


def _pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        for pair in _PAIR.split(text):
            left, _, right = (part.strip() for part in pair.partition("="))
            if not left or not right:
                raise InputError(f"{option}: got {pair!r}, expected NAME=VALUE, several with commas between them")
            pairs.append((left, right))
    return pairs
