"""Fault: aiokafka decompresses without a bound, so a batch that is small in Kafka may fill its reader's memory.

Ten kilobytes of zstd may hold 300 MB, and a message of the largest size that Kafka takes by default 30 GB: the system
would kill the worker, and again after each start. Here a batch with more than `MAX_BYTES` of records raises `TooLarge`,
and `unreadable` passes that batch. `install` replaces aiokafka's functions for the whole process.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any

import cramjam

MAX_BYTES = 128 << 20
"""Of one batch's records; chosen by us: before compression, producers' batches have a few megabytes at most."""
FIRST_GUESS, GROWTH = 8, 8
"""Times the compressed size: JSON shrinks to about a fifth."""
_FULL = "failed to write whole buffer"


class TooLarge(ValueError):
    """The records of a batch take more than `MAX_BYTES`."""


def gzip_decode(payload: Any) -> bytes:
    """Decompress gzip, one member or several."""
    parts, size, left = [], 0, bytes(payload)
    while left:
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(left, MAX_BYTES - size + 1))
        size += len(parts[-1])
        if size > MAX_BYTES:
            raise _too_large("gzip")
        if not member.eof:
            raise zlib.error("the gzip stream is incomplete")
        left = member.unused_data
    return b"".join(parts)


def lz4_decode(payload: Any) -> bytes:
    """Decompress an LZ4 frame."""
    return _decode("lz4", cramjam.lz4.decompress_into, payload)


def zstd_decode(payload: Any) -> bytes:
    """Decompress a zstd frame."""
    return _decode("zstd", cramjam.zstd.decompress_into, payload)


def _decode(codec: str, decompress_into: Callable[[Any, bytearray], int], payload: Any) -> bytes:
    """Decompress into a buffer that grows, because neither codec has to tell the size beforehand."""
    size = min(MAX_BYTES, FIRST_GUESS * len(payload) + 1024)
    while True:
        buffer = bytearray(size)
        try:
            return bytes(memoryview(buffer)[: decompress_into(payload, buffer)])
        except cramjam.DecompressionError as error:
            if _FULL not in str(error):
                raise
        if size == MAX_BYTES:
            raise _too_large(codec)
        size = min(MAX_BYTES, GROWTH * size)


def _too_large(codec: str) -> TooLarge:
    return TooLarge(f"a batch in {codec} with over {MAX_BYTES >> 20} MiB of records")


def install() -> None:
    """From now on every consumer of this process decompresses with a bound. Snappy needs none: it shrinks 20-fold."""
    for name in ("default_records", "legacy_records", "_crecords.default_records", "_crecords.legacy_records"):
        try:
            module = importlib.import_module(f"aiokafka.record.{name}")
        except ImportError:  # aiokafka without its C extensions
            continue
        for decode in (gzip_decode, lz4_decode, zstd_decode):
            if hasattr(module, decode.__name__):
                setattr(module, decode.__name__, decode)
