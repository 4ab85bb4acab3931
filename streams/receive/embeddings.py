"""The vectors and numbers that items bring: what is wrong with a vector, and which of them a worker keeps.

The first vector of a name fixes the number of its components, unless the settings do. Knows no space and no catalogue.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping

import msgspec

from streams.contracts import MAX_DIM, Item
from streams.receive.message import BadMessage

MAX_NUMBER = 1e30
"""Of an attribute that is kept as a number; above it, it says nothing."""
_HALF = 2
"""Bytes of a component."""
_UNIT = 2.0**-9
"""How far the length of a unit vector in float16 may be from 1."""


def packed(item: Item) -> Item:
    """Return an item whose vectors are of unit length, as little-endian float16; names without a vector are dropped.

    Raises
    ------
    BadMessage
        A vector has no direction, or is none. The text is for the item's producer.
    """
    return msgspec.structs.replace(item, embeddings=dict(packed_vectors(item))) if item.embeddings else item


def packed_vectors(item: Item) -> tuple[tuple[str, bytes], ...]:
    """Return an item's vectors by name, as `packed` makes them; those of a packed item are as they were.

    Raises
    ------
    BadMessage
        See `packed`.
    """
    return tuple((name, _packed(name, vector)) for name, vector in item.embeddings.items() if vector is not None)


def numbers_of(item: Item, names: Collection[str]) -> tuple[tuple[str, float], ...]:
    """Return the attributes of these names that are finite numbers; a boolean is none. `price` is the item's price."""
    found = ((name, item.attributes.get(name, item.price if name == "price" else None)) for name in names)
    return tuple(
        (name, float(value))
        for name, value in found
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
    )


def _packed(name: str, vector: list[float] | bytes) -> bytes:
    values = vector if isinstance(vector, list) else _unpacked(name, vector)
    length = math.hypot(*values)
    if not 0 < length < math.inf:
        raise _bad(name, f"a vector of length {length:g}", "a length above 0 and finite", "without a direction")
    if isinstance(vector, bytes) and abs(length - 1) < _UNIT:
        return vector
    return struct.pack(f"<{len(values)}e", *(value / length for value in values))


def _unpacked(name: str, vector: bytes) -> tuple[float, ...]:
    count, rest = divmod(len(vector), _HALF)
    if rest or not 0 < count <= MAX_DIM:
        raise _bad(name, f"{len(vector)} bytes", f"two for each of 1 to {MAX_DIM} components", "of other bytes")
    return struct.unpack(f"<{count}e", vector)


def _bad(name: str, got: str, expected: str, cause: str) -> BadMessage:
    text = f"items: embeddings.{name}: got {got}, expected {expected}; send another vector, or leave it out"
    return BadMessage("invalid", text, f"embeddings {cause}")


class EmbeddingNames:
    """The vectors that are kept, by name, and how many components those of a name have.

    Parameters
    ----------
    names : mapping of str to int or None
        None: the first vector tells.

    Attributes
    ----------
    ignored : set of str
        Names that items brought and that are none of these.
    """

    def __init__(self, names: Mapping[str, int | None]) -> None:
        self._dims = dict(names)
        self.ignored = set[str]()

    def kept(self, item: Item) -> Item:
        """Return a packed item with the vectors of these names alone.

        Raises
        ------
        BadMessage
            A vector has another number of components than the first one of its name.
        """
        if not item.embeddings:
            return item
        kept = {name: vector for name, vector in item.embeddings.items() if name in self._dims}
        self.ignored.update(item.embeddings.keys() - kept.keys())
        dims = {name: len(vector) // _HALF for name, vector in kept.items() if vector is not None}
        for name, dim in dims.items():
            if (expected := self._dims[name] or dim) != dim:
                raise BadMessage(
                    "invalid",
                    f"items: embeddings.{name}: got {dim} components, expected {expected}, as the first vector of this "
                    "name or AFTERCLICK_CANDIDATES__SPACES has; send the vectors of another model under another name",
                    "embeddings of another dimension",
                )
        self._dims |= dims
        return item if len(kept) == len(item.embeddings) else msgspec.structs.replace(item, embeddings=kept)
