"""Confluent's wire format: a byte 0, the id of a schema in four bytes, then JSON, Avro or Protobuf.

Takes the frame off, and says what to do where the schema is needed and cannot be had. Knows no registry and no schema.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

MAGIC = b"\x00"
HEAD_BYTES = 5
_OBJECT = re.compile(rb"\{\s*[\"}]|\[\s*[\[{\"]")
_WIDE = ((b"\x00{\x00", "utf-16-be"), (b"\x00\x00\x00{\x00\x00\x00", "utf-32-be"))
"""How a JSON object begins in the encodings whose first byte is 0 as well."""
PLAIN = (
    "write plain JSON: use a plain JSON serialiser, or with Kafka Connect set "
    "value.converter=org.apache.kafka.connect.json.JsonConverter and value.converter.schemas.enable=false"
)
URL = "AFTERCLICK_KAFKA__SCHEMA_REGISTRY_URL"
EXTRA = "pip install 'afterclick[registry]'"


class Framed(NamedTuple):
    """A message in Confluent's wire format.

    Attributes
    ----------
    schema_id : int
        Of the registry that the producer used.
    payload : bytes
        What stands behind the id; at least one byte.
    """

    schema_id: int
    payload: bytes

    @property
    def is_json(self) -> bool:
        """Whether the payload is a JSON object or array, as the serialiser for JSON Schema writes.

        Avro or Protobuf could begin with such a brace, but would not go on as JSON to the very end.
        """
        return _OBJECT.match(self.payload) is not None and _decodes(self.payload)

    @property
    def is_json_text(self) -> bool:
        """Whether the payload is a JSON text (`"…"`). Avro of a text of 17 bytes and the number 17 looks the same."""
        return self.payload[:1] == b'"' and _decodes(self.payload)

    @property
    def content(self) -> str:
        """What the payload is, in words."""
        if self.is_json:
            return "JSON after it"
        return "broken JSON after it" if _OBJECT.match(self.payload) else "Avro or Protobuf after it"


def framed(data: bytes | None) -> Framed | None:
    r"""Split a message, or a key, in Confluent's wire format; None if it has another format.

    >>> framed(b"\0\0\0\0\7{}")
    Framed(schema_id=7, payload=b'{}')
    >>> framed(b'{"event_id": "e1"}') is None
    True
    """
    if not data or data[:1] != MAGIC or len(data) <= HEAD_BYTES:
        return None
    if any(data.startswith(begin) and _is_text(data, encoding) for begin, encoding in _WIDE):
        return None
    return Framed(int.from_bytes(data[1:HEAD_BYTES], "big"), data[HEAD_BYTES:])


def refused(message: Framed) -> str:
    r"""Say what a message is and what to do, where nobody has set a registry's URL.

    >>> refused(Framed(7, b"\x02"))[:69]
    'Confluent wire format, schema id 7, Avro or Protobuf after it; set AF'
    """
    advice = f"set {URL} to your schema registry's address and {EXTRA}, or {PLAIN}"
    return f"{name_of(message)}; {advice}"


def name_of(message: Framed) -> str:
    """Name the format and the schema of a message."""
    return f"Confluent wire format, schema id {message.schema_id}, {message.content}"


def _decodes(payload: bytes) -> bool:
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _is_text(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
