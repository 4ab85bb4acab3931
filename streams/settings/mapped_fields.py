"""The fields of the contract that a mapping can fill, by input: which are required, and what kind of value each takes.

Knows no mapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from msgspec import inspect

from streams.contracts import TOPICS

FieldKind = Literal["id", "ids", "texts", "object", "boolean", "time", "number", "text"]


@dataclass(frozen=True)
class MappedField:
    """One field of a contract.

    Attributes
    ----------
    required : bool
        A message without it is rejected.
    kind : FieldKind
        What its value is. `ids` and `texts` are lists; `object` has names of its own.
    """

    required: bool
    kind: FieldKind


@cache
def mapped_fields(input_name: str) -> dict[str, MappedField]:
    """Return the fields of an input's contract by name.

    >>> [name for name, field in mapped_fields("items").items() if field.required]
    ['item_id', 'title']
    >>> mapped_fields("impressions")["items"]
    MappedField(required=True, kind='ids')
    """
    info = inspect.type_info(TOPICS[input_name])
    assert isinstance(info, inspect.StructType)
    return {field.name: MappedField(field.required, _kind(field.name, field.type)) for field in info.fields}


def _kind(name: str, type_: inspect.Type) -> FieldKind:
    if name.endswith("_id"):
        return "id"
    types = _members(type_)
    if any(isinstance(member, inspect.DateTimeType) for member in types):
        return "time"
    for member in types:
        if isinstance(member, inspect.ListType):
            [inner] = _members(member.item_type)
            return "ids" if isinstance(inner, inspect.StrType) and inner.min_length else "texts"
        if isinstance(member, inspect.DictType):
            return "object"
        if isinstance(member, inspect.BoolType):
            return "boolean"
        if isinstance(member, (inspect.FloatType, inspect.IntType)):
            return "number"
    return "text"


def _members(type_: inspect.Type) -> list[inspect.Type]:
    if isinstance(type_, inspect.Metadata):
        return _members(type_.type)
    if isinstance(type_, inspect.UnionType):
        return [member for inner in type_.types for member in _members(inner)]
    return [type_]
