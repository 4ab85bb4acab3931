"""The inputs as they are in Kafka: the contract's own topics, and the team's own topics beside them.

Translates each record to messages of the contract. A record of a contract topic passes through untouched. Knows no
Kafka client, and does not validate: `streams.receive.decode` does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.contracts import MAX_MESSAGE_BYTES
from streams.receive import wire_formats
from streams.receive.keys import key_of_fields
from streams.receive.mapping import Mapping
from streams.receive.message import BadMessage, Message, Unreadable
from streams.settings import Settings
from streams.settings.topics import MAPPED_INPUTS

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Inputs:
    """The topics to read, and what their records are in terms of the contract.

    Parameters
    ----------
    settings : Settings
        The prefix of the contract's topics, and the team's own topics.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mappings: dict[str, list[Mapping]] = {}
        for name in MAPPED_INPUTS:
            for source in settings.topics.of(name):
                self._mappings.setdefault(source.name, []).append(Mapping(name, source))

    def is_mapped(self, topic: str) -> bool:
        """Tell whether a topic, by its full name, is one of the team's own."""
        return topic in self._mappings

    def read(self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None) -> list[Message]:
        """Translate one record to messages of the contract.

        Parameters
        ----------
        topic : str
            The full name in Kafka.
        partition, offset : int
            The record's position.
        key, value : bytes or None
            As the producer sent them; the value is JSON.

        Returns
        -------
        list of Message
            With the record's own key and bytes for a topic of the contract, without its prefix. A mapped message has
            the key that the contract asks for. Empty if no mapping of the topic takes the record.

        Raises
        ------
        BadMessage
            The record cannot be mapped. Then none of its messages counts.
        """
        mappings = self._mappings.get(topic)
        if mappings is None:
            return [Message(topic.removeprefix(self._settings.topic_prefix), partition, offset, key, value)]
        if isinstance(value, Unreadable):  # `receive` says why
            first = mappings[0]
            return [Message(first.input_name, partition, offset, key, value, first.mapped_from)]
        if value is None:
            return self._tombstones(mappings, partition, offset, key)
        record = _decoded(topic, value)
        messages = []
        for mapping in mappings:
            if (deleted := mapping.deleted_item(record, key)) is not None:
                item = deleted.encode()
                messages.append(Message("items", partition, offset, item, None, mapping.mapped_from))
                continue
            for made in mapping.apply(record, f"{topic}/{partition}/{offset}"):
                own_key = key_of_fields(mapping.input_name, made) or str(made["user_id"]).encode()
                messages.append(
                    Message(mapping.input_name, partition, offset, own_key, _encode(made), mapping.mapped_from)
                )
        return messages

    def _tombstones(self, mappings: list[Mapping], partition: int, offset: int, key: bytes | None) -> list[Message]:
        """Delete the item of a key. A topic that feeds other inputs too has other keys: there a null means nothing."""
        if any(mapping.input_name != "items" for mapping in mappings):
            return []
        item = mappings[0].deleted_item(None, key) or ""
        return [Message("items", partition, offset, item.encode(), None, mappings[0].mapped_from)]


def _decoded(topic: str, value: bytes) -> Any:
    """Decode a record of a team's own topic."""
    if len(value) > MAX_MESSAGE_BYTES:
        error = f"{topic}: got {len(value)} bytes, expected at most {MAX_MESSAGE_BYTES}; send less text"
        raise BadMessage("too-large", error)
    try:
        return _decode(value.removeprefix(wire_formats.BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        wire_format = wire_formats.of_bytes(value)
        got = f"got {wire_format}" if wire_format else "expected one JSON object in UTF-8"
        raise BadMessage(
            "malformed", f"{topic}: {error}: {got}", (wire_format or "no JSON").partition(";")[0]
        ) from None
