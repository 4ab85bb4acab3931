"""The key that a message must have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.contracts import Item, Sendable, Triple
from streams.receive.triples import TOPIC

FIELDS = {"items": ("item_id",), TOPIC: ("head", "relation", "tail")}
"""The topics whose keys are checked, and the fields that a key consists of."""


def key_of(message: Sendable) -> str:
    """Return the key of a message in its topic."""
    if isinstance(message, Triple):
        return message.key
    return message.item_id if isinstance(message, Item) else message.user_id


def key_of_fields(topic: str, fields: Mapping[str, Any]) -> bytes | None:
    """Return the key of a message of these fields, as they were decoded from JSON; None where no worker checks it.

    The contract reads an integer for an id as the text of its digits, so its key has these digits.

    >>> key_of_fields("items", {"item_id": 7}), key_of_fields("knowledge", {"head": "a", "relation": "by", "tail": "b"})
    (b'7', b'a\\tby\\tb')
    """
    names = FIELDS.get(topic)
    return None if names is None else "\t".join(str(fields.get(name)) for name in names).encode("utf-8", "replace")
