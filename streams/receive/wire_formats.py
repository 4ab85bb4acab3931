"""Name the format of a message that is not plain JSON of the contract, for the error text of its producer.

Formats are those of schema registries, compressions, other encodings and envelopes. They are only recognised, never
decoded. Knows no contract.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec

from streams.receive import confluent

BOM = b"\xef\xbb\xbf"
_CONNECT = (
    "with Kafka Connect set value.converter=org.apache.kafka.connect.json.JsonConverter and "
    "value.converter.schemas.enable=false"
)
_COMPRESS = "send plain JSON, and let the producer compress (compression.type)"
_ENCODE = "encode the text as UTF-8"
_OBJECT = "send one JSON object a message"
_PREFIXES = (
    (b"\x1f\x8b", "gzip", _COMPRESS),
    (b"\x28\xb5\x2f\xfd", "Zstandard", _COMPRESS),
    (b"\x04\x22\x4d\x18", "an LZ4 frame", _COMPRESS),
    (b"\xff\x06\x00\x00sNaPpY", "framed Snappy", _COMPRESS),
    (b"\x82SNAPPY\x00", "Snappy", _COMPRESS),
    (b"BZh", "bzip2", _COMPRESS),
    (b"\xfd7zXZ\x00", "xz", _COMPRESS),
    (b"PK\x03\x04", "a ZIP archive", _COMPRESS),
    (b"x\x9c", "zlib", _COMPRESS),
    (b"x\xda", "zlib", _COMPRESS),
    (b"\xff\xfe\x00\x00", "UTF-32", _ENCODE),
    (b"\x00\x00\xfe\xff", "UTF-32", _ENCODE),
    (b"\xff\xfe", "UTF-16", _ENCODE),
    (b"\xfe\xff", "UTF-16", _ENCODE),
    (b"Obj\x01", "an Avro file", _OBJECT),
    (b"\xc3\x01", "Avro's single-object encoding", _OBJECT),
    (b"PAR1", "a Parquet file", _OBJECT),
    (b"\xac\xed\x00\x05", "a serialised Java object", "use a serialiser that writes JSON"),
    (b"\x80\x04\x95", "a Python pickle", "use json.dumps"),
    (b"\x80\x05\x95", "a Python pickle", "use json.dumps"),
    (b"[object Object]", "the text of a JavaScript object", "use JSON.stringify"),
    (b"eyJ", "JSON in base64", "send the JSON itself"),
)
_TEXTS = (
    (re.compile(rb"<[?!/\w]"), "XML or HTML", _OBJECT),
    (re.compile(rb"[{\[]\s*'"), "the text of a Python object", "use json.dumps"),
    (re.compile(rb"[\w.%+-]+=[^&\s]*(&[\w.%+\[\]-]+=[^&\s]*)+$"), "a form (key=value&…)", _OBJECT),
    (re.compile(rb"---\s|\w+: \S"), "YAML", _OBJECT),
)
_INSPECTED_BYTES = 512
"""Length of the beginning of a text that is inspected; chosen by us, because the patterns above read no more."""
_GLUE = b"\x03"


def of_bytes(value: bytes) -> str | None:
    """Name the format of bytes that are not JSON, and say what to do; None if the format is unknown.

    >>> of_bytes(b'\\0\\0\\0\\0\\7{"event_id": "e"}')[:60]
    'Confluent wire format, schema id 7, JSON after it; write pla'
    """
    if not value.strip():
        return f"an empty value; {_OBJECT} (a null value, not an empty one, is a tombstone)"
    if wide := _wide(value):
        return f"{wide}; {_ENCODE}"
    if part := confluent.framed(value):
        return f"{confluent.name_of(part)}; {confluent.PLAIN}"
    if value[:1] == _GLUE and value[1:2] in (b"\x00", b"\x05") and len(value) > 18:
        return "the wire format of AWS Glue's schema registry; write plain JSON without a schema registry"
    for prefix, name, advice in _PREFIXES:
        if value.startswith(prefix):
            return f"{name}; {advice}"
    return _text(value)


def _wide(value: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 without a byte order mark: the first two characters of a JSON text are ASCII."""
    zeros = tuple(byte == 0 for byte in value[:8])
    if zeros[:8] in ((False, True, True, True) * 2, (True, True, True, False) * 2):
        return "UTF-32"
    if zeros[:4] in ((False, True) * 2, (True, False) * 2):
        return "UTF-16"
    return None


def _text(value: bytes) -> str | None:
    start = value.removeprefix(BOM).lstrip()[:_INSPECTED_BYTES]
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if len(start) < _INSPECTED_BYTES or error.start < len(start) - 3:  # else the cut went through a character
            return "text that is not UTF-8, perhaps Latin-1; " + _ENCODE if start[:1] in (b"{", b'"') else None
    for pattern, name, advice in _TEXTS:
        if pattern.match(start):
            return f"{name}; {advice}"
    if not re.search(rb"[{}\[\]]", start) and any(start.count(separator) > 1 for separator in (b",", b";", b"\t")):
        return f"CSV; {_OBJECT}"
    if re.search(rb"[:,\[]\s*-?(NaN|Infinity|undefined)\b", start):
        return "NaN, Infinity or undefined, which JSON does not have; send null or leave the field out"
    return _several_objects(value)


def _several_objects(value: bytes) -> str | None:
    """Recognise one JSON object a line, and objects one behind the other."""
    lines = value.split(b"\n", 1)
    text = lines[0] if len(lines) > 1 else re.split(rb"(?<=})\s*(?={)", value, maxsplit=1)[0]
    try:
        first: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return f"several JSON objects; {_OBJECT}" if isinstance(first, dict) else None


_ENVELOPES: tuple[tuple[Collection[str], Collection[str], str, str], ...] = (
    # fields that are all present, fields of which at least one is present, name, advice
    (("schema", "payload"), (), "Kafka Connect's envelope {schema, payload}", _CONNECT),
    (
        ("op",),
        ("before", "after"),
        "Debezium's envelope {before, after, op}",
        "unwrap it: transforms=unwrap, transforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState",
    ),
    (("specversion", "type", "source"), (), "a CloudEvent", "send its data alone, as the message's value"),
    (("database", "table", "data"), (), "the envelope of Maxwell or Canal", "send its data alone"),
    (("data", "metadata"), (), "an envelope {data, metadata}, as AWS DMS writes", "send its data alone"),
)


def of_json(value: Any) -> str | None:
    """Name what a JSON value is that violates the contract, and say what to do; None if it is a plain object.

    >>> of_json([{"event_id": "e"}])
    'a JSON array of 1; send each object as a message of its own'
    """
    if value is None:
        return "the JSON text null; a tombstone is a null value of Kafka's, not this text"
    if isinstance(value, list):
        return f"a JSON array of {len(value)}; send each object as a message of its own"
    if isinstance(value, str):
        encoded_twice = value.lstrip()[:1] in ("{", "[")
        return f"a JSON text{' that holds JSON: it was encoded twice' if encoded_twice else ''}; send the object itself"
    if not isinstance(value, dict):
        return f"a JSON {'boolean' if isinstance(value, bool) else 'number'}; {_OBJECT}"
    for all_of, any_of, name, advice in _ENVELOPES:
        if all(field in value for field in all_of) and (not any_of or any(field in value for field in any_of)):
            inner = of_json(value["payload"]) if "payload" in all_of and isinstance(value["payload"], dict) else None
            return f"{name}; {advice}" + (f"; in it is {inner}" if inner else "")
    return None
