"""Protobuf's binary encoding becomes JSON, by the descriptor of the file that declares the message.

| Protobuf | JSON |
|---|---|
| message, map | object; the names of fields are those of the file (`user_id`) |
| field without presence (proto3) | its value, or its default: nobody can tell which of both was sent |
| field with presence that is not set | left out |
| all integers | number |
| enum | its name; a number without a name stays a number |
| bytes | base64 |
| `google.protobuf.Timestamp` | RFC 3339 |
| other well-known types | as Protobuf's own JSON has them; the wrappers are their values |
| `confluent.type.Decimal` | number, with all its digits |
| NaN and infinities | null |

In Confluent's wire format the indexes of the message type in its file stand before the message. Knows no registry.
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from streams.receive.schema import MAX_DECIMAL_BYTES, SchemaUnusable, Undecodable, module_of_extra

_ENCODER = msgspec.json.Encoder(decimal_format="number")
WELL_KNOWN = ("any", "api", "descriptor", "duration", "empty", "field_mask", "source_context", "struct", "timestamp")
"""Files that the package has itself, as `google/protobuf/<name>.proto`; `type` and `wrappers` below."""
_BUILT_IN = {f"google/protobuf/{name}.proto": name for name in (*WELL_KNOWN, "type", "wrappers")}
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)
_DECIMAL = "confluent.type.Decimal"
_DECIMAL_FILE = "confluent/type/decimal.proto"
"""Part of every registry of Confluent, so no schema refers to it: bytes value = 1, uint32 precision, int32 scale."""
_MAX_VARINT_BYTES = 10


class ProtobufSchema:
    """A file of messages, and the decoding of what was written with it.

    Parameters
    ----------
    descriptor : bytes
        The file, as a serialised `FileDescriptorProto`.
    references : mapping of str to bytes
        The files that it imports, by the name under which they are imported, each behind those that it imports itself.

    Raises
    ------
    SchemaUnusable
        The descriptor is none, or imports a file that is not there, or Protobuf's package is not installed.
    """

    def __init__(self, descriptor: bytes, references: Mapping[str, bytes] | None = None) -> None:
        module_of_extra("google.protobuf", "Protobuf")
        self._pool = importlib.import_module("google.protobuf.descriptor_pool").DescriptorPool()
        self._added: set[str] = set()
        try:
            for name, reference in (references or {}).items():
                self._add(name, reference)
            self._file = self._add("schema.proto", descriptor)
        except Exception as error:  # noqa: BLE001  Protobuf raises many kinds for a broken descriptor
            raise SchemaUnusable(f"is no Protobuf file that can be used ({type(error).__name__}: {error})") from None

    def to_json(self, payload: bytes) -> bytes:
        """Decode the indexes and the message.

        Raises
        ------
        Undecodable
            The bytes are no such message.
        """
        indexes, start = _indexes(payload)
        message_type = self._message_type(indexes)
        try:
            message = _class_of(message_type)()
            message.ParseFromString(payload[start:])
            return _ENCODER.encode(_plain(message))
        except Exception as error:  # noqa: BLE001  Protobuf raises many kinds for a broken message
            raise Undecodable(f"{message_type.full_name}: {type(error).__name__}: {error}") from None

    def _add(self, name: str, descriptor: bytes) -> Any:
        """Add a file to the pool, and before it those of its imports that the package has."""
        file = importlib.import_module("google.protobuf.descriptor_pb2").FileDescriptorProto.FromString(descriptor)
        file.name = name
        for needed in list(file.dependency):
            self._add_built_in(needed)
        missing = [needed for needed in file.dependency if needed not in self._added]
        _drop_imports(file, missing)
        try:
            self._pool.Add(file)
            added = self._pool.FindFileByName(name)
        except (TypeError, KeyError) as error:
            because = f"it imports {', '.join(missing)}, to which the registry names no reference: {error}"
            raise TypeError(because if missing else str(error)) from None
        self._added.add(name)
        return added

    def _add_built_in(self, name: str) -> None:
        if name in self._added:
            return
        if name in _BUILT_IN:
            module = importlib.import_module(f"google.protobuf.{_BUILT_IN[name]}_pb2")
            for needed in module.DESCRIPTOR.dependencies:
                self._add_built_in(needed.name)
            self._pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        elif name == _DECIMAL_FILE:
            self._pool.Add(_decimal_file())
        else:
            return
        self._added.add(name)

    def _message_type(self, indexes: tuple[int, ...]) -> Any:
        """Return the descriptor of the message to which the indexes lead. The entries of maps are not counted."""
        types, found = list(self._file.message_types_by_name.values()), None
        for index in indexes:
            if not 0 <= index < len(types):
                raise Undecodable(f"the message indexes {list(indexes)} lead to no message of the file")
            found = types[index]
            types = [nested for nested in found.nested_types if not nested.GetOptions().map_entry]
        return found


def _indexes(payload: bytes) -> tuple[tuple[int, ...], int]:
    """Return the indexes of the message type, and where the message begins. One byte 0 stands for the first type."""
    count, position = _varint(payload, 0)
    if not 0 <= count <= len(payload):
        raise Undecodable(f"got {count} message indexes, expected some few")
    indexes = []
    for _ in range(count):
        index, position = _varint(payload, position)
        indexes.append(index)
    return tuple(indexes) or (0,), position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a number in zigzag encoding; return it, and the position behind it."""
    number = 0
    for shift, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), position + shift + 1
    raise Undecodable("the message indexes end too early")


def _class_of(descriptor: Any) -> Any:
    return importlib.import_module("google.protobuf.message_factory").GetMessageClass(descriptor)


def _drop_imports(file: Any, names: list[str]) -> None:
    """Leave imports out that may serve nothing but options, such as `confluent/meta.proto`."""
    kept = [name for name in file.dependency if name not in names]
    if len(kept) != len(file.dependency):
        file.ClearField("public_dependency")
        file.ClearField("weak_dependency")
        del file.dependency[:]
        file.dependency.extend(kept)


def _decimal_file() -> Any:
    pb = importlib.import_module("google.protobuf.descriptor_pb2")
    field = pb.FieldDescriptorProto
    file = pb.FileDescriptorProto(name=_DECIMAL_FILE, package="confluent.type", syntax="proto3")
    message = file.message_type.add(name="Decimal")
    for number, (name, kind) in enumerate(
        (("value", field.TYPE_BYTES), ("precision", field.TYPE_UINT32), ("scale", field.TYPE_INT32)), start=1
    ):
        message.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    return file


def _plain(message: Any) -> Any:
    """Give a message as JSON's types."""
    name = message.DESCRIPTOR.full_name
    if name in _WRAPPERS:
        return _scalar(message.DESCRIPTOR.fields_by_name["value"], message.value)
    if name == _DECIMAL:
        return _decimal(message)
    if name.startswith("google.protobuf."):
        return importlib.import_module("google.protobuf.json_format").MessageToDict(message)
    plain = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        plain[field.name] = _field(field, getattr(message, field.name))
    return plain


def _decimal(message: Any) -> Decimal:
    if len(message.value) > MAX_DECIMAL_BYTES:  # the time of the conversion grows with the square of the length
        raise ValueError(f"a decimal of {len(message.value)} bytes, expected at most {MAX_DECIMAL_BYTES}")
    return Decimal(int.from_bytes(message.value, "big", signed=True)).scaleb(-message.scale)


def _field(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of_value = field.message_type.fields_by_name["value"]
        return {_key(key): _one(of_value, value[key]) for key in value}
    if field.is_repeated:
        return [_one(field, member) for member in value]
    return _one(field, value)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _one(field: Any, value: Any) -> Any:
    return _plain(value) if field.message_type is not None else _scalar(field, value)


def _scalar(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
