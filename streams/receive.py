"""Step 1, receive: decode and validate one message, or say in words what is wrong with it.

Pure: knows neither Kafka nor where a rejected message goes. `pipeline` calls it and dead-letters what it refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from encoders.event_time import milliseconds
from streams.contracts import (
    MAX_ID_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_REQUEST_BYTES,
    TOPICS,
    Click,
    DeadLetter,
    Forget,
    Impression,
    Item,
    RankRequest,
)

EARLIEST_MS = 631_152_000_000
"""1990-01-01: an event time before it is a unit error (seconds sent as milliseconds) or a default of 0."""
FUTURE_MS = 24 * 3_600_000
"""How far ahead of our clock an event time may be: time zones taken for UTC are wrong by less."""
INPUTS = ("clicks", "purchases", "impressions", "items", "rank-requests", "forget")
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {topic: msgspec.json.Decoder(TOPICS[topic]) for topic in INPUTS}
_TOMBSTONES = {"items": "it deletes the item", "rank-requests": "it means that the user was forgotten"}

Accepted = Click | Impression | Item | RankRequest | Forget


@dataclass(frozen=True)
class Message:
    """One record as it came from Kafka. `topic` is the contract's name, without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    def dead_letter(self, error: str) -> DeadLetter:
        """This message whole, with what is wrong with it."""
        return DeadLetter(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            error=error,
            payload=self.value,
            key=self.key,
        )


@dataclass(frozen=True)
class Tombstone:
    """A null value where it means something; `key` is the item's or the user's id."""

    key: str


class BadMessage(Exception):
    """The message cannot be accepted; `reason` is a short label, the text says what, got, expected and what to do."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason


def receive(message: Message, now_ms: int) -> Accepted | Tombstone:
    """Decode and validate.

    Raises
    ------
    BadMessage
        With a text for the producer of the message.
    """
    topic, value = message.topic, message.value
    if topic not in _DECODERS:
        raise BadMessage("topic", f"got a message of the topic {topic!r}, expected one of {', '.join(INPUTS)}")
    if value is None:
        if topic in _TOMBSTONES and message.key:
            return Tombstone(_text(message.key))
        raise BadMessage("null", f"{topic}: got a null value, expected a JSON object; {_null_advice(topic)}")
    most = MAX_REQUEST_BYTES if topic == "rank-requests" else MAX_MESSAGE_BYTES
    if len(value) > most:
        raise BadMessage("too-large", f"{topic}: got {len(value)} bytes, expected at most {most}; send less text")
    try:
        decoded = _DECODERS[topic].decode(value)
    except msgspec.ValidationError as error:
        raise BadMessage("invalid", f"{topic}: {error}; `afterclick schema {topic}` prints what is expected") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage("malformed", f"{topic}: {error}; expected one JSON object in UTF-8") from None
    _check_ids(topic, decoded)
    _check_time(topic, decoded, now_ms)
    if isinstance(decoded, Item) and message.key != decoded.item_id.encode():
        raise BadMessage(
            "key",
            f"items: got the key {message.key!r}, expected the item_id {decoded.item_id!r}; "
            "the topic is compacted by key: with another one the item could never be deleted",
        )
    accepted: Accepted = decoded
    return accepted


def _null_advice(topic: str) -> str:
    if topic in _TOMBSTONES:
        return f"a null value needs a key here: {_TOMBSTONES[topic]}"
    return "to erase a user write to the topic forget"


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise BadMessage("key", f"got the key {key!r}, expected UTF-8; send the id as text") from None


def _check_ids(topic: str, decoded: Accepted) -> None:
    for field in ("event_id", "user_id", "item_id", "list_id", "session_id", "request_id"):
        id_ = getattr(decoded, field, None)
        if id_ is not None and (size := len(id_.encode())) > MAX_ID_BYTES:
            raise BadMessage(
                "invalid",
                f"{topic}: {field}: got {size} bytes of UTF-8, expected at most {MAX_ID_BYTES}; send a shorter id",
            )


def _check_time(topic: str, decoded: Accepted, now_ms: int) -> None:
    field = "as_of" if isinstance(decoded, RankRequest) else "timestamp"
    timestamp = getattr(decoded, field)
    if timestamp is None:
        return
    time_ms = milliseconds(timestamp)
    if time_ms < EARLIEST_MS:
        raise BadMessage(
            "time",
            f"{topic}: {field}: got {time_ms} ms since the epoch, expected 1990 or later; are these seconds? "
            "integers are milliseconds",
        )
    if time_ms > now_ms + FUTURE_MS:
        raise BadMessage(
            "time",
            f"{topic}: {field}: got {time_ms} ms since the epoch, {(time_ms - now_ms) / 3_600_000:.1f} hours ahead "
            "of this clock, expected at most 24; are these microseconds? integers are milliseconds",
        )
