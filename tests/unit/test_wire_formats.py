"""A message in another format is rejected with the name of the format, and with what to do."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import zlib
from typing import Any

import cramjam
import pytest

from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message

NOW_MS = 1_790_000_000_000
CLICK: dict[str, Any] = {"event_id": "e1", "user_id": "ü1", "item_id": "i1", "timestamp": NOW_MS}
TEXT = json.dumps(CLICK, ensure_ascii=False)
JSON = TEXT.encode()
CONNECT = {"schema": {"type": "struct"}, "payload": CLICK}
DEBEZIUM = {"before": None, "after": CLICK, "op": "c", "ts_ms": NOW_MS}

FORMATS: dict[str, tuple[bytes, str]] = {
    "Confluent, JSON Schema": (b"\0\0\0\0\7" + JSON, "Confluent wire format, schema id 7, JSON after it"),
    "Confluent, Avro": (b"\0\0\1\x86\xa0\x04e1", "Confluent wire format, schema id 100000, Avro or Protobuf after it"),
    "Glue": (b"\x03\0" + b"0123456789abcdef" + JSON, "AWS Glue"),
    "UTF-16 with a mark": (TEXT.encode("utf-16"), "UTF-16"),
    "UTF-16 LE": (TEXT.encode("utf-16-le"), "UTF-16"),
    "UTF-16 BE": (TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-32 with a mark": (TEXT.encode("utf-32"), "UTF-32"),
    "UTF-32 LE": (TEXT.encode("utf-32-le"), "UTF-32"),
    "UTF-32 BE": (TEXT.encode("utf-32-be"), "UTF-32"),
    "Latin-1": (TEXT.encode("latin-1"), "Latin-1"),
    "gzip": (gzip.compress(JSON), "gzip"),
    "zlib": (zlib.compress(JSON), "zlib"),
    "bzip2": (bz2.compress(JSON), "bzip2"),
    "xz": (lzma.compress(JSON), "xz"),
    "zstd": (bytes(cramjam.zstd.compress(JSON)), "Zstandard"),
    "lz4": (bytes(cramjam.lz4.compress(JSON)), "LZ4"),
    "snappy": (bytes(cramjam.snappy.compress(JSON)), "Snappy"),
    "Avro file": (b"Obj\x01\x04", "Avro file"),
    "pickle": (pickle.dumps(CLICK, protocol=4), "pickle"),
    "Python's text": (str(CLICK).encode(), "json.dumps"),
    "JavaScript's text": (b"[object Object]", "JSON.stringify"),
    "a form": (b"event_id=e1&user_id=u%201&item_id=", "form"),
    "XML": (b'<?xml version="1.0"?><click/>', "XML"),
    "CSV": (b"e1,u1,i1,1795566875471", "CSV"),
    "YAML": (b"event_id: e1\nuser_id: u1\n", "YAML"),
    "lines": (JSON + b"\n" + JSON, "several JSON objects"),
    "one behind the other": (b'{"a": 1}{"a": 2}', "several JSON objects"),
    "NaN": (JSON[:-1] + b', "price": NaN}', "NaN"),
    "nothing": (b"", "an empty value"),
    "encoded twice": (json.dumps(TEXT).encode(), "encoded twice"),
    "a batch": (json.dumps([CLICK, CLICK]).encode(), "a JSON array of 2"),
    "null": (b"null", "a tombstone is a null value of Kafka's"),
    "a number": (b"5", "a JSON number"),
    "Connect": (json.dumps(CONNECT).encode(), "value.converter.schemas.enable=false"),
    "Debezium": (json.dumps(DEBEZIUM).encode(), "ExtractNewRecordState"),
    "Debezium's deletion": (json.dumps({"before": CLICK, "after": None, "op": "d"}).encode(), "Debezium"),
    "Debezium in Connect": (json.dumps(CONNECT | {"payload": DEBEZIUM}).encode(), "in it is Debezium"),
    "CloudEvents": (json.dumps({"specversion": "1.0", "type": "t", "source": "s", "data": {}}).encode(), "CloudEvent"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_error_names_the_format(name: str) -> None:
    value, words = FORMATS[name]
    with pytest.raises(BadMessage) as rejected:
        receive(Message("purchases", 0, 0, b"u1", value), NOW_MS)
    assert words in str(rejected.value)
    assert rejected.value.reason in ("malformed", "invalid")
    assert len(rejected.value.cause) < 80
    assert "e1" not in rejected.value.cause


@pytest.mark.parametrize("value", [b"{oops", b'{"event_id": "e1"', b"hello", b"\x82\xa1a\x01", b"\0", b"\xff\xff\xff"])
def test_an_unknown_format_is_not_guessed(value: bytes) -> None:
    with pytest.raises(BadMessage, match="expected one JSON object in UTF-8") as rejected:
        receive(Message("clicks", 0, 0, b"u1", value), NOW_MS)
    assert (rejected.value.reason, rejected.value.cause) == ("malformed", "no JSON")


def test_a_message_that_meets_the_contract_may_have_the_fields_of_an_envelope() -> None:
    value = json.dumps(CLICK | {"schema": {}, "payload": {}, "op": "c", "after": {}}).encode()
    assert receive(Message("clicks", 0, 0, b"u1", value), NOW_MS)
