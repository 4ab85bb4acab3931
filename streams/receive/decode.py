"""Step 1, receive: decode and validate one message, or say in words what is wrong with it.

Strict first, which is fast; what fails that is read again the lenient way (`lenient`), and what fails that too is
refused, by name if its format is known (`wire_formats`). Pure: knows neither Kafka nor where a rejected message goes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, TypeVar

import msgspec

from encoders.event_time import milliseconds
from encoders.text.blank_text import is_blank
from streams.contracts import (
    COLD_START_USER,
    MAX_ID_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_REQUEST_BYTES,
    TOPICS,
    Click,
    DeadLetter,
    Forget,
    Impression,
    Item,
    Purchase,
    RankRequest,
)
from streams.receive import lenient, wire_formats

EARLIEST_MS = 631_152_000_000
"""1990-01-01: an event time before it is a unit error (seconds sent as milliseconds) or a default of 0."""
FUTURE_MS = 24 * 3_600_000
"""How far after its record an event may be dated: time zones taken for UTC are wrong by less."""
INPUTS = ("clicks", "purchases", "impressions", "items", "rank-requests", "forget")
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {topic: msgspec.json.Decoder(TOPICS[topic]) for topic in INPUTS}
_TOMBSTONES = {"items": "it deletes the item", "rank-requests": "it means that the user was forgotten"}
_IDS = {
    struct: tuple(name for name in struct.__struct_fields__ if name.endswith("_id"))
    for struct in (Click, Purchase, Impression, Item, RankRequest, Forget)
}
_SURELY_SHORT = MAX_ID_BYTES // 4
"""Characters that fit in an id's bytes whatever they are."""
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)

Accepted = Click | Impression | Item | RankRequest | Forget
Priced = TypeVar("Priced", Item, Purchase)


class Unreadable(bytes):
    """The value of a message that stands for a batch of Kafka which cannot be read; without bytes of its own.

    Attributes
    ----------
    error : str
        What is wrong with the batch, and which offsets it held.
    """

    error: str

    def __new__(cls, error: str) -> Unreadable:
        made = super().__new__(cls)
        made.error = error
        return made


@dataclass(frozen=True)
class Message:
    """One record as it came from Kafka. `topic` is the contract's name, without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    def dead_letter(self, error: str, cause: str = "") -> DeadLetter:
        """This message whole, with what is wrong with it."""
        return DeadLetter(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            error=error,
            payload=None if isinstance(self.value, Unreadable) else self.value,
            key=self.key,
            cause=cause,
        )


@dataclass(frozen=True)
class Tombstone:
    """A null value where it means something; `key` is the item's or the user's id."""

    key: str


class BadMessage(Exception):
    """The message cannot be accepted; the text says what, got, expected and what to do.

    Attributes
    ----------
    reason : one of a few words, for metrics.
    cause : what is wrong, the same for all messages that fail alike; holds nothing of the message's content.
    """

    def __init__(self, reason: str, error: str, cause: str = "") -> None:
        super().__init__(error)
        self.reason = reason
        self.cause = cause or reason


def receive(
    message: Message,
    now_ms: int,
    zone: tzinfo | None = None,
    ours: bool = False,
    taken: list[str] | None = None,
) -> Accepted | Tombstone:
    """Decode and validate.

    Parameters
    ----------
    now_ms : when the message was written; its own time may be at most `FUTURE_MS` later.
    zone : of times without one; None: they are refused.
    ours : a worker wrote it. Then neither its size nor being of the future is a reason to refuse it, and the user of
        a rank request may be `*`.
    taken : gets the kinds of values that were taken though they are not as the contract has them (`lenient`).

    Raises
    ------
    BadMessage
        With a text for the producer of the message.
    """
    topic, value = message.topic, message.value
    if topic not in _DECODERS:
        raise BadMessage("topic", f"got a message of the topic {topic!r}, expected one of {', '.join(INPUTS)}")
    if isinstance(value, Unreadable):
        raise BadMessage(
            "unreadable",
            f"{topic}: {value.error}, expected records in gzip, lz4, snappy, zstd or none, with a right checksum; they "
            "stay in the topic until its retention: correct the producer or the broker's disk, and send them again",
        )
    if value is None:
        return _tombstone(message, ours)
    most = MAX_REQUEST_BYTES if topic == "rank-requests" else MAX_MESSAGE_BYTES
    if len(value) > most:
        raise BadMessage("too-large", f"{topic}: got {len(value)} bytes, expected at most {most}; send less text")
    try:
        decoded = _DECODERS[topic].decode(value)
    except _UNDECODABLE as error:
        decoded = _leniently(topic, value, error, zone, taken)
    if isinstance(decoded, Item):
        decoded = _item(message, decoded, taken)
    elif isinstance(decoded, Purchase):
        decoded = _currency(decoded, taken)
    _check_ids(topic, decoded)
    if isinstance(decoded, RankRequest):
        if ours:
            return decoded
        _check_candidates(decoded)
    if not isinstance(decoded, Item) and decoded.user_id == COLD_START_USER:
        raise _reserved(topic)
    _check_time(topic, decoded, None if ours else now_ms)
    accepted: Accepted = decoded
    return accepted


def _tombstone(message: Message, ours: bool) -> Tombstone:
    topic, key = message.topic, message.key
    if topic not in _TOMBSTONES:
        advice = "to erase a user write to the topic forget"
    elif not key:
        advice = f"a null value needs a key here: {_TOMBSTONES[topic]}"
    else:
        try:
            text = key.decode()
        except UnicodeDecodeError:
            error = f"{topic}: got the key {key!r}, expected UTF-8; send the id as text"
            raise BadMessage("key", error, "key is not UTF-8") from None
        if text == COLD_START_USER and topic == "rank-requests" and not ours:
            raise _reserved(topic)
        return Tombstone(text)
    raise BadMessage("null", f"{topic}: got a null value, expected a JSON object; {advice}", "null value")


def _leniently(topic: str, value: bytes, strict: Exception, zone: tzinfo | None, taken: list[str] | None) -> Any:
    """Decode what the strict way refused."""
    kinds = ["bom"] if value.startswith(wire_formats.BOM) else []
    try:
        decoded = msgspec.json.decode(value.removeprefix(wire_formats.BOM))
    except _UNDECODABLE as error:
        if named := wire_formats.of_bytes(value):
            raise BadMessage("malformed", f"{topic}: {error}: got {named}", named.partition(";")[0]) from None
        if isinstance(strict, msgspec.ValidationError):
            raise _invalid(topic, strict) from None
        raise BadMessage("malformed", f"{topic}: {error}; expected one JSON object in UTF-8", "no JSON") from None
    fitted, more = lenient.fit(decoded, TOPICS[topic], zone)
    try:
        converted = msgspec.convert(fitted, TOPICS[topic])
    except msgspec.ValidationError as error:
        if named := wire_formats.of_json(decoded):
            raise BadMessage("invalid", f"{topic}: {error}: got {named}", named.partition(";")[0]) from None
        raise _invalid(topic, error) from None
    if taken is not None:
        taken += [*kinds, *more]
    return converted


def _invalid(topic: str, error: Exception) -> BadMessage:
    advice = "set AFTERCLICK_TIME_ZONE to the zone of such times, or " if "timezone component" in str(error) else ""
    return BadMessage(
        "invalid", f"{topic}: {error}; {advice}see `afterclick schema {topic}` for what is expected", _cause(str(error))
    )


def _cause(error: str) -> str:
    """Put msgspec's text into fewer words.

    >>> _cause("Object missing required field `title`")
    'title missing'
    >>> _cause("Expected `str`, got `int` - at `$.candidates[3].item_id`")
    'candidates[].item_id: Expected str, got int'
    """
    what, _, where = error.replace("`", "").partition(" - at $")
    path = re.sub(r"\[[^\]]*\]", "[]", where).removeprefix(".")
    missing = what.removeprefix("Object missing required field ")
    if missing != what:
        return f"{path}.{missing} missing" if path else f"{missing} missing"
    return f"{path}: {what}" if path else what


def _item(message: Message, item: Item, taken: list[str] | None) -> Item:
    if message.key != item.item_id.encode():
        raise BadMessage(
            "key",
            f"items: got the key {message.key!r}, expected the item_id {item.item_id!r}; "
            "the topic is compacted by key: with another one the item could never be deleted",
            "key is not the item_id",
        )
    first = item.title[0]
    if not (first.isascii() and first.isalnum()) and is_blank(item.title):
        raise BadMessage(
            "invalid",
            "items: title: got only blanks or letters that do not show, expected a text; send what users know it by",
            "title blank",
        )
    return _currency(item, taken)


def _currency(decoded: Priced, taken: list[str] | None) -> Priced:
    """An upper-case code; the contract's check does not look at that, for it would take as long as all the rest."""
    currency = decoded.currency
    if currency is None or currency == (upper := currency.upper()):
        return decoded
    if taken is not None:
        taken.append("currency")
    return msgspec.structs.replace(decoded, currency=upper)


def _check_candidates(request: RankRequest) -> None:
    for place, candidate in enumerate(request.candidates):
        if is_blank(candidate.text):
            raise BadMessage(
                "invalid",
                f"rank-requests: candidates[{place}].text: got a blank text, expected what the model shall read; "
                "leave the candidate out",
                "candidates[].text blank",
            )


def _check_ids(topic: str, decoded: Accepted) -> None:
    for field in _IDS[type(decoded)]:
        id_ = getattr(decoded, field)
        if id_ is not None and len(id_) > _SURELY_SHORT and (size := len(id_.encode())) > MAX_ID_BYTES:
            raise BadMessage(
                "invalid",
                f"{topic}: {field}: got {size} bytes of UTF-8, expected at most {MAX_ID_BYTES}; send a shorter id",
                f"{field} over {MAX_ID_BYTES} bytes",
            )


def _reserved(topic: str) -> BadMessage:
    return BadMessage(
        "reserved",
        f"{topic}: user_id: got {COLD_START_USER!r}, expected a user's id; {COLD_START_USER!r} is the name of the "
        "list for whoever has none: give this user another id",
        "user_id reserved",
    )


def _check_time(topic: str, decoded: Accepted, now_ms: int | None) -> None:
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
            f"{field} before 1990",
        )
    if now_ms is not None and time_ms > now_ms + FUTURE_MS:
        raise BadMessage(
            "time",
            f"{topic}: {field}: got {time_ms} ms since the epoch, {(time_ms - now_ms) / 3_600_000:.1f} hours ahead of "
            "the message itself, expected at most 24; are these microseconds? integers are milliseconds",
            f"{field} more than 24 hours ahead",
        )
