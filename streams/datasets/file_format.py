"""Tell the format of a file by its first bytes, never by its name. A format that is not read is refused by its name.

Read are JSON lines, a JSON array, and CSV with a header, each plain or gzipped, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, StringIO
from pathlib import Path
from typing import Literal, NamedTuple

from streams.datasets.messages import InputError
from streams.receive.wire_formats import BOM

HEAD_BYTES = 1 << 16
GZIP = b"\x1f\x8b"
DELIMITERS = ",;\t|"
EXPECTED = "expected JSON lines, a JSON array, or CSV with a header, in UTF-8, plain or gzipped"
_DECOMPRESS = "decompress it (of compressed files only gzip is read)"
_DUCKDB = "write it as CSV, for instance with duckdb: copy 'FILE' to 'file.csv'"
_UTF8 = "write it in UTF-8: iconv -f {} -t UTF-8"
_REFUSED = (
    (b"PAR1", "a Parquet file", _DUCKDB),
    (b"SQLite format 3\0", "an SQLite database", "write a table as CSV: sqlite3 -header -csv FILE 'select * from t'"),
    (b"PK\x03\x04", "a ZIP archive", "unzip it"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls)", "save its sheet as CSV (UTF-8)"),
    (b"Obj\x01", "an Avro file", "write it as JSON lines: avro-tools tojson"),
    (b"ORC", "an ORC file", "write it as JSON lines"),
    (b"ARROW1", "an Arrow file", "write it as CSV"),
    (b"BZh", "bzip2", _DECOMPRESS),
    (b"\xfd7zXZ\x00", "xz", _DECOMPRESS),
    (b"\x28\xb5\x2f\xfd", "Zstandard", _DECOMPRESS),
    (b"\x04\x22\x4d\x18", "LZ4", _DECOMPRESS),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (b"%PDF", "a PDF", "export the data as CSV"),
    (GZIP, "gzip within gzip", "decompress it once"),
    (b"\xff\xfe\x00\x00", "UTF-32", _UTF8.format("UTF-32")),
    (b"\x00\x00\xfe\xff", "UTF-32", _UTF8.format("UTF-32")),
    (b"\xff\xfe", "UTF-16", _UTF8.format("UTF-16")),
    (b"\xfe\xff", "UTF-16", _UTF8.format("UTF-16")),
)


Content = BufferedReader | gzip.GzipFile


class FileFormat(NamedTuple):
    """How a file is read.

    Attributes
    ----------
    kind : str
        "JSON lines", "a JSON array" or "CSV".
    columns : tuple of str
        The header of a CSV.
    delimiter : str
        Of a CSV.
    """

    kind: Literal["JSON lines", "a JSON array", "CSV"]
    columns: tuple[str, ...] = ()
    delimiter: str = ""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, Content]]:
    """Open a file; give its raw bytes, whose position is how far it is read, and its content behind a byte order mark.

    Raises
    ------
    InputError
        It cannot be opened, or is no ordinary file.
    """
    try:
        if path.is_fifo():
            raise InputError(f"{path}: got a pipe, expected a file, because it is read twice; write it to a file first")
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file that can be read") from error
    with raw:
        content = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP else raw
        if content.peek(3)[:3] == BOM:
            content.read(3)
        yield raw, content


def format_of(path: Path) -> FileFormat:
    """Tell how a file is read.

    Raises
    ------
    InputError
        The file cannot be read, or has a format that is none of ours. The message names the format.
    """
    head = b""
    try:
        with opened(path) as (_, content):
            while len(head) < HEAD_BYTES and (read := content.read1(HEAD_BYTES)):
                head += read
    except (OSError, EOFError, zlib.error) as error:
        if not head:
            raise InputError(f"{path}: {error}; {EXPECTED}") from error
    if refused := _refused(head):
        name, advice = refused
        raise InputError(f"{path}: got {name}, {EXPECTED}; {advice.replace('FILE', path.name)}")
    start = head.lstrip()[:1]
    if start in (b"", b"{"):
        return FileFormat("JSON lines")
    return FileFormat("a JSON array") if start == b"[" else _csv(path, head)


def _refused(head: bytes) -> tuple[str, str] | None:
    """Name a format that is not read, and say what to do."""
    for prefix, name, advice in _REFUSED:
        if head.startswith(prefix):
            if prefix.startswith(b"PK") and (b"xl/" in head or b"[Content_Types].xml" in head):
                return "an Excel workbook (.xlsx)", "save its sheet as CSV (UTF-8)"
            return name, advice
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it"
    if len(head) > 1 and (head[0] == 0) != (head[1] == 0):
        return "UTF-16", _UTF8.format("UTF-16")
    if b"\0" in head:
        return "a binary file", "write it as CSV or JSON lines"
    if head.lstrip()[:1] == b"<":
        return "XML or HTML", "was an error page saved instead of the data?"
    return None


def _csv(path: Path, head: bytes) -> FileFormat:
    """Read the header, with the delimiter that parts it into most columns."""
    text = head.decode(errors="surrogateescape").lstrip("\r\n")
    headers = {each: next(csv.reader(StringIO(text, newline=""), delimiter=each), []) for each in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda each: len(headers[each]))
    columns = tuple(name.strip() for name in headers[delimiter])
    if twice := next((name for name in columns if name and columns.count(name) > 1), None):
        raise InputError(f"{path}: got the column {twice!r} twice, expected a header that has each once; rename one")
    return FileFormat("CSV", columns, delimiter)
