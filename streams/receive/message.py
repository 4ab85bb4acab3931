"""One record of an input topic, and the error that rejects it.

Knows neither Kafka's client nor what a contract asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from streams.contracts import DeadLetter


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
class Message:
    """One record as it came from Kafka.

    Attributes
    ----------
    topic : str
        The contract's name, without the prefix.
    partition, offset : int
        The record's position in the topic.
    key, value : bytes or None
        As the producer sent them.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

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
