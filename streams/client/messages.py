"""The messages of a client: made, encoded, and validated as the workers will validate them; and what it receives.

Knows no transport.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from streams.client.errors import MessageRefused, ServiceRefused
from streams.contracts import (
    LIST_SCHEMA,
    TOPICS,
    Item,
    Recommendations,
    RecommendedItem,
    Sendable,
)
from streams.receive.decode import INPUTS, receive
from streams.receive.keys import key_of
from streams.receive.message import BadMessage, Message

_TOPIC_OF = {TOPICS[topic]: topic for topic in INPUTS}


class Forgotten(NamedTuple):
    """The user was forgotten: delete every copy of the user's list for this placement."""

    user_id: str
    placement: str | None = None

    @property
    def items(self) -> tuple[RecommendedItem, ...]:
        """No items, for readers that look at the items of whatever they get."""
        return ()


class KeyedMessage(NamedTuple):
    """A message as it is sent.

    Attributes
    ----------
    source : message or None
        What the caller gave; None deletes the item that `key` names.
    topic : str
        The contract's name, without a prefix.
    key : bytes
    value : bytes or None
    """

    source: Sendable | None
    topic: str
    key: bytes
    value: bytes | None


def new_id() -> str:
    """Return an id that no other event has."""
    return uuid.uuid4().hex


def now_ms() -> int:
    """Return the wall clock in milliseconds, rounded down so that no event is later than its record."""
    return time.time_ns() // 1_000_000


def keyed(message: Sendable, index: int | None = None) -> KeyedMessage:
    """Encode a message, and validate it as step 1 of the workers does.

    Parameters
    ----------
    message : Click, Purchase, Impression, Item, Triple, Forget, UserMerge or RankRequest
    index : int, optional
        Its position in a call with several messages, for the error.

    Raises
    ------
    MessageRefused
        The workers would reject it.
    """
    try:
        return _keyed(message)
    except (BadMessage, ValueError, TypeError) as error:
        where = "" if index is None else f"message {index}: "
        raise MessageRefused(f"{where}{error}") from None


def _keyed(message: Sendable) -> KeyedMessage:
    topic = _TOPIC_OF.get(type(message))
    if topic is None:
        expected = ", ".join(struct.__name__ for struct in _TOPIC_OF)
        raise TypeError(f"got a {type(message).__name__}, expected one of {expected}; make one, from streams.client")
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, float) and not math.isfinite(value):  # JSON has no such number; it would arrive as null
            raise ValueError(f"{topic}: {name}: got {value}, expected a finite number; leave it out if it is not known")
    try:
        key = key_of(message).encode()
        encoded = msgspec.json.encode(message)
    except (UnicodeEncodeError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{topic}: got {error}, expected texts in UTF-8 and JSON's types; correct {message!r}"
        ) from None
    receive(Message(topic, 0, 0, key, encoded), now_ms())
    return KeyedMessage(message, topic, key, encoded)


def deletion(item_id: str) -> KeyedMessage:
    """Return the message that deletes an item: a null value under its id.

    Raises
    ------
    MessageRefused
        No item can have this id.
    """
    return KeyedMessage(None, "items", keyed(Item(item_id=item_id, title="-")).key, None)


def sources(messages: Iterable[KeyedMessage]) -> tuple[Sendable, ...]:
    """Return what the caller gave, without deletions."""
    return tuple(message.source for message in messages if message.source is not None)


def decode_list(value: bytes, where: str) -> Recommendations:
    """Decode a list.

    Raises
    ------
    ServiceRefused
        It is no list, or one of a newer schema.
    """
    try:
        decoded = msgspec.json.decode(value, type=Recommendations)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceRefused(
            f"{where}: got {error}, expected a list; a newer worker may have written it: upgrade"
        ) from None
    if decoded.schema > LIST_SCHEMA:
        raise ServiceRefused(
            f"{where}: got a list of schema {decoded.schema}, expected at most {LIST_SCHEMA}; a newer worker wrote it: "
            "upgrade the client"
        )
    return decoded
