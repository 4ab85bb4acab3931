"""Damage to what Kafka has on disk, as a failing disk does it: in place, under a broker that runs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from aiokafka.record.util import calc_crc32c

HEADER = 61
"""Bytes of a batch before its records."""


def damage(data: Path, topic: str, partition: int, how: Callable[[bytearray], None]) -> int:
    """Change the newest batch of a partition that holds records; the offset of its first one."""
    segment = max((data / f"{topic}-{partition}").glob("*.log"))
    log = bytearray(segment.read_bytes())
    begin, position = 0, 0
    while position < len(log):
        begin, (_, length) = position, struct.unpack_from(">qi", log, position)
        position += 12 + length
    batch = log[begin:position]
    how(batch)
    with segment.open("r+b") as file:
        file.seek(begin)
        file.write(batch)
    first: int = struct.unpack_from(">q", batch)[0]
    return first


def wrong_checksum(batch: bytearray) -> None:
    batch[HEADER + 5] ^= 0xFF


def unknown_codec(batch: bytearray) -> None:
    (attributes,) = struct.unpack_from(">h", batch, 21)
    struct.pack_into(">h", batch, 21, attributes & ~7 | 5)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))


def broken_frame(batch: bytearray) -> None:
    """A length that cannot be: the broker itself cannot read on from there."""
    struct.pack_into(">i", batch, 8, 3)
