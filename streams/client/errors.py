"""The errors of the client: what a caller has to correct, and what passes by itself. Knows no transport."""

from __future__ import annotations

from collections.abc import Sequence

from encoders.errors import AfterclickError
from streams.contracts import Sendable


class ClientError(AfterclickError):
    """Every error that the client raises on purpose.

    Attributes
    ----------
    unconfirmed : tuple of messages
        The messages of the call that may not be stored. Send them again: each counts once, for its id is the same.
    """

    def __init__(self, message: str, unconfirmed: Sequence[Sendable] = ()) -> None:
        super().__init__(message)
        self.unconfirmed = tuple(unconfirmed)


class MissingArgument(ClientError):
    """A call needs an address, or a package, that the client was not given; the message names it."""


class MessageRefused(ClientError):
    """A message is against its contract, so the workers would reject it. No message of the call was sent."""


class ServiceRefused(ClientError):
    """Kafka, Redis or the HTTP service refuses the call. Trying again does not help."""


class ServiceUnavailable(ClientError):
    """Kafka, Redis or the HTTP service did not answer within the time limit. A later attempt may succeed."""


class ClientClosed(ClientError):
    """The client was closed, or another process made it."""
