"""What kind of server answers at an address: a cluster or not, with TLS or without. Sends no secret of its own."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from streams.publish.redis_refusal import LASTING, IsSentinel, reason_of
from streams.settings.redis_address import Address

_TIMEOUT_S = 2.0


async def is_cluster(client: Any) -> bool:
    """Ask a server whether it is a node of a cluster.

    Two commands are tried, for an ACL or a managed server may refuse one of them. If it refuses both, the answer is
    False; a cluster's first `MOVED` error then corrects it.

    Raises
    ------
    IsSentinel
        It is a sentinel.
    redis_refusal.ERRORS
        It did not answer, or refused for another reason.
    """
    try:
        mode = _mode(await client.execute_command("HELLO"))
        if mode == "sentinel":
            raise IsSentinel("a sentinel")
        return mode == "cluster"
    except ResponseError as error:
        if reason_of(error) in LASTING - {"permission", "command"}:
            raise
    try:
        await client.execute_command("CLUSTER SLOTS")
    except ResponseError:
        return False
    return True


async def scheme_advice(address: Address) -> str:
    """Advise on the URL's scheme where a server does not answer.

    Returns
    -------
    str
        The scheme to write, if one side speaks TLS and the other does not; else nothing.
    """
    for host, port in address.hosts:
        if await _speaks(host, port, tls=not address.tls):
            return "redis:// (the server has no TLS there)" if address.tls else "rediss:// (the server has TLS there)"
    return ""


def _mode(hello: Any) -> str:
    """The server's mode in its answer to HELLO: standalone, cluster or sentinel."""
    pairs = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    mode = pairs.get(b"mode", pairs.get("mode", b""))
    return mode.decode() if isinstance(mode, bytes) else str(mode)


async def _speaks(host: str, port: int, *, tls: bool) -> bool:
    """Whether a server answers there with TLS, or without."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), _TIMEOUT_S)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it demands a certificate, or another version
    except (OSError, asyncio.TimeoutError):
        return False
    try:
        if tls:
            return True
        writer.write(b"PING\r\n")
        answer = await asyncio.wait_for(reader.read(1), _TIMEOUT_S)
        return answer in (b"+", b"-")
    except (OSError, asyncio.TimeoutError):
        return False
    finally:
        writer.close()
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _TIMEOUT_S)
