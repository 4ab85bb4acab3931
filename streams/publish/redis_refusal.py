"""Why Redis did not do its work: a reason for the metric, and one line for people that says what to do.

The texts of servers and of redis-py are not shown as they are: they repeat arguments (`unknown command 'HELLO', with
args beginning with: '3' 'AUTH' 'default' 'the password'`), and the error of a script repeats its lines. Opens no
connection.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from encoders.errors import AfterclickError
from streams.settings import PREFIX
from streams.settings.redis_address import Address


class CacheUnavailable(AfterclickError):
    """Redis did not answer, or does not do its work now; the message says what to check."""


class IsSentinel(ResponseError):
    """A sentinel answers at the address where Redis is expected."""


class FileUnreadable(OSError):
    """A file that the URL names for TLS cannot be read; the message says which one, and why."""


ERRORS = (RedisError, RedisClusterException, OSError)
"""All errors of a redis-py call that are not bugs."""
URL = f"{PREFIX}REDIS__URL"
LASTING = frozenset(
    {
        "permission",
        "login",
        "tls",
        "certificate",
        "command",
        "database",
        "sentinel",
        "no-sentinel",
        "no-cluster",
        "foreign-owner",
    }
)
"""Reasons that last until a person acts: a worker does not start with one."""
SINGLE_KEY = frozenset({"wrong-type", "refused"})
"""Reasons that may concern one key, while Redis takes lists under the others."""
STALE = frozenset({"away", "read-only", "loading", "cluster", "no-master", "not-writing"})
"""Reasons to connect again: the address may lead to another server now."""

_CLASSES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((IsSentinel,), "sentinel"),
    ((NoPermissionError,), "permission"),
    ((AuthenticationError, AuthorizationError), "login"),
    ((ReadOnlyError,), "read-only"),
    ((OutOfMemoryError,), "full"),
    ((BusyLoadingError,), "loading"),
    ((MasterNotFoundError, MasterDownError), "no-master"),
    ((AskError, MovedError, TryAgainError, ClusterCrossSlotError, ClusterError, RedisClusterException), "cluster"),
)
_TEXTS: tuple[tuple[str, str], ...] = (  # errors inside a script, and of old servers: they have no class of their own
    (r"can't run this command|can't access at least one|\bNOPERM\b|no permissions? to", "permission"),
    (r"\b(NOAUTH|WRONGPASS)\b|invalid password|without any password configured", "login"),
    (r"\bREADONLY\b|against a read only", "read-only"),
    (r"\bOOM\b|used memory > 'maxmemory'", "full"),
    (r"\bLOADING\b", "loading"),
    (r"\bMASTERDOWN\b", "no-master"),
    (r"\b(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|CROSSSLOT)\b", "cluster"),
    (r"\b(MISCONF|NOREPLICAS)\b", "not-writing"),
    (r"\bWRONGTYPE\b", "wrong-type"),
    (r"unknown command .SENTINEL", "no-sentinel"),
    (r"cluster support disabled", "no-cluster"),
    (r"unknown (redis )?command|unknown subcommand|wrong number of args|syntax error", "command"),
    (r"DB index|SELECT is not allowed", "database"),
)
_NEEDED = "GET, SET, DEL, EVAL, HGET, HSET and HGETALL"
_LINES = {
    "permission": f"got no permission ({{text}}), expected {_NEEDED} on our keys; correct the user's ACL",
    "login": f"got a refusal of the login ({{text}}), expected user and password to be right; correct {URL}",
    "read-only": "got a replica that takes no writes ({text}), expected the master at {address}; check the failover",
    "full": "got no room ({text}), expected free memory; raise maxmemory, or choose an eviction policy",
    "loading": "got a server that still loads its data ({text}), expected it to answer soon; wait",
    "no-master": "got no master ({text}), expected one at {address}; check the failover, and the master's name",
    "cluster": "got a cluster that lacks nodes ({text}), expected an answer for every key; check {address}'s nodes",
    "not-writing": "got a server that writes nothing ({text}), expected one that does; check its disk and its replicas",
    "command": "got a server without what we need ({text}), expected Redis 6.2 or newer with no command renamed",
    "sentinel": f"got {{text}}, expected Redis; name its master in {URL}: redis+sentinel://host:26379/master/0",
    "no-sentinel": f"got a server that is no sentinel ({{text}}), expected one; in {URL} write redis://host:6379/0",
    "database": f"got no database {{address.db}} ({{text}}), expected one that exists, in a cluster 0; correct {URL}",
    "no-cluster": f"got a single server ({{text}}), expected a cluster at several hosts; in {URL} write one host",
    "wrong-type": "got a value of another type under a key of ours ({text}), expected a list; delete the key",
    "refused": "got an error ({text}), expected none; read Redis' log",
    "away": f"{{text}}; expected an answer at {{address}}; is it running, and is {URL} right?",
}
REASONS = (*_LINES, "tls", "certificate", "damaged-offset", "foreign-owner")


@dataclass(frozen=True)
class Refusal:
    """Why Redis did not do its work.

    Attributes
    ----------
    reason : str
        One of `REASONS`.
    text : str
        One line without a secret: got, expected, what to do.
    """

    reason: str
    text: str

    @property
    def lasting(self) -> bool:
        """Whether it lasts until a person acts."""
        return self.reason in LASTING


def reason_of(error: Exception) -> str:
    """Classify an error of redis-py.

    Returns
    -------
    str
        One of `REASONS`.

    Examples
    --------
    >>> reason_of(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    'wrong-type'
    >>> reason_of(ConnectionRefusedError())
    'away'
    """
    error = _root(error)
    for cause in _causes(error):
        if isinstance(cause, (ssl.SSLCertVerificationError, FileUnreadable)):
            return "certificate"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return "tls"
    for classes, reason in _CLASSES:
        if isinstance(error, classes):
            return reason
    if isinstance(error, ResponseError):
        return next((reason for text, reason in _TEXTS if re.search(text, str(error), re.IGNORECASE)), "refused")
    return "away"


def explain(error: Exception, address: Address) -> Refusal:
    """Say in one line why Redis refuses us, why we refuse it, or that it is away."""
    error = _root(error)
    reason = reason_of(error)
    if reason in ("certificate", "tls"):
        return Refusal(reason, _tls(error))
    text = shown(error, address)
    return Refusal(
        reason, _LINES[reason].format(text=_no_master(text) if reason == "no-master" else text, address=address)
    )


def shown(error: Exception, address: Address) -> str:
    """The error's own text, without arguments, secrets and line breaks.

    Examples
    --------
    >>> from streams.settings.redis_address import parse
    >>> text = "unknown command `HELLO`, with args beginning with: `3` `AUTH` `default` `hunter2` "
    >>> shown(ResponseError(text), parse("redis://:hunter2@cache"))
    'unknown command `HELLO`'
    """
    text = re.split(r",? with args beginning with| script: [0-9a-f]{40}", str(error))[0]
    for secret in address.secrets:
        text = text.replace(secret, "***")
    text = " ".join(text.split())[:200]
    return text or type(error).__name__


def no_right_to(commands: list[str], keys: str) -> Refusal:
    """An ACL, or a renamed command, keeps these commands from us; `keys` is the prefix of our keys."""
    return Refusal(
        "permission",
        f"got no permission to {', '.join(commands)}, expected {_NEEDED} on {keys}*; correct the user's ACL",
    )


def _no_master(text: str) -> str:
    """The error without the sentinels' client objects, which redis-py prints into it."""
    name = re.match(r"No master found for '[^']*'", text)
    if name is None:
        return text
    return name[0] + (": a sentinel refuses its login, sentinel_password" if "AuthenticationError" in text else "")


def _tls(error: Exception) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"got a certificate that is not to be trusted ({cause.verify_message}), expected a valid one for this "
                f"address; renew it, or name its CA in {URL}: rediss://…?ssl_ca_certs=/path/ca.pem"
            )
        if isinstance(cause, ssl.SSLError):
            return (
                f"got no TLS ({cause.reason}), expected it at a rediss:// address; correct {URL}, or its ssl_ options"
            )
        if isinstance(cause, FileUnreadable):
            return f"got {cause}, expected a file that can be read; correct {URL}"
    raise AssertionError("not an error of TLS")


def _root(error: Exception) -> Exception:
    """The cause of a cluster client's error that only says that no node answers."""
    cause = error.__cause__ or error.__context__
    while isinstance(error, RedisClusterException) and isinstance(cause, ERRORS):
        error, cause = cause, cause.__cause__ or cause.__context__
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and the errors that led to it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
