"""Connections to Kafka: what aiokafka's clients need from the settings, and one bounded way to start them.

Knows no topic and no message. Called by `topics`, `doctor`, `dead_letters`, the worker and the command line.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError, KafkaError, SaslAuthenticationFailed
from aiokafka.partitioner import murmur2

from encoders.errors import AfterclickError
from streams import settings

CONNECT_TIMEOUT_S = 10.0  # chosen by us: an election is over by then, and a person still waits


class KafkaUnavailable(AfterclickError):
    """Kafka did not answer, or refused us; the message says which servers and what to do. Try again later."""


def client_options(kafka: settings.Kafka) -> dict[str, Any]:
    """Give the keyword arguments with which each client of aiokafka connects.

    Raises
    ------
    streams.settings.SettingsError
        A certificate or key file is missing or cannot be read.
    """
    security = kafka.security
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")],
        "security_protocol": security.protocol,
    }
    if security.protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = _ssl_context(security)
    if security.protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
        options["sasl_mechanism"] = security.sasl_mechanism
        options["sasl_plain_username"] = security.sasl_username
        options["sasl_plain_password"] = security.sasl_password and security.sasl_password.get_secret_value()
    return options


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Tell the partition to which Kafka's own (Java) clients send a key: murmur2, its sign cut off, modulo.

    >>> partition_of(b"foobar", 8)
    6
    """
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def answers(kafka: settings.Kafka) -> bool:
    """Whether any of the servers takes a connection within a second; no login, for this is about being there."""
    for server in kafka.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), 1)
        except (OSError, asyncio.TimeoutError):
            continue
        writer.close()
        return True
    return False


def latest_ms(stored_ms: int) -> int:
    """The time of day, milliseconds: our clock's, or when the record at hand was written if that is later.

    A clock of ours that is days behind must not take every event for one from the future.
    """
    return max(round(time.time() * 1000), stored_ms)


@asynccontextmanager
async def admin(kafka: settings.Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open a connection for questions about the cluster, and close it.

    Raises
    ------
    KafkaUnavailable
        No server answered within `CONNECT_TIMEOUT_S`, then or later.
    """
    client = AIOKafkaAdminClient(
        **client_options(kafka), request_timeout_ms=int(CONNECT_TIMEOUT_S * 1000), client_id="afterclick"
    )
    async with started(client, kafka):
        yield client


@asynccontextmanager
async def started(client: Any, kafka: settings.Kafka) -> AsyncIterator[None]:
    """Start a client of aiokafka (consumer, producer or admin), and stop it, come what may.

    Raises
    ------
    KafkaUnavailable
        It could not start within `CONNECT_TIMEOUT_S`, or lost Kafka while in use.
    """
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    try:
        await asyncio.wait_for(client.start(), CONNECT_TIMEOUT_S)
        yield
    except (KafkaError, asyncio.TimeoutError) as error:
        raise KafkaUnavailable(
            f"Kafka at {kafka.bootstrap_servers}: {await _refusal(kafka) or _no_answer(kafka, error)}"
        ) from error
    finally:
        # In a task of its own: aiokafka's `stop` waits for its tasks in a way that swallows a cancellation of ours.
        stopping = asyncio.ensure_future(stop())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await asyncio.wait([stopping])
            raise


def _no_answer(kafka: settings.Kafka, error: BaseException) -> str:
    return (
        f"got {error!r}, expected an answer to {kafka.security.protocol} within {CONNECT_TIMEOUT_S:g} s; check that it "
        f"runs, then {settings.PREFIX}KAFKA__BOOTSTRAP_SERVERS and {settings.PREFIX}KAFKA__SECURITY__…"
    )


async def _refusal(kafka: settings.Kafka) -> str:
    """Say why a server refuses us, or we it; nothing if none does. aiokafka's clients keep that to their log."""
    options, prefix = client_options(kafka), f"{settings.PREFIX}KAFKA__SECURITY__"
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            connection = await asyncio.wait_for(create_conn(host.strip("[]"), int(port), **options), CONNECT_TIMEOUT_S)
        except (AuthenticationFailedError, SaslAuthenticationFailed):
            return (
                f"got a refusal of user {kafka.security.sasl_username!r}, expected its name and password to be right "
                f"for {kafka.security.sasl_mechanism}; correct {prefix}SASL_USERNAME or {prefix}SASL_PASSWORD"
            )
        except ssl.SSLCertVerificationError as error:
            return (
                f"got a certificate that is not to be trusted ({error.verify_message}), expected a valid one for this "
                f"address from {kafka.security.ssl_cafile or 'an authority that this system knows'}; renew it, or "
                f"correct {prefix}SSL_CAFILE"
            )
        except KafkaConnectionError:  # taken, then closed; with TLS 1.3 that is how a client's certificate is refused
            own = kafka.security.ssl_certfile or "none"
            return (
                f"got the connection closed by the server, expected an answer to {kafka.security.protocol}; check "
                f"{prefix}PROTOCOL, and {prefix}SSL_CERTFILE ({own}): the server may want another certificate of ours"
            )
        except (KafkaError, OSError, asyncio.TimeoutError, ValueError):
            continue
        connection.close()
    return ""


def _ssl_context(security: settings.Security) -> ssl.SSLContext:
    """Like `ssl.create_default_context`, with errors that name the setting."""
    prefix = f"{settings.PREFIX}KAFKA__SECURITY__"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        file: Path | None = getattr(security, name)
        if file is not None and not file.is_file():
            raise settings.SettingsError(
                f"{prefix}{name.upper()}: got {file}, expected a PEM file that exists; check the path"
            )
    try:
        context = ssl.create_default_context(cafile=security.ssl_cafile)
    except (ssl.SSLError, OSError) as error:
        raise settings.SettingsError(
            f"{prefix}SSL_CAFILE: got {security.ssl_cafile} ({error}), expected certificates in PEM; check the file"
        ) from error
    if security.ssl_certfile is None:
        return context
    password = security.ssl_key_password.get_secret_value() if security.ssl_key_password else ""
    try:
        context.load_cert_chain(security.ssl_certfile, security.ssl_keyfile, password=password)
    except (ssl.SSLError, OSError) as error:
        raise settings.SettingsError(
            f"{prefix}SSL_CERTFILE: got {security.ssl_certfile} ({error}), expected a certificate with its "
            f"key in PEM; check it, {prefix}SSL_KEYFILE and {prefix}SSL_KEY_PASSWORD"
        ) from error
    return context
