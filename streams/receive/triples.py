"""Step 1 for the topic `knowledge`: a triple's key names it, so that a null value under that key can delete it."""

from __future__ import annotations

import msgspec

from streams.contracts import MAX_ID_BYTES, Triple
from streams.receive.message import BadMessage, Message, Tombstone

TOPIC = "knowledge"
_EXPECTED = "head, relation and tail with tabs between them"


def check(message: Message, triple: Triple) -> Triple:
    """Return the triple of a message if the workers can use it.

    Raises
    ------
    BadMessage
        The key is another one, or the triple says nothing.
    """
    if message.key != triple.key.encode():
        raise BadMessage(
            "key",
            f"{TOPIC}: got the key {message.key!r}, expected {triple.key!r}: {_EXPECTED}; the topic is compacted by "
            "key: under another key the triple could never be deleted",
            "key is not head, relation and tail",
        )
    for field in ("head", "tail"):
        if (size := len(getattr(triple, field).encode())) > MAX_ID_BYTES:
            raise BadMessage(
                "invalid",
                f"{TOPIC}: {field}: got {size} bytes of UTF-8, expected at most {MAX_ID_BYTES}; send a shorter id",
                f"{field} over {MAX_ID_BYTES} bytes",
            )
    if triple.head == triple.tail:
        raise BadMessage(
            "invalid",
            f"{TOPIC}: tail: got the head itself, {triple.head!r}, expected another node; leave the triple out",
            "tail is the head",
        )
    return triple


def deleted(tombstone: Tombstone) -> Triple:
    """Return the triple that a null value deletes, by its key.

    Raises
    ------
    BadMessage
        The key is none of a triple.
    """
    names = dict(zip(("head", "relation", "tail"), tombstone.key.split("\t"), strict=False))
    try:
        if tombstone.key.count("\t") == 2:
            return msgspec.convert(names, Triple)
    except msgspec.ValidationError:
        pass
    raise BadMessage(
        "key",
        f"{TOPIC}: got a null value with the key {tombstone.key!r:.200}, expected the key of a triple: {_EXPECTED}",
        "key is not head, relation and tail",
    )
