"""The stored form of the counts: one record per item and shard, its key and its MessagePack value.

Knows no table and no transport. `decode_counts` checks everything that a foreign writer could get wrong.
"""

from __future__ import annotations

import re
from math import inf

import msgspec
import numpy as np

from ranker.recall.count_tables import NEVER

_KEY = re.compile(rb"([0-9]{1,4}):([0-9]{1,20})")
"""`shard:item`. A shard is the number of a partition, so four digits are enough."""


class ItemCounts(msgspec.Struct, array_like=True):
    """The counts of one item in one shard: base-2 logarithms of decayed counts at time 0.

    Attributes
    ----------
    popularity : float
        The item's events; -inf for none.
    trend : float
        The same with the shorter half-life.
    neighbours : bytes
        (n,) little-endian uint64, the keys of the items visited together with it,
        n <= `ranker.recall.count_tables.MAX_NEIGHBOURS`.
    strengths : bytes
        (n,) little-endian float64, the co-visits with each neighbour.
    """

    popularity: float = NEVER
    trend: float = NEVER
    neighbours: bytes = b""
    strengths: bytes = b""


_decoder = msgspec.msgpack.Decoder(ItemCounts)


def encode_counts(shard: int, item: int, counts: ItemCounts) -> tuple[bytes, bytes]:
    """Return the key and the value under which the counts of an item are stored."""
    return f"{shard}:{item}".encode(), msgspec.msgpack.encode(counts)


def decode_key(key: bytes | None) -> tuple[int, int]:
    """Read a key that `encode_counts` wrote: shard and item key.

    Raises
    ------
    ValueError
        It is something else.
    """
    match = _KEY.fullmatch(key or b"")
    if match is None:
        raise ValueError("item counts: got another key, expected shard:item; nobody else may write to this topic")
    shard, item = int(match[1]), int(match[2])
    if item >= 2**64:
        raise ValueError("item counts: got an item key over 64 bits; nobody else may write to this topic")
    return shard, item


def decode_counts(key: bytes | None, value: bytes) -> tuple[int, int, ItemCounts]:
    """Read what `encode_counts` wrote: shard, item key and counts.

    Raises
    ------
    ValueError
        The record is something else. A NaN that got in would spread to every sum.
    """
    shard, item = decode_key(key)
    try:
        counts = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"item counts: got {error}, expected counts; nobody else may write to this topic") from None
    if len(counts.neighbours) != len(counts.strengths) or len(counts.neighbours) % 8:
        raise ValueError(
            "item counts: got arrays of different or odd lengths, expected 8 bytes per entry in both; nobody else may "
            "write to this topic"
        )
    if not (counts.popularity < inf and counts.trend < inf and (np.frombuffer(counts.strengths, "<f8") < inf).all()):
        raise ValueError("item counts: got NaN or infinity, expected logarithms; nobody else may write to this topic")
    return shard, item, counts
