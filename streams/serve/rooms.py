"""What a part of the HTTP interface is: a room with endpoints.

Knows no room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from streams.serve.access import Right

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One method of one path.

    Attributes
    ----------
    method, path : str
        As Starlette routes them.
    handler : callable
        Takes the request, and returns the answer or raises a `Problem`.
    right : {"read", "write", "rank"} or None
        What the client's token must allow; None for everybody.
    operation : mapping or None
        The OpenAPI operation. None: the endpoint is not in the document.
    """

    method: str
    path: str
    handler: Handler
    right: Right | None
    operation: dict[str, Any] | None = None


class Room(Protocol):
    """One part of the interface."""

    def endpoints(self) -> Sequence[Endpoint]:
        """Return what it answers."""
        ...

    def why_not_ready(self) -> list[str]:
        """Return the problems by which it cannot answer now; empty if it can."""
        ...

    async def start(self) -> None:
        """Connect. A server that is only away is no error.

        Raises
        ------
        SettingsError
            A setting is wrong, and waiting does not help.
        """
        ...

    async def stop(self) -> None:
        """Close all connections."""
        ...
