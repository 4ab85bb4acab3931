"""Step 1, receive: decode and validate one message, or reject it with an error text for its producer.

1. The strict decoder, which is fast, decodes the value.
2. If that fails, the lenient decoder (`lenient`) coerces harmless deviations from the contract.
3. If that fails too, the message is rejected. The error names the wire format where it is known (`wire_formats`).

Pure functions: they know neither Kafka nor where a rejected message goes.
"""

from __future__ import annotations

from collections.abc import Collection
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
    Forget,
    Impression,
    Item,
    Preference,
    Purchase,
    RankRequest,
    Search,
    Triple,
    UserEvent,
    UserMerge,
)
from streams.receive import lenient, triples, wire_formats
from streams.receive.embeddings import packed
from streams.receive.event_checks import check_meaning, check_quantity
from streams.receive.message import BadMessage, Message, Tombstone, Unreadable
from streams.receive.schema_errors import invalid

EARLIEST_MS = 631_152_000_000
"""1990-01-01. An event time before it is a unit error (seconds sent as milliseconds) or a default of 0."""
FUTURE_MS = 24 * 3_600_000
"""How far after its record an event may be dated. A local time mistaken for UTC is wrong by less."""
INPUTS = tuple(topic for topic in TOPICS if topic not in ("recommendations", "dead-letters"))
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {topic: msgspec.json.Decoder(TOPICS[topic]) for topic in INPUTS}
_TOMBSTONES = {
    "items": "it deletes the item",
    "knowledge": "it deletes the triple",
    "rank-requests": "it means that the user was forgotten",
}
_IDS: dict[type, tuple[str, ...]] = {
    struct: tuple(name for name in struct.__struct_fields__ if name.endswith("_id") or name == "takes_back")
    for struct in (Click, Purchase, UserEvent, Search, Preference, Impression, Item, RankRequest, Forget, UserMerge)
}
_MAX_CHARACTERS_UNCHECKED = MAX_ID_BYTES // 4
"""An id of so many characters cannot exceed `MAX_ID_BYTES`: UTF-8 takes at most 4 bytes a character."""
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)

_Identified = Click | Search | Preference | Impression | Item | RankRequest | Forget | UserMerge
Accepted = _Identified | Triple
Priced = TypeVar("Priced", Item, Purchase)


def receive(
    message: Message,
    now_ms: int,
    zone: tzinfo | None = None,
    from_worker: bool = False,
    coerced: list[str] | None = None,
    types: Collection[str] | None = None,
) -> Accepted | Tombstone:
    """Decode and validate one message.

    Parameters
    ----------
    message : Message
        The record.
    now_ms : int
        When the record was written. The message's own time may be at most `FUTURE_MS` later.
    zone : tzinfo, optional
        The zone of times that name none. Without it such times are rejected.
    from_worker : bool
        A worker wrote the message. Then its time may be in the future, and the user of a rank request may be `*`.
    coerced : list of str, optional
        Receives the kind of each value that was coerced (`lenient.KINDS`, "bom").
    types : collection of str, optional
        The types of events that have a weight; an event of another type is rejected. None: any type may have one.

    Returns
    -------
    Click, Search, Preference, Impression, Item, Triple, RankRequest, Forget, UserMerge or Tombstone
        The validated message; currency codes are in upper case.

    Raises
    ------
    BadMessage
        The message is rejected; the text is for its producer. If it was mapped, the text names the path in the record.
    """
    try:
        decoded = _receive(message, now_ms, zone, from_worker, coerced)
        if isinstance(decoded, (UserEvent, RankRequest, Search, Preference, Impression)):
            check_meaning(decoded, types)
        return decoded
    except BadMessage as error:
        if message.mapped_from is None:
            raise
        raise message.mapped_from.explain(message.topic, error) from None


def _receive(
    message: Message, now_ms: int, zone: tzinfo | None, from_worker: bool, coerced: list[str] | None
) -> Accepted | Tombstone:
    topic, value = message.topic, _value(message)
    if value is None:
        return _tombstone(message, from_worker)
    try:
        decoded = _DECODERS[topic].decode(value)
    except _UNDECODABLE as error:
        decoded = _decode_leniently(topic, value, error, zone, coerced)
    if isinstance(decoded, Triple):
        return triples.check(message, decoded)
    if isinstance(decoded, Item):
        decoded = _check_item(message, decoded, coerced)
    elif isinstance(decoded, Purchase):
        decoded = _upper_case_currency(decoded, coerced)
        check_quantity(decoded)
    _check_ids(topic, decoded)
    if isinstance(decoded, RankRequest):
        if from_worker:
            return decoded
        _check_candidates(decoded)
    if isinstance(decoded, UserMerge):
        _check_merge(decoded)
    elif not isinstance(decoded, Item) and decoded.user_id == COLD_START_USER:
        raise _reserved(topic)
    _check_time(topic, decoded, None if from_worker else now_ms)
    accepted: Accepted = decoded
    return accepted


def _value(message: Message) -> bytes | None:
    """Return the value of a message whose topic is an input, whose record is readable, and that is not too large."""
    topic, value = message.topic, message.value
    if topic not in _DECODERS:
        raise BadMessage("topic", f"got a message of the topic {topic!r}, expected one of {', '.join(INPUTS)}")
    if isinstance(value, Unreadable):
        raise BadMessage(
            "unreadable",
            f"{topic}: {value.error}, expected records with a correct checksum, uncompressed or in gzip, lz4, snappy "
            "or zstd; the records stay in the topic until its retention ends: correct the producer or the broker's "
            "disk, and send them again",
        )
    max_bytes = MAX_REQUEST_BYTES if topic == "rank-requests" else MAX_MESSAGE_BYTES
    if value is not None and len(value) > max_bytes:
        raise BadMessage("too-large", f"{topic}: got {len(value)} bytes, expected at most {max_bytes}; send less text")
    return value


def _tombstone(message: Message, from_worker: bool) -> Tombstone:
    topic, key = message.topic, message.key
    if topic not in _TOMBSTONES:
        advice = "to erase a user, write to the topic forget"
    elif not key:
        advice = f"a null value needs a key here: {_TOMBSTONES[topic]}"
    else:
        try:
            text = key.decode()
        except UnicodeDecodeError:
            error = f"{topic}: got the key {key!r}, expected UTF-8; send the id as text"
            raise BadMessage("key", error, "key is not UTF-8") from None
        if text == COLD_START_USER and topic == "rank-requests" and not from_worker:
            raise _reserved(topic)
        if topic == triples.TOPIC:
            triples.deleted(Tombstone(text))
        return Tombstone(text)
    raise BadMessage("null", f"{topic}: got a null value, expected a JSON object; {advice}", "null value")


def _decode_leniently(
    topic: str, value: bytes, strict_error: Exception, zone: tzinfo | None, coerced: list[str] | None
) -> Any:
    """Decode a value that the strict decoder refused."""
    kinds = ["bom"] if value.startswith(wire_formats.BOM) else []
    try:
        decoded = msgspec.json.decode(value.removeprefix(wire_formats.BOM))
    except _UNDECODABLE as error:
        if wire_format := wire_formats.of_bytes(value):
            text = f"{topic}: {error}: got {wire_format}"
            raise BadMessage("malformed", text, wire_format.partition(";")[0]) from None
        if isinstance(strict_error, msgspec.ValidationError):
            raise invalid(topic, strict_error) from None
        raise BadMessage("malformed", f"{topic}: {error}; expected one JSON object in UTF-8", "no JSON") from None
    fitted, fitted_kinds = lenient.fit(decoded, TOPICS[topic], zone)
    try:
        converted = msgspec.convert(fitted, TOPICS[topic])
    except msgspec.ValidationError as error:
        if wire_format := wire_formats.of_json(decoded):
            text = f"{topic}: {error}: got {wire_format}"
            raise BadMessage("invalid", text, wire_format.partition(";")[0]) from None
        raise invalid(topic, error) from None
    if coerced is not None:
        coerced += [*kinds, *fitted_kinds]
    return converted


def _check_item(message: Message, item: Item, coerced: list[str] | None) -> Item:
    if message.key != item.item_id.encode():
        raise BadMessage(
            "key",
            f"items: got the key {message.key!r}, expected the item_id {item.item_id!r}; "
            "the topic is compacted by key: under another key the item could never be deleted",
            "key is not the item_id",
        )
    first = item.title[0]
    if not (first.isascii() and first.isalnum()) and is_blank(item.title):
        raise BadMessage(
            "invalid",
            "items: title: got only blanks or invisible characters, expected a text; send the name that users know",
            "title blank",
        )
    return _upper_case_currency(packed(item), coerced)


def _upper_case_currency(decoded: Priced, coerced: list[str] | None) -> Priced:
    """Put the currency code into upper case. A pattern in the contract would double the time of decoding."""
    currency = decoded.currency
    if currency is None or currency == (upper := currency.upper()):
        return decoded
    if coerced is not None:
        coerced.append("currency")
    return msgspec.structs.replace(decoded, currency=upper)


def _check_candidates(request: RankRequest) -> None:
    for index, candidate in enumerate(request.candidates):
        if is_blank(candidate.text):
            raise BadMessage(
                "invalid",
                f"rank-requests: candidates[{index}].text: got a blank text, expected a text for the model to read; "
                "leave the candidate out",
                "candidates[].text blank",
            )


def _check_ids(topic: str, decoded: _Identified) -> None:
    for field in _IDS[type(decoded)]:
        id_ = getattr(decoded, field)
        if id_ is not None and len(id_) > _MAX_CHARACTERS_UNCHECKED and (size := len(id_.encode())) > MAX_ID_BYTES:
            raise BadMessage(
                "invalid",
                f"{topic}: {field}: got {size} bytes of UTF-8, expected at most {MAX_ID_BYTES}; send a shorter id",
                f"{field} over {MAX_ID_BYTES} bytes",
            )


def _check_merge(merge: UserMerge) -> None:
    for field in ("from_user_id", "into_user_id"):
        if getattr(merge, field) == COLD_START_USER:
            raise _reserved("merges", field)
    if (into := merge.into_user_id) == merge.from_user_id:
        error = f"merges: into_user_id: got {into!r}, which is the from_user_id too, expected another user; correct one"
        raise BadMessage("merge", error, "into_user_id is the from_user_id")


def _reserved(topic: str, field: str = "user_id") -> BadMessage:
    return BadMessage(
        "reserved",
        f"{topic}: {field}: got {COLD_START_USER!r}, expected a user's id; {COLD_START_USER!r} is the id of the "
        "cold-start list: give this user another id",
        f"{field} reserved",
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
            "An integer time is in milliseconds",
            f"{field} before 1990",
        )
    if now_ms is not None and time_ms > now_ms + FUTURE_MS:
        raise BadMessage(
            "time",
            f"{topic}: {field}: got {time_ms} ms since the epoch, {(time_ms - now_ms) / 3_600_000:.1f} hours ahead of "
            "the message itself, expected at most 24; are these microseconds? An integer time is in milliseconds",
            f"{field} more than 24 hours ahead",
        )
