"""Avro and Protobuf by their schemas: what a serialiser wrote comes back as JSON; any other bytes are refused."""

from __future__ import annotations

import base64
import io
import json
import math
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.receive.avro import AvroSchema
from streams.receive.protobuf import ProtobufSchema
from streams.receive.schema import MAX_DECIMAL_BYTES, SchemaUnusable, Undecodable

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MAX_MS = 253_402_300_799_999
SCALARS: dict[Any, Any] = {
    "string": st.text(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(),
    "boolean": st.booleans(),
    "bytes": st.binary(),
    "null": st.none(),
}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}
MOMENTS = st.integers(0, MAX_MS).map(lambda ms: EPOCH + timedelta(milliseconds=ms))
AMOUNTS = st.integers(-(10**19), 10**19).map(lambda number: Decimal(number).scaleb(-3))


@st.composite
def schemas(draw: Any, depth: int = 2) -> tuple[Any, Any]:
    """A type, and a strategy for its values."""
    leaves = [*SCALARS.items(), (MILLIS, MOMENTS), (MICROS, MOMENTS), (DECIMAL, AMOUNTS)]
    shape = draw(st.sampled_from(["leaf", "union", "array", "map", "record"] if depth else ["leaf"]))
    if shape == "leaf":
        leaf: tuple[Any, Any] = draw(st.sampled_from(leaves))
        return leaf
    if shape == "record":
        record: tuple[Any, Any] = draw(records(depth - 1))
        return record
    kind, values = draw(schemas(depth=depth - 1))
    if shape == "union":
        return (kind, values) if kind == "null" or isinstance(kind, list) else (["null", kind], st.none() | values)
    if shape == "map":
        return {"type": "map", "values": kind}, st.dictionaries(st.text(), values, max_size=3)
    return ({"type": "array", "items": kind}, st.lists(values, max_size=3)) if kind != "null" else ("null", st.none())


@st.composite
def records(draw: Any, depth: int = 2) -> tuple[Any, Any]:
    fields = draw(st.lists(schemas(depth=depth), min_size=1, max_size=4))
    name = f"R{draw(st.uuids()).hex}"
    declared: list[Any] = [{"name": f"f{i}", "type": kind} for i, (kind, _) in enumerate(fields)]
    schema = {"type": "record", "name": name, "fields": [*declared, {"name": "s", "type": "string"}]}
    return schema, st.fixed_dictionaries({f"f{i}": values for i, (_, values) in enumerate(fields)} | {"s": st.text()})


def same(found: Any, expected: Any) -> bool:
    """Compare JSON, whose fractions are decimals, with what was written as Avro."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, datetime):
        return datetime.fromisoformat(found.replace("Z", "+00:00")) == expected
    if isinstance(expected, bytes):
        return base64.b64decode(found) == expected
    if isinstance(expected, float):
        return float(found) == expected if math.isfinite(expected) else found is None
    return bool(found == expected) and isinstance(found, bool) == isinstance(expected, bool)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_avro_record_comes_back_and_no_other_bytes_raise_anything_else(data: st.DataObject) -> None:
    schema, values = data.draw(records())
    value = data.draw(values)
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    decoder = AvroSchema(json.dumps(schema))
    assert same(json.loads(decoder.to_json(stream.getvalue()), parse_float=Decimal), value)
    with suppress(Undecodable):
        json.loads(decoder.to_json(data.draw(st.binary(max_size=40))))


def test_what_would_stop_a_process_is_refused() -> None:
    tree = {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}
    assert json.loads(AvroSchema(json.dumps(tree)).to_json(b"\2\2\0")) == {"next": {"next": {"next": None}}}
    with pytest.raises(Undecodable, match="RecursionError"):
        AvroSchema(json.dumps(tree)).to_json(b"\2" * 1_000_000 + b"\0")
    empty = {"type": "record", "name": "E", "fields": [{"name": "f", "type": "null"}]}
    for members in ("null", empty, {"type": "fixed", "name": "F", "size": 0}):
        with pytest.raises(SchemaUnusable, match="members that take no bytes"):
            AvroSchema(json.dumps({"type": "map", "values": {"type": "array", "items": members}}))
    long = io.BytesIO()
    fastavro.schemaless_writer(long, "bytes", b"\x7f" * (MAX_DECIMAL_BYTES + 1))
    with pytest.raises(Undecodable, match="a decimal of 1025 bytes"):
        AvroSchema(json.dumps(DECIMAL)).to_json(long.getvalue())


FIELD = descriptor_pb2.FieldDescriptorProto
KINDS = {
    "DOUBLE": st.floats(),
    "FLOAT": st.floats(width=32),
    "INT64": SCALARS["long"],
    "UINT64": st.integers(0, 2**64 - 1),
    "INT32": SCALARS["int"],
    "SINT32": SCALARS["int"],
    "BOOL": st.booleans(),
    "STRING": st.text(),
    "BYTES": st.binary(),
    "ENUM": st.sampled_from([0, 1]),
}


@st.composite
def files(draw: Any) -> tuple[Any, dict[str, Any]]:
    """A file whose second message has fields of many kinds, and values for it."""
    file = descriptor_pb2.FileDescriptorProto(name="f.proto", package="p", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    file.enum_type.add(name="Kind").value.extend(
        descriptor_pb2.EnumValueDescriptorProto(name=name, number=number)
        for number, name in enumerate(["VIEW", "ORDER"])
    )
    file.message_type.add(name="Other")
    outer = file.message_type.add(name="Outer")
    values = {}
    for number, kind in enumerate(draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=6)), start=1):
        is_list = draw(st.booleans())
        label = FIELD.LABEL_REPEATED if is_list else FIELD.LABEL_OPTIONAL
        field = outer.field.add(name=f"f{number}", number=number, type=FIELD.Type.Value(f"TYPE_{kind}"), label=label)
        if kind == "ENUM":
            field.type_name = ".p.Kind"
        values[f"f{number}"] = draw(st.lists(KINDS[kind], max_size=3) if is_list else KINDS[kind])
    return file, values


@given(files(), st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_protobuf_message_comes_back_and_no_other_bytes_raise_anything_else(
    drawn: tuple[Any, dict[str, Any]], damaged: bytes
) -> None:
    file, values = drawn
    decoder = ProtobufSchema(file.SerializeToString())
    pool = descriptor_pool.DescriptorPool()
    for module in (timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("p.Outer"))(**values)
    found = json.loads(decoder.to_json(b"\2\2" + message.SerializeToString()), parse_float=Decimal)
    kinds = {field.name: field.type for field in file.message_type[1].field}
    for name, value in values.items():
        names = {0: "VIEW", 1: "ORDER"}
        if kinds[name] == FIELD.TYPE_ENUM:
            value = [names[one] for one in value] if isinstance(value, list) else names[value]
        assert same(found[name], value)
    with suppress(Undecodable):
        json.loads(decoder.to_json(damaged))
