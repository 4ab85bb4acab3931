"""Connections to Kafka: what aiokafka's clients need from the settings, and one bounded way to start them.

Knows no topic and no message.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
)
from aiokafka.partitioner import murmur2

from encoders.errors import AfterclickError
from streams import settings
from streams.faust_compat import bounded_codecs, oauth, unreadable
from streams.faust_compat.constants import ISOLATION, NO_RIGHT
from streams.kafka import outage
from streams.kafka.tls import ssl_context
from streams.kafka.token_provider import TokenProvider, TokenUnavailable

bounded_codecs.install()
unreadable.install()
oauth.install()

ANSWER_TIMEOUT_S = 2.0  # chosen by us: a broker that runs answers the first request in milliseconds
METADATA_AGE_MS = 15_000  # chosen by us: a new partition of a topic is read within this time
CONNECT_TIMEOUT_S = 10.0  # chosen by us: an election is over by then, and a person still waits
FOLLOW_AGAIN_S = 1.0


class KafkaUnavailable(AfterclickError):
    """Kafka did not answer. The message says which servers and what to do. A later attempt may succeed."""


class KafkaRefuses(AfterclickError):
    """Kafka refused our login or a right, or we its certificate. A later attempt does not help."""


def client_options(kafka: settings.KafkaSettings) -> dict[str, Any]:
    """Return the keyword arguments with which each client of aiokafka connects.

    Raises
    ------
    streams.settings.SettingsError
        A certificate or key file is missing or cannot be read; a token provider cannot be imported.
    """
    security = kafka.security
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "security_protocol": security.protocol,
    }
    if security.protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = ssl_context(security)
    if security.protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
        options["sasl_mechanism"] = security.sasl_mechanism
    if options.get("sasl_mechanism") == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = _token_provider(security.token_provider or "")
    elif "sasl_mechanism" in options:
        options["sasl_plain_username"] = security.sasl_username
        options["sasl_plain_password"] = security.sasl_password and security.sasl_password.get_secret_value()
    return options


def consumer(kafka: settings.KafkaSettings, *topics: str, **more: Any) -> AIOKafkaConsumer:
    """Make a consumer that starts at the beginning, reads committed messages, and commits nothing by itself.

    Parameters
    ----------
    topics : str
        The topics to subscribe to; none if the caller assigns partitions.
    more
        Further keyword arguments of aiokafka's consumer.

    Raises
    ------
    streams.settings.SettingsError
        See `client_options`.
    """
    return AIOKafkaConsumer(
        *topics,
        **client_options(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=ISOLATION,
        fetch_max_wait_ms=kafka.fetch_wait_ms,
        metadata_max_age_ms=METADATA_AGE_MS,
        **more,
    )


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition to which Kafka's own (Java) clients send a key: murmur2 without its sign, modulo.

    >>> partition_of(b"foobar", 8)
    6
    """
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def why_away(kafka: settings.KafkaSettings, group: str | None = None) -> str:
    """Return why Kafka cannot be used: who refuses us and how, or that no server answers; "" if it can be used.

    Parameters
    ----------
    group : str or None
        A consumer group whose coordinator has to answer too. The coordinator may be on a broker that is down, with no
        other broker to take over.
    """
    answer = await _probe(kafka, ANSWER_TIMEOUT_S)
    if not answer.answered:
        return answer.refusal or f"no server of {kafka.bootstrap_servers} answers"
    if group is None:
        return ""
    client = AIOKafkaClient(**client_options(kafka), request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000))
    try:
        await client.bootstrap()
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        is_there = bool(await client.ready(coordinator))
    except KafkaError as error:
        return f"has no coordinator for the consumer group {group} ({error!r})"
    finally:
        await client.close()
    return "" if is_there else f"the coordinator of the consumer group {group} takes no connection"


async def follow(read: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function that reads topics for ever; anew where Kafka was away for longer than its client waits.

    Raises
    ------
    KafkaRefuses
    """
    while True:
        try:
            await read()
        except KafkaUnavailable as error:
            outage.kafka.seen(str(error), lasts_s=0)
            await asyncio.sleep(FOLLOW_AGAIN_S)


@asynccontextmanager
async def admin(kafka: settings.KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client, and close it.

    Raises
    ------
    KafkaUnavailable
        No server answered within `CONNECT_TIMEOUT_S`, at the start or later.
    """
    client = AIOKafkaAdminClient(
        **client_options(kafka), request_timeout_ms=int(CONNECT_TIMEOUT_S * 1000), client_id="afterclick"
    )
    async with started(client, kafka):
        yield client


@asynccontextmanager
async def started(client: Any, kafka: settings.KafkaSettings) -> AsyncIterator[None]:
    """Start a client of aiokafka (consumer, producer, admin or bare client), and stop it in any case.

    Raises
    ------
    KafkaUnavailable
        The client could not start within `CONNECT_TIMEOUT_S`, or lost Kafka while in use.
    KafkaRefuses
        Kafka refused the login, the certificate or a right.
    """
    start = client.bootstrap if isinstance(client, AIOKafkaClient) else client.start
    stop = client.close if isinstance(client, (AIOKafkaAdminClient, AIOKafkaClient)) else client.stop
    try:
        await asyncio.wait_for(start(), CONNECT_TIMEOUT_S)
        yield
    except (KafkaError, asyncio.TimeoutError) as error:
        where = f"Kafka at {kafka.bootstrap_servers}"
        if isinstance(error, NO_RIGHT):
            raise no_right(kafka, error) from error
        answer = await _probe(kafka, CONNECT_TIMEOUT_S)
        kind = KafkaRefuses if answer.is_permanent else KafkaUnavailable
        raise kind(f"{where}: {answer.refusal or _no_answer(kafka, error)}") from error
    finally:
        # In a task of its own: aiokafka's `stop` waits for its tasks in a way that swallows a cancellation of ours.
        stopping = asyncio.ensure_future(stop())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await asyncio.wait([stopping])
            raise


def _no_answer(kafka: settings.KafkaSettings, error: BaseException) -> str:
    words = {asyncio.TimeoutError: "no answer", TimeoutError: "no answer", KafkaConnectionError: "no connection"}
    got = words.get(type(error), repr(error))
    return (
        f"got {got}, expected an answer to {kafka.security.protocol} within {CONNECT_TIMEOUT_S:g} s; check that it "
        f"runs, then {settings.PREFIX}KAFKA__BOOTSTRAP_SERVERS and {settings.PREFIX}KAFKA__SECURITY__PROTOCOL"
    )


def no_right(kafka: settings.KafkaSettings, error: BaseException) -> KafkaRefuses:
    """Return an error that names the resource. At the start, `rights` finds out which right is missing."""
    return KafkaRefuses(
        f"Kafka at {kafka.bootstrap_servers}: got {error}, expected the right to work with it; grant it to our user "
        f"({settings.PREFIX}KAFKA__SECURITY__…)"
    )


class _ProbeResult(NamedTuple):
    """Whether a server answers.

    Attributes
    ----------
    answered : bool
        A server answers, and the login succeeds.
    refusal : str
        Otherwise, why a server refuses us, or we its certificate; empty if no server is there.
    is_permanent : bool
        The refusal certainly does not end by waiting.
    """

    answered: bool
    refusal: str = ""
    is_permanent: bool = False


async def _probe(kafka: settings.KafkaSettings, timeout_s: float) -> _ProbeResult:
    """Connect as aiokafka's clients do. They only log why they cannot connect."""
    options, prefix = client_options(kafka), f"{settings.PREFIX}KAFKA__SECURITY__"
    del options["bootstrap_servers"]
    result = _ProbeResult(False)
    for host, port in kafka.servers:
        try:
            connection = await asyncio.wait_for(create_conn(host, port, **options), timeout_s)
        except TokenUnavailable as error:
            refusal = f"got {error.args[0]}, expected a token; see to that function, or correct {prefix}TOKEN_PROVIDER"
            return _ProbeResult(False, refusal)
        except (AuthenticationFailedError, SaslAuthenticationFailed) as error:
            return _ProbeResult(False, _login_refused(kafka.security, error), True)
        except ssl.SSLCertVerificationError as error:
            refusal = (
                f"got a certificate that is not to be trusted ({error.verify_message}), expected a valid one for this "
                f"address from {kafka.security.ssl_cafile or 'an authority that this system knows'}; renew it, or "
                f"correct {prefix}SSL_CAFILE"
            )
            return _ProbeResult(False, refusal, True)
        except KafkaConnectionError:  # accepted, then closed: with TLS 1.3 a server refuses a client's certificate so
            ours = kafka.security.ssl_certfile or "none"
            refusal = (
                f"got the connection closed by the server, expected an answer to {kafka.security.protocol}; check "
                f"{prefix}PROTOCOL, and {prefix}SSL_CERTFILE ({ours}): the server may want another certificate of ours"
            )
            result = _ProbeResult(False, refusal, kafka.security.protocol.endswith("SSL"))
        except (KafkaError, OSError, asyncio.TimeoutError, ValueError):
            continue
        else:
            connection.close()
            return _ProbeResult(True)
    return result


def _login_refused(security: settings.SecuritySettings, error: Exception) -> str:
    prefix = f"{settings.PREFIX}KAFKA__SECURITY__"
    if security.sasl_mechanism == "OAUTHBEARER":
        return (
            f"got a refusal of the token from {security.token_provider} ({error}), expected the servers to take it; "
            f"check its issuer, audience and end, or correct {prefix}TOKEN_PROVIDER"
        )
    password = security.sasl_password.get_secret_value() if security.sasl_password else ""
    padded = " (it has white space at its ends: a line feed from a file?)" if password != password.strip() else ""
    return (
        f"got a refusal of user {security.sasl_username!r}, expected its name and password to be right "
        f"for {security.sasl_mechanism}; correct {prefix}SASL_USERNAME or {prefix}SASL_PASSWORD{padded}"
    )


@lru_cache
def _token_provider(path: str) -> TokenProvider:
    """Return one provider for all clients of the process, which then share its tokens."""
    return TokenProvider(path)
