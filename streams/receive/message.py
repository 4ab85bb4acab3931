"""One record of an input topic, and the error that rejects it.

Knows neither Kafka's client nor what a contract asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from streams.contracts import DeadLetter

TIME_ZONE_SETTING = "AFTERCLICK_TIME_ZONE"
"""Named in the error of a time without a zone, which is right where it is."""
_FIELD = re.compile(r"\$\.(\w+)|^(\w+): got")
"""Where the text of an error names the field: `$.price` as msgspec does, or at its beginning as we do."""


class Unreadable(bytes):
    """The empty value of a message that stands for a Kafka batch which cannot be read.

    Attributes
    ----------
    error : str
        What is wrong with the batch, and which offsets it held.
    """

    error: str

    def __new__(cls, error: str) -> Unreadable:
        value = super().__new__(cls)
        value.error = error
        return value


@dataclass(frozen=True)
class MappedFrom:
    """What a message was mapped from.

    Attributes
    ----------
    name : str
        The topic's full name, or the file's.
    places : mapping of str to str
        The paths that each field was read at.
    """

    name: str
    places: Mapping[str, str]

    def explain(self, input_name: str, error: BadMessage) -> BadMessage:
        """Say in the error where the wrong field is in the record that the user knows."""
        problem = str(error).removeprefix(f"{input_name}: ")
        text = f"{input_name} from {self.name}: {problem}"
        field = next((name for names in _FIELD.findall(problem) for name in names if name in self.places), None)
        if field is not None and TIME_ZONE_SETTING not in problem:
            unit = ", or set time_unit" if error.reason == "time" else ""
            unit += ' = "s"' if unit and "are these seconds?" in problem else ""
            text += f"; {field} was read at {self.places[field]}: correct the path{unit}"
        return BadMessage(error.reason, text, error.cause)


@dataclass(frozen=True)
class Message:
    """One message of the contract: a record as it came from Kafka, or what a record was mapped to.

    Attributes
    ----------
    topic : str
        The contract's name, without the prefix; the full name of a topic of the team's.
    partition, offset : int
        The record's position in the topic.
    key, value : bytes or None
        As the producer sent them, or as they were mapped.
    mapped_from : MappedFrom, optional
        Where the message was mapped from. None: the record is the message.
    mapped : bool
        This is a whole record of a topic of the team's, which the settings map to inputs.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    mapped_from: MappedFrom | None = None
    mapped: bool = False

    def dead_letter(self, error: str, cause: str = "") -> DeadLetter:
        """Wrap the whole message and the reason for its rejection."""
        return DeadLetter(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            error=error,
            payload=None if isinstance(self.value, Unreadable) else self.value,
            key=self.key,
            cause=cause,
            mapped=self.mapped,
        )


@dataclass(frozen=True)
class Tombstone:
    """A null value in a topic where that means a deletion.

    Attributes
    ----------
    key : str
        The id of the item (`items`) or of the user (`rank-requests`).
    """

    key: str


class BadMessage(Exception):
    """The message is rejected. The text says what is wrong, what was received, what is expected and what to do.

    Attributes
    ----------
    reason : str
        One of a few fixed words, used as a metric label.
    cause : str
        What is wrong, in words that are the same for all messages that fail alike. Contains nothing of the message.
    """

    def __init__(self, reason: str, error: str, cause: str = "") -> None:
        super().__init__(error)
        self.reason = reason
        self.cause = cause or reason
