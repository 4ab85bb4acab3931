"""The page as a part of the HTTP interface: its files, the search of the shop, and the stream of lists.

The page sends events and erases users by the interface that every client uses. What is here serves the page alone: it
is not in the OpenAPI document, and may change with the page.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from encoders.errors import AfterclickError
from streams.publish.list_reader import ListReader
from streams.serve.live_lists import LiveLists
from streams.serve.page.files import HEADERS, PageFiles
from streams.serve.page.pipeline import PipelineScrape, PipelineState
from streams.serve.page.shelf import SearchResult, search
from streams.serve.page.stream import ReplicaReader, ShopperStream
from streams.serve.problems import Problem, json_response
from streams.serve.replica import Replica
from streams.serve.rooms import Endpoint
from streams.settings import Settings

logger = logging.getLogger(__name__)

MAX_SHOPPERS = 8
MAX_STREAMS = 200
"""Open streams; chosen by us: each costs a connection and a few kilobytes."""
LOOK_EVERY_S = 2.0
NO_STORE = {**HEADERS, "Cache-Control": "no-store"}


class ServerState(msgspec.Struct, frozen=True):
    """How many items the shop has, and the users with the latest lists."""

    catalogue: int
    recent_users: list[str]


class Page:
    """The live page.

    Parameters
    ----------
    settings : Settings
    replica : Replica
        The copy of the catalogue and of the users' states; started and stopped by the caller.
    """

    def __init__(self, settings: Settings, replica: Replica) -> None:
        self._settings = settings
        self._reader = ReplicaReader(replica)
        self._lists = ListReader(settings)
        self._files = PageFiles()
        self._live = LiveLists(settings)
        self._pipeline = PipelineScrape(settings.metrics)
        self._state: PipelineState | None = None
        self._streams = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._problem = ""

    def endpoints(self) -> Sequence[Endpoint]:
        """Return what the page consists of."""
        return [
            Endpoint("GET", "/", self._files.redirect, None),
            Endpoint("GET", "/page", self._files.redirect, None),
            Endpoint("GET", "/page/", self._files.index, None),
            Endpoint("GET", "/page/session", self._session, None),
            Endpoint("GET", "/page/items", self._items, "read"),
            Endpoint("GET", "/page/stream", self._stream, "read"),
            Endpoint("GET", "/page/{name}", self._files.file, None),
        ]

    def why_not_ready(self) -> list[str]:
        """Return why no list can arrive."""
        return [self._problem] if self._problem else []

    async def start(self) -> None:
        """Begin to follow the lists and the worker's metrics."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._look())]
        for task in self._tasks:
            task.add_done_callback(_log_bug)

    async def stop(self) -> None:
        """End both."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lists.close()

    async def _session(self, request: Request) -> Response:
        http = self._settings.http
        return json_response(
            {"read_token": http.read_token is not None, "write_token": http.write_token is not None}, 200, NO_STORE
        )

    async def _items(self, request: Request) -> Response:
        query, catalogue = request.query_params, self._reader.catalogue()
        if catalogue is None:
            return json_response(SearchResult([], 0, [], 0), 200, NO_STORE)
        try:
            limit = int(query.get("limit", "12"))
        except ValueError:
            raise Problem(400, "invalid_query", f"limit: got {query['limit']!r}, expected an integer") from None
        words, category = query.get("q", "")[:200], query.get("category", "")
        found = await asyncio.to_thread(search, catalogue, words, category, limit)  # a large catalogue takes a moment
        return json_response(found, 200, NO_STORE)

    async def _stream(self, request: Request) -> Response:
        users = list(dict.fromkeys(request.query_params.getlist("user")))
        if not 1 <= len(users) <= MAX_SHOPPERS or not all(users):
            raise Problem(400, "invalid_query", f"user: got {len(users)} user ids, expected 1 to {MAX_SHOPPERS}")
        if self._streams >= MAX_STREAMS:
            text = f"got {self._streams} open pages, expected fewer; close one"
            raise Problem(503, "overloaded", text, {"Retry-After": "5"})
        return StreamingResponse(
            self._messages(users), 200, {**NO_STORE, "X-Accel-Buffering": "no"}, "text/event-stream"
        )

    async def _messages(self, users: Sequence[str]) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            stream = ShopperStream(users, self._live, self._reader, self._lists.read, self._settings.pseudonym_key)
            sent: PipelineState | None = None
            async for views in stream.views():
                for view in views:
                    yield _message("shopper", view)
                if self._state is not None and self._state is not sent:
                    sent = self._state
                    yield _message("pipeline", sent)
                    yield _message("server", self._server_state())
        finally:
            self._streams -= 1

    def _server_state(self) -> ServerState:
        """Suggest users, except where their ids are pseudonyms, because a page asks by the real id."""
        users = [] if self._settings.pseudonym_key else self._live.recent_users
        return ServerState(len(self._reader.catalogue() or ()), users)

    async def _follow(self) -> None:
        try:
            await self._live.run()
        except AfterclickError as error:
            self._problem = str(error)
            logger.error("%s", error)

    async def _look(self) -> None:
        """Scrape the worker for as long as somebody looks at the page."""
        while True:
            if self._streams:
                self._state = await asyncio.to_thread(self._pipeline.look)
            await asyncio.sleep(LOOK_EVERY_S if self._streams else 0.1)


def _log_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.error("the live page stands still", exc_info=error)


def _message(event: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), msgspec.json.encode(data))
