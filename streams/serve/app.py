"""The HTTP application: the endpoints of every room, each behind its right, with typed errors.

To add a room, write a class that fits `rooms.Room`, and let `server.services` put it into `Services.more`. Opens no
port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from streams.serve import problems
from streams.serve.access import Access
from streams.serve.events import EventRoom
from streams.serve.lists import ListRoom
from streams.serve.observed import ROUTE, Observed
from streams.serve.problems import Problem
from streams.serve.rooms import Endpoint, Room
from streams.serve.status import Status
from streams.settings import Settings


@dataclass(frozen=True)
class Services:
    """What the application is made of.

    Attributes
    ----------
    settings : Settings
        All settings.
    lists : ListRoom
        Reads lists from Redis.
    events : EventRoom
        Sends events to Kafka.
    more : tuple of Room
        The other rooms, in the order of their start: scores, the page.
    """

    settings: Settings
    lists: ListRoom
    events: EventRoom
    more: tuple[Room, ...] = ()

    @property
    def rooms(self) -> tuple[Room, ...]:
        """All rooms, in the order of their start."""
        return (self.lists, self.events, *self.more)


def create_app(services: Services) -> Starlette:
    """Make the application; its rooms have to be `started`."""
    http = services.settings.http
    access = Access(http)
    status = Status(services.settings.metrics, services.lists, services.events, services.more)
    endpoints = [endpoint for room in services.rooms for endpoint in room.endpoints()] + status.endpoints()
    Observed.from_zero([(endpoint.path, endpoint.operation or {}) for endpoint in endpoints])
    middleware = [Middleware(Observed)]
    if http.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=http.cors_origins,
                allow_methods=("GET", "POST", "DELETE"),
                allow_headers=("Authorization", "Content-Type", "If-None-Match"),
                expose_headers=("ETag", "Retry-After"),
            )
        )
    app = Starlette(
        routes=[_route(endpoint, access) for endpoint in endpoints],
        middleware=middleware,
        exception_handlers={
            Problem: problems.on_problem,
            HTTPException: problems.on_http_exception,
            ClientDisconnect: problems.on_disconnect,
            Exception: problems.on_bug,
        },
    )
    app.router.redirect_slashes = False  # a user's id may end with a slash
    return app


@asynccontextmanager
async def started(rooms: Sequence[Room]) -> AsyncIterator[None]:
    """Start rooms; stop them in any case, the last one first.

    Raises
    ------
    AfterclickError
        As `Room.start`.
    """
    async with AsyncExitStack() as stack:
        for room in rooms:
            stack.push_async_callback(room.stop)
            await room.start()
        yield


def _route(endpoint: Endpoint, access: Access) -> Route:
    async def guarded(request: Request) -> Response:
        request.scope[ROUTE] = endpoint.path
        if endpoint.right is not None:
            access.admit(request, endpoint.right)
        return await endpoint.handler(request)

    return Route(endpoint.path, guarded, methods=[endpoint.method])
