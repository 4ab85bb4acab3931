"""Damage a batch in Kafka's log on disk while the broker runs, as a failing disk does."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from aiokafka.record.util import calc_crc32c

HEADER_BYTES = 61
"""Of a batch, before its records."""


def damage(data: Path, topic: str, partition: int, how: Callable[[bytearray], None]) -> int:
    """Change the last batch of a partition in its newest segment; return the offset of the batch's first record.

    Parameters
    ----------
    data : Path
        The broker's data folder.
    topic, partition : str, int
    how : callable
        Changes the bytes of the batch.
    """
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
    """Flip the bits of a byte after the header."""
    batch[HEADER_BYTES + 5] ^= 0xFF


def unknown_codec(batch: bytearray) -> None:
    """Name a compression that does not exist, with a right checksum."""
    (attributes,) = struct.unpack_from(">h", batch, 21)
    struct.pack_into(">h", batch, 21, attributes & ~7 | 5)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))


def broken_frame(batch: bytearray) -> None:
    """Write an impossible length, after which the broker itself cannot read on."""
    struct.pack_into(">i", batch, 8, 3)
