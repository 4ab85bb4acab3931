"""Avro's binary encoding becomes JSON, by the schema with which it was written.

| Avro | JSON |
|---|---|
| record, map | object |
| union | the value, without the name of its branch |
| enum | its symbol |
| timestamp-millis, timestamp-micros | RFC 3339; local- ones likewise, without a zone |
| date, time-millis, time-micros | RFC 3339 |
| decimal | number, with all its digits |
| bytes, fixed | base64 |
| NaN and infinities | null |

fastavro decodes. It trusts its input, so what would end or stop the process is seen to here. A schema that contains
itself is decoded by fastavro's code in Python, because its C code overflows the stack at some thousand levels. An array
of members that take no bytes is refused, because a short record could have billions of them. A decimal is limited,
because the time of its conversion grows with the square of its length. Knows no registry.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import msgspec

from streams.receive.schema import MAX_DECIMAL_BYTES, SchemaUnusable, Undecodable, module_of_extra

Parsed = Any
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class AvroSchema:
    """A schema, and the decoding of what was written with it.

    Parameters
    ----------
    text : str
        The schema in JSON.
    references : sequence of str
        Schemas that it names, each behind those that it names itself.

    Raises
    ------
    SchemaUnusable
        It is no Avro schema, one that is not decoded here, or fastavro is not installed.
    """

    def __init__(self, text: str, references: Sequence[str] = ()) -> None:
        fastavro = module_of_extra("fastavro", "Avro")
        _limit_decimals()
        named: dict[str, Any] = {}
        try:
            for reference in references:
                fastavro.parse_schema(msgspec.json.decode(reference), named_schemas=named)
            self._schema = fastavro.parse_schema(msgspec.json.decode(text), named_schemas=named)
        except Exception as error:  # noqa: BLE001  fastavro raises many kinds for a broken schema
            raise SchemaUnusable(f"is no Avro schema ({type(error).__name__}: {error})") from None
        shape = _Shape(named)
        shape.look(self._schema, ())
        self._read = _reader(fastavro, shape.is_recursive)

    def to_json(self, payload: bytes) -> bytes:
        """Decode one record, to its last byte.

        Raises
        ------
        Undecodable
            The bytes are not a record of this schema, or have no JSON.
        """
        stream = io.BytesIO(payload)
        try:
            value = self._read(stream, self._schema, None)
            text = _ENCODER.encode(value)
        except Exception as error:  # noqa: BLE001  fastavro raises whatever its reader meets
            raise Undecodable(f"{type(error).__name__}{': ' if str(error) else ''}{error}") from None
        if left := len(payload) - stream.tell():
            raise Undecodable(f"{left} bytes are left behind the record")
        return text


def _reader(fastavro: ModuleType, is_recursive: bool) -> Any:
    return importlib.import_module("fastavro._read_py" if is_recursive else "fastavro").schemaless_reader


@lru_cache(maxsize=1)
def _limit_decimals() -> None:
    """Put a limit before fastavro's readers of decimals, which nobody else in this process uses."""
    readers = importlib.import_module("fastavro.read").LOGICAL_READERS
    for kind in ("bytes-decimal", "fixed-decimal"):
        readers[kind] = partial(_limited, readers[kind])


def _limited(read: Callable[..., Any], data: bytes, *schemas: Any) -> Any:
    if len(data) > MAX_DECIMAL_BYTES:
        raise ValueError(f"a decimal of {len(data)} bytes, expected at most {MAX_DECIMAL_BYTES}")
    return read(data, *schemas)


class _Shape:
    """What a parsed schema can make a decoder do.

    Attributes
    ----------
    is_recursive : bool
        Whether a type contains itself.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.is_recursive = False
        self._named = named
        self._seen: dict[str, bool] = {}

    def look(self, schema: Parsed, inside: tuple[str, ...]) -> bool:
        """Return whether a value of the type takes bytes; `inside` are the names of the types around it."""
        if isinstance(schema, list):
            for branch in schema:
                self.look(branch, inside)
            return True
        if isinstance(schema, str):
            return self._look_by_name(schema, inside)
        kind = schema["type"]
        if kind == "array":
            if not self.look(schema["items"], inside):
                raise SchemaUnusable("has an array of members that take no bytes; give them a field")
            return True
        if kind == "map":
            self.look(schema["values"], inside)
            return True
        if kind == "fixed":
            return bool(schema["size"])
        if kind in ("record", "error"):
            around = (*inside, schema["name"])
            takes_bytes = [self.look(field["type"], around) for field in schema["fields"]]
            return any(takes_bytes)
        return True if kind == "enum" else self.look(kind, inside)

    def _look_by_name(self, name: str, inside: tuple[str, ...]) -> bool:
        if name not in self._named:
            return name != "null"
        if name in inside:
            self.is_recursive = True
            return True
        if name not in self._seen:
            self._seen[name] = self.look(self._named[name], inside)
        return self._seen[name]
