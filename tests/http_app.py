"""HTTP for tests: the application over values in memory, and the real server in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import uvloop
from pydantic import SecretStr

from streams.kafka.input_producer import InputProducer, NotStored
from streams.kafka.outgoing import Outgoing
from streams.publish.list_cache import readable
from streams.publish.list_reader import ListReader
from streams.publish.redis_refusal import CacheUnavailable
from streams.serve.app import Services, create_app, started
from streams.serve.events import EventRoom
from streams.serve.lists import ListRoom
from streams.serve.rooms import Room
from streams.serve.server import make, services
from streams.settings import HttpSettings, Settings
from tests.client import until

TOKENS = {right: SecretStr(f"the token to {right}, of 16 letters") for right in ("read", "write", "rank")}
GUARDED = HttpSettings(**{f"{right}_token": token for right, token in TOKENS.items()})


def bearer(right: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[right].get_secret_value()}"}


class StoredLists(ListReader):
    """Lists in memory, by the id under which they are stored."""

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self.stored = dict(stored)
        self.away = ""

    async def read(self, user_id: str, placement: str | None = None) -> bytes | None:
        if self.away:
            raise CacheUnavailable(self.away)
        stored = self.stored.get(user_id if placement is None else f"{user_id}:{placement}")
        return None if stored is None else readable(stored)


class SentMessages(InputProducer):
    """Keeps what is sent; `outcome` decides on each message."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.away = ""
        self.outcome: NotStored | None = None

    async def send(self, messages: Sequence[Outgoing]) -> list[NotStored | None]:
        if self.outcome is None:
            self.sent += messages
        return [self.outcome] * len(messages)


class Shop:
    """A client of the application."""

    def __init__(
        self,
        http: HttpSettings | None = None,
        stored: Mapping[str, bytes] | None = None,
        more: Sequence[Room] = (),
        **settings: Any,
    ) -> None:
        self.settings = Settings(http=http or HttpSettings(), **settings)
        self.lists, self.kafka = StoredLists(stored or {}), SentMessages()
        rooms = (
            ListRoom(self.settings.pseudonym_key, self.lists, self.settings.candidates.domains),
            EventRoom(self.settings, self.kafka),
        )
        self.app = create_app(Services(self.settings, *rooms, tuple(more)))

    def ask(self, method: str, path: str, *, host: str = "127.0.0.1:8080", **more: Any) -> httpx.Response:
        """Send one request; answers of bugs are returned, not raised."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, events: Sequence[object], **more: Any) -> httpx.Response:
        return self.ask("POST", "/v1/events", json={"events": events}, **more)


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Run the real server in a thread; yield its address once it accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        parts = services(settings)
        server = make(parts)

        async def run() -> None:
            async with started(parts.rooms):
                await server.serve(sockets=[listener])

        thread = threading.Thread(target=uvloop.run, args=(run(),))
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
