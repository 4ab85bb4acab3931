"""One file of records, read record by record: JSON lines, a JSON array, or CSV.

Memory does not grow with the file. A record that cannot be read is given as an error with its line, and the records
behind it are read, where the format lets us. Knows no contract.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streams.contracts import MAX_MESSAGE_BYTES
from streams.datasets import json_array
from streams.datasets.file_format import Content, FileFormat, format_of, opened
from streams.receive.message import BadMessage

LONGEST_LINE = 16 << 20
"""In bytes; chosen by us, as the largest element of an array."""
NO_VALUE = ("", "NULL", r"\N")
"""Cells without a value: empty, and as SQL and MySQL write it."""
LONGEST_NAME = 60  # chosen by us: with a line's number behind it, it is no longer than an id may be


class FileRecord(NamedTuple):
    """One record.

    Attributes
    ----------
    line : int
        The line on which it begins, from 1.
    value : bytes or dict or BadMessage
        JSON as it is in the file; the cells of a row by column; or why the record cannot be read.
    """

    line: int
    value: bytes | dict[str, Any] | BadMessage


class InputFile:
    """A file, whose format is known.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    format : FileFormat
    size : int
        In bytes, as it is on the disk.

    Raises
    ------
    InputError
        The file cannot be read, or its format is none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.format: FileFormat = format_of(path)
        self.size = path.stat().st_size
        self._raw: BufferedReader | None = None

    @property
    def position(self) -> int:
        """How many bytes of the file have been read."""
        return 0 if self._raw is None else self.size if self._raw.closed else self._raw.tell()

    def place(self, line: int) -> str:
        """Name a line so that it is the same whenever the file is read: the file's name, without folders, and it."""
        return f"{self.path.name.encode(errors='replace').decode()[-LONGEST_NAME:]}/{line}"

    def records(self) -> Iterator[FileRecord]:
        """Yield the records. A damaged file ends with an error as its last record."""
        line = 0
        with opened(self.path) as (self._raw, content):
            try:
                for record in self._records(content):
                    line = record.line
                    yield record
            except (OSError, EOFError, zlib.error, json_array.BrokenArray) as error:
                text = f"{error}; what is behind it was not read: write the file anew"
                yield FileRecord(line + 1, BadMessage("unreadable", text, "the file is damaged from here on"))

    def _records(self, content: Content) -> Iterator[FileRecord]:
        if self.format.kind == "JSON lines":
            yield from _lines(content)
            return
        # a byte that is not UTF-8 spoils its own record alone
        with TextIOWrapper(content, "utf-8", "surrogateescape", newline="") as text:
            if self.format.kind == "CSV":
                yield from _rows(text, self.format)
            else:
                for line, element in json_array.elements(text):
                    yield FileRecord(line, element.encode(errors="surrogateescape"))


def _lines(content: Content) -> Iterator[FileRecord]:
    number = 0
    while line := content.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := content.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            text = f"got a line of more than {LONGEST_LINE >> 20} MiB, expected one JSON object a line"
            yield FileRecord(number, BadMessage("too-large", text, "line too long"))
        elif not line.isspace():
            yield FileRecord(number, line.strip())


def _rows(text: TextIOWrapper, form: FileFormat) -> Iterator[FileRecord]:
    """Yield the rows behind the header, each with the line on which it begins: a quoted cell may have line feeds."""
    csv.field_size_limit(MAX_MESSAGE_BYTES)
    reader = csv.reader(iter(lambda: text.readline(LONGEST_LINE), ""), delimiter=form.delimiter)
    is_header = True
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            advice = "is a quotation mark not closed, or not doubled?"
            yield FileRecord(line, BadMessage("malformed", f"{error}; {advice}", "no row of a CSV"))
            continue
        if not cells:
            continue
        if is_header:
            is_header = False
        else:
            yield FileRecord(line, _row(form.columns, cells))


def _row(columns: tuple[str, ...], cells: list[str]) -> dict[str, Any] | BadMessage:
    if len(cells) != len(columns):
        text = f"got {len(cells)} cells, expected {len(columns)} as in the header; quote cells that hold the delimiter"
        return BadMessage("malformed", text, "another number of cells than the header")
    row: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        value = cell.strip()
        if not column or value in NO_VALUE:
            continue
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            text = f"{column}: got bytes that are not UTF-8; write the file in UTF-8: iconv -f WINDOWS-1252 -t UTF-8"
            return BadMessage("malformed", text, "not UTF-8, perhaps Windows-1252")
        _put(row, column, _cell(value))
    return row


def _cell(text: str) -> Any:
    """Give the list or object that a cell holds as JSON; any other cell is a text, also a number."""
    if text[0] in "[{":
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
    return text


def _put(row: dict[str, Any], column: str, value: Any) -> None:
    """Put a value under its column; that of `attributes.colour` is also a field of the object `attributes`."""
    row[column] = value
    outer, dot, inner = column.partition(".")
    if dot and isinstance(below := row.setdefault(outer, {}), dict):
        _put(below, inner, value)
