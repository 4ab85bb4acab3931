"""What the records of a file are in terms of the contract: its own messages, or records of another shape.

A record is accepted whole or not at all, by the very checks of a worker. Knows no file.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import tzinfo
from typing import Any, NamedTuple, Protocol

import msgspec

from encoders.event_time import milliseconds
from streams.contracts import TOPICS
from streams.datasets.messages import ReplayMessage
from streams.receive.decode import Accepted, receive
from streams.receive.keys import FIELDS, key_of, key_of_fields
from streams.receive.mapping import Mapping
from streams.receive.message import BadMessage, MappedFrom, Message, Tombstone
from streams.settings.topics import MAPPED_INPUTS, TopicSource, TopicsSettings, profile_sources

_NO_EVENT_ID = ("event_id missing", "event_id: Expected str, got null")
_encode = msgspec.json.Encoder().encode


class Checked(NamedTuple):
    """A message that a worker accepts.

    Attributes
    ----------
    topic : str
    message : Click, Impression, Item, Triple, Forget, UserMerge or Tombstone
    value : bytes or None
        The message as it is in the file; None if it was made of a record of another shape.
    """

    topic: str
    message: Accepted | Tombstone
    value: bytes | None = None

    @property
    def time_ms(self) -> int | None:
        moment = None if isinstance(self.message, Tombstone) else getattr(self.message, "timestamp", None)
        return None if moment is None else milliseconds(moment)

    def to_send(self) -> ReplayMessage:
        """Encode the message, unless it is in the file as the contract has it."""
        if isinstance(self.message, Tombstone):
            return ReplayMessage(self.topic, self.message.key.encode(), None, None)
        return ReplayMessage(
            self.topic, key_of(self.message).encode(), self.value or _encode(self.message), self.time_ms
        )


class ContractCheck:
    """Accepts messages as a worker does.

    Parameters
    ----------
    zone : tzinfo, optional
        Of times without a zone; without it, they are refused.
    types : collection of str, optional
        The types of events that have a weight; None: any may have one.
    """

    def __init__(self, zone: tzinfo | None, types: Collection[str] | None = None) -> None:
        self._zone, self._types = zone, types
        self._now_ms = int(time.time() * 1000)

    def json(self, topic: str, value: bytes) -> Checked:
        """Accept a message as it is.

        Raises
        ------
        BadMessage
            A worker would reject it.
        """
        return Checked(topic, self._accepted(topic, value, _fields(value) if topic in FIELDS else {}), value)

    def fields(self, topic: str, fields: dict[str, Any], mapped_from: MappedFrom | None = None) -> Checked:
        """Accept a message that is made of these fields. Raises as `json` does."""
        try:
            value = _encode(fields)
        except (UnicodeEncodeError, TypeError) as error:
            raise BadMessage("malformed", f"{topic}: {error}; expected text in UTF-8", "not UTF-8") from None
        return Checked(topic, self._accepted(topic, value, fields, mapped_from))

    def _accepted(
        self, topic: str, value: bytes, fields: dict[str, Any], mapped_from: MappedFrom | None = None
    ) -> Accepted | Tombstone:
        key = key_of_fields(topic, fields)
        return receive(Message(topic, 0, 0, key, value, mapped_from), self._now_ms, self._zone, types=self._types)


def _fields(value: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


class Shape(Protocol):
    """How records become messages.

    Attributes
    ----------
    name : str
        For people: where the shape comes from.
    topics : tuple of str
        The topics that the records may feed.
    """

    name: str
    topics: tuple[str, ...]

    def read(self, value: bytes | dict[str, Any], place: str, check: ContractCheck) -> list[Checked]:
        """Give the messages of a record: JSON, or the cells of a row.

        Parameters
        ----------
        place : str
            The `event_id` of an event without one.

        Raises
        ------
        BadMessage
            The record cannot be read, or a worker would reject one of its messages.
        """
        ...

    def why_none(self, value: bytes | dict[str, Any]) -> str:
        """Say why a record gives no message; nothing if there is no more to say."""
        ...


class ContractShape:
    """The topic's own fields, by their own names."""

    def __init__(self, topic: str) -> None:
        self.name = "the contract's own fields"
        self.topics: tuple[str, ...] = (topic,)

    def read(self, value: bytes | dict[str, Any], place: str, check: ContractCheck) -> list[Checked]:
        """See `Shape`."""
        [topic] = self.topics
        if isinstance(value, dict):
            return [check.fields(topic, _identified(topic, value, place))]
        try:
            return [check.json(topic, value)]
        except BadMessage as error:
            if error.cause not in _NO_EVENT_ID:
                raise
        return [check.fields(topic, _identified(topic, msgspec.json.decode(value), place))]

    def why_none(self, value: bytes | dict[str, Any]) -> str:
        """See `Shape`: a record of the contract always gives a message, or is bad."""
        return ""


def _identified(topic: str, fields: dict[str, Any], place: str) -> dict[str, Any]:
    if "event_id" not in TOPICS[topic].__struct_fields__ or fields.get("event_id") is not None:
        return fields
    return {**fields, "event_id": place}


def required_fields(topic: str) -> list[str]:
    """Name the fields that a record must have; the place in the file is the `event_id` of an event without one."""
    fields = msgspec.structs.fields(TOPICS[topic])
    return [field.encode_name for field in fields if field.required and field.encode_name != "event_id"]


class MappedShape:
    """Records of another shape, by one or several mappings.

    Parameters
    ----------
    name : str
        For people: where the mappings come from.
    mappings : sequence of Mapping
        A record gives the messages of all whose `where` it fits.
    """

    def __init__(self, name: str, mappings: Sequence[Mapping]) -> None:
        self.name, self._mappings = name, mappings
        self.topics = tuple(dict.fromkeys(mapping.input_name for mapping in mappings))

    def read(self, value: bytes | dict[str, Any], place: str, check: ContractCheck) -> list[Checked]:
        """See `Shape`."""
        record = value if isinstance(value, dict) else _decoded(value)
        made: list[Checked] = []
        for mapping in self._mappings:
            if deleted := mapping.deleted_item(record, None):
                made.append(Checked(mapping.input_name, Tombstone(deleted)))
            else:
                made += [
                    check.fields(mapping.input_name, fields, mapping.mapped_from)
                    for fields in mapping.apply(record, place)
                ]
        return made

    def why_none(self, value: bytes | dict[str, Any]) -> str:
        """See `Shape`: of one mapping the test that fails."""
        if len(self._mappings) > 1:
            return ""
        return self._mappings[0].why_not_meant(value if isinstance(value, dict) else _decoded(value))


def _decoded(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage("malformed", f"{error}; expected one JSON object", "no JSON") from None


def configured(topic: str, sources: Sequence[TopicSource]) -> list[Shape]:
    """Give the shapes that settings describe for a topic, each source one."""
    return [MappedShape(f"[topics.{topic}] of {source.name}", [Mapping(topic, source)]) for source in sources]


def profile_shape(profile: str, topics: TopicsSettings) -> MappedShape:
    """Give the shape of the records of a profile, for all topics that it has fields for.

    Parameters
    ----------
    profile : str
    topics : TopicsSettings
        If tables here name the profile, they alone are meant: they may say more than the profile does.

    Raises
    ------
    streams.settings.SettingsError
        The profile lacks what only a table of the user's can say, such as the columns of a database.
    """
    own = [(topic, source) for topic in MAPPED_INPUTS for source in topics.of(topic) if source.profile == profile]
    sources = own or list(profile_sources(profile, profile).items())
    return MappedShape(f"the profile (got {profile})", [Mapping(topic, source) for topic, source in sources])
