"""Send requests at a constant rate over some connections, in a process of its own, and print how long each took.

A request's time begins when it was due, not when a connection was free: a server that stalls is charged for every
request that it kept waiting. Speaks as much HTTP/1.1 and RESP as reading an answer needs. Knows no server.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple

CONNECTIONS = 32
PATIENCE_S = 30.0
_Reader = Callable[[asyncio.StreamReader], Awaitable[None]]


class RequestLoad(NamedTuple):
    """What to send.

    Attributes
    ----------
    protocol : {"http", "redis"}
    host, port
    requests : sequence of str
        Whole requests, sent in turn.
    rate_per_s, seconds : float
    """

    protocol: Literal["http", "redis"]
    host: str
    port: int
    requests: Sequence[str]
    rate_per_s: float
    seconds: float


def latencies_s(load: RequestLoad) -> list[float]:
    """Run the load in a process of its own; return the seconds of each request.

    Raises
    ------
    subprocess.CalledProcessError
        A server refused, or closed a connection.
    """
    command = [sys.executable, "-m", "streams.bench.open_loop"]
    done = subprocess.run(
        command, input=json.dumps(load), capture_output=True, text=True, check=True, timeout=load.seconds + PATIENCE_S
    )
    times: list[float] = json.loads(done.stdout)
    return times


async def _http(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"got {head[:40]!r}, expected 200")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))


async def _redis(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n")
    if not head.startswith(b"$") or head == b"$-1\r\n":
        raise SystemExit(f"got {head[:40]!r}, expected a value")
    await reader.readexactly(int(head[1:]) + 2)


_READERS: dict[str, _Reader] = {"http": _http, "redis": _redis}


async def _run(load: RequestLoad) -> list[float]:
    read = _READERS[load.protocol]
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(load.host, load.port))
    encoded = [request.encode() for request in load.requests]
    times = []

    async def send(number: int, due_s: float) -> None:
        reader, writer = await free.get()
        writer.write(encoded[number % len(encoded)])
        await read(reader)
        times.append(time.perf_counter() - due_s)
        free.put_nowait((reader, writer))

    begin_s = time.perf_counter()
    sending = []
    for number in range(int(load.rate_per_s * load.seconds)):
        due_s = begin_s + number / load.rate_per_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        sending.append(asyncio.create_task(send(number, due_s)))
    await asyncio.gather(*sending)
    return times


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_run(RequestLoad(*json.load(sys.stdin))))))
