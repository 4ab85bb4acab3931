"""The HTTP server: uvicorn with the application, on one event loop, until SIGTERM.

Knows which rooms there are.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading

import uvicorn
import uvloop

from encoders.text import vector_store
from streams import metrics
from streams.kafka import outage
from streams.kafka.client import why_away
from streams.kafka.input_producer import InputProducer
from streams.publish.list_reader import ListReader
from streams.rank.serving import Serving
from streams.serve.app import Services, create_app, started
from streams.serve.events import EventRoom
from streams.serve.lists import ListRoom
from streams.serve.page.room import Page
from streams.serve.protocol import bounded
from streams.serve.replica import Replica
from streams.serve.replica_room import ReplicaRoom
from streams.serve.rerank import Reranker
from streams.serve.rerank_room import RerankRoom
from streams.serve.rooms import Room
from streams.settings import PREFIX, HttpSettings, Settings, SettingsError
from streams.settings.serving import USUAL_PORT

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
"""An idle connection is closed after this time; nginx's own default, and longer than what load balancers keep one."""
BACKLOG = 1_024
LOOK_EVERY_S = 1.0
SPARE_FILES = 128
"""Open files beside the connections; chosen by us: connections to Kafka and Redis, and a margin."""


def services(settings: Settings, web: bool = False) -> Services:
    """Make the rooms. They connect when the application starts."""
    lists = ListRoom(settings.pseudonym_key, ListReader(settings), settings.candidates.domains)
    return Services(settings, lists, EventRoom(settings, InputProducer(settings)), _knowing(settings, web))


def _knowing(settings: Settings, web: bool) -> tuple[Room, ...]:
    """Make the rooms that need a replica, and models, which begin to load now."""
    if not (settings.http.rerank or web):
        return ()
    # No feedback arrives here, so the head of a model would keep lists for nothing.
    ranker = settings.ranker.model_copy(update={"learn": False}) if settings.http.rerank else None
    serving = Serving(settings.encoder, ranker, vectors=settings.tables.data_dir / vector_store.FILE)
    replica = Replica(settings, serving)
    rooms: list[Room] = [ReplicaRoom(replica, serving.close)]
    if settings.http.rerank:
        rooms.append(RerankRoom(settings, Reranker(settings, serving, replica)))
    if web:
        rooms.append(Page(settings, replica))
    return tuple(rooms)


def run(settings: Settings, *, web: bool = False, end_with_stdin: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. Requests under way get `grace_s` to finish.

    Parameters
    ----------
    web : bool
        Serve the live page too.
    end_with_stdin : bool
        End when standard input does: a worker holds its other end, and lets go of it however it ends.

    Raises
    ------
    SettingsError
        The address is in use, or Redis refuses us.
    """
    http = settings.http
    metrics.show_build([""])
    parts = services(settings, web)
    listener = _listen(http)
    logging.getLogger("uvicorn").setLevel("ERROR")  # its warnings are about what clients send: metrics count that
    _allow_files(http.max_connections + SPARE_FILES)
    if end_with_stdin:
        threading.Thread(target=_end_with_stdin, name="end-with-worker", daemon=True).start()
    uvloop.run(_serve(parts, listener))


def make(parts: Services) -> uvicorn.Server:
    """Make the server of an application."""
    settings = parts.settings
    return uvicorn.Server(
        uvicorn.Config(
            create_app(parts),
            http=bounded(settings.http),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a header that anyone may send must not change whose rate limit counts
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, int(settings.grace_s)),
            backlog=BACKLOG,
        )
    )


async def _serve(parts: Services, listener: socket.socket) -> None:
    watching = asyncio.ensure_future(_watch_kafka(parts.settings))
    async with started(parts.rooms):
        logger.info("serves http://%s:%d", parts.settings.http.host, listener.getsockname()[1])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn raises the signal once more when it has ended
        gc.collect()
        gc.freeze()  # what is loaded stays: a full collection that looked at it took tens of milliseconds
        await make(parts).serve(sockets=[listener])
    watching.cancel()
    logger.info("the server has stopped")


async def _watch_kafka(settings: Settings) -> None:
    """Log when Kafka is back, for ever. Those who find out that it is away have it logged."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if outage.kafka.is_logged and not await why_away(settings.kafka):
            outage.kafka.back()


def _listen(http: HttpSettings) -> socket.socket:
    host, port = http.host.strip("[]"), http.port or USUAL_PORT
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = str(error.strerror).partition(" (")[0]
        raise SettingsError(
            f"{PREFIX}HTTP__PORT: got {port} on {http.host} ({why}), expected an address that is free; "
            "choose another port, or end the program that has it"
        ) from error


def _allow_files(needed: int) -> None:
    """Raise the soft limit on open files, as far as the hard one lets us: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > soft != resource.RLIM_INFINITY:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else min(needed, hard), hard)
        )


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4_096):  # unbuffered: at exit Python aborts if a thread holds a buffer's lock
        pass
    os.kill(os.getpid(), signal.SIGTERM)
