"""Parse the URL of Redis: the address, the login, the options, and a form of it without a secret.

The parser is stricter than redis-py, which reads `redis://:12#3@cache` as localhost, `/notanumber` as database 0, and
accepts any option. Opens no connection. Knows no setting: an error says what is expected, and the settings say where.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

FORM = "redis://user:password@host:6379/0, rediss://… for TLS, redis+sentinel://host:26379,host2:26379/master/0, or unix://"
REDIS_PORT, SENTINEL_PORT = 6379, 26379
_SCHEME = re.compile(r"(?P<scheme>[a-z+]+)://(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+\]")
_MASTER = re.compile(r"[A-Za-z0-9._-]+")


class AddressError(ValueError):
    """The URL is refused. The message completes "expected …", and contains no part of the URL."""


@dataclass(frozen=True)
class Address:
    """Where Redis is.

    Attributes
    ----------
    hosts : tuple of (str, int)
        Host and port of the Redis server, of some nodes of a cluster, or of the sentinels; none for a socket.
    tls : bool
        Whether the connection is encrypted.
    path : str
        The path of the Unix socket; empty otherwise.
    master : str
        The name under which the sentinels know the Redis; empty without sentinels.
    db : int
        The number of the database.
    options : mapping
        The options of redis-py's connections, with `username` and `password` among them.
    sentinel_login : mapping
        The login at the sentinels themselves.
    """

    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    path: str = ""
    master: str = ""
    db: int = 0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Write the address without login and options.

        >>> str(parse("rediss://app:hunter2@cache?ssl_cert_reqs=none"))
        'rediss://cache:6379/0'
        >>> str(parse("redis+sentinel://:hunter2@one,two:26380/mymaster"))
        'redis+sentinel://one:26379,two:26380/mymaster/0'
        """
        if self.path:
            return f"unix://{self.path} database {self.db}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.master else "")
        return f"{scheme}://{hosts}{'/' if self.master else ''}{self.master}/{self.db}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The passwords, which no log may contain."""
        return tuple(
            value for login in (self.options, self.sentinel_login) for name, value in login.items() if "pass" in name
        )


def parse(url: str) -> Address:
    """Parse a URL.

    Raises
    ------
    AddressError
        It is no URL of Redis, or two clients could read it differently.
    """
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise AddressError(f"no white space or line break in it ({FORM})")
    match = _SCHEME.fullmatch(url)
    scheme = match["scheme"].lower() if match else ""
    if match is None or scheme not in ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "unix"):
        raise AddressError(FORM)
    for letter, code in (("#", "%23"), (";", "%3B"), ("\\", "%5C")):
        if letter in url:
            raise AddressError(f"no {letter!r} in it (in a password write {code})")
    before, _, query = match["rest"].partition("?")
    authority, _, path = before.partition("/")
    if "+" in query:
        raise AddressError("no '+' in the options, which some read as a space (write %2B, or %20)")
    if "@" in path + query:
        raise AddressError("no '/', '?' or '@' after the login but its own (in a password write %2F, %3F and %40)")
    login, at, hosts = authority.rpartition("@")
    options = _options(query, tls=scheme.startswith("rediss"), sentinel=scheme.endswith("+sentinel"))
    sentinel_login = {
        name.removeprefix("sentinel_"): options.pop(name) for name in list(options) if name.startswith("sentinel_")
    }
    db = options.pop("db", None)
    if at:
        if options.keys() & {"username", "password"}:
            raise AddressError("the login in one place: before the host, or as the options username and password")
        options |= _login(login)
    if options.get("username") and not options.get("password"):
        raise AddressError("a password with the user")
    if scheme == "unix":
        if hosts or not path:
            raise AddressError("unix:///path/of/the/socket?db=0")
        return Address((), path="/" + unquote(path), db=db or 0, options=options)
    tls, master = scheme.startswith("rediss"), ""
    if scheme.endswith("+sentinel"):
        master, _, path = path.partition("/")
        if not _MASTER.fullmatch(master):
            raise AddressError(
                "the master's name after the sentinels: redis+sentinel://host:26379,host2:26379/master/0"
            )
    addresses, database = _hosts(hosts, SENTINEL_PORT if master else REDIS_PORT), _database(path, db)
    if len(addresses) > 1 and not master and database:
        raise AddressError("database 0 of a cluster, for several hosts are its nodes (or sentinels: redis+sentinel://)")
    return Address(addresses, tls, "", master, database, options, sentinel_login)


def _login(login: str) -> dict[str, str]:
    user, colon, password = login.partition(":")
    if not colon:
        raise AddressError("a colon before the password, also without a user: redis://:password@host:6379/0")
    if not password:
        raise AddressError("a password between ':' and '@' (without one leave the login out, with its '@')")
    return {"password": unquote(password)} | ({"username": unquote(user)} if user else {})


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(part, default_port) for part in text.split(","))


def _host(text: str, default_port: int) -> tuple[str, int]:
    ipv6 = _IPV6.match(text)
    host, colon, port = (ipv6[0], *text[ipv6.end() :].partition(":")[1:]) if ipv6 else text.partition(":")
    if ipv6 and text[ipv6.end() :].partition(":")[0]:
        raise AddressError("nothing between ']' and the port")
    if not ipv6 and not _HOST.fullmatch(host):
        raise AddressError("a host before the port: a name, an IPv4 address, or an IPv6 address in [ ]")
    if not colon:
        return host.strip("[]"), default_port
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:9]) <= 65_535):
        raise AddressError(
            "a port from 1 to 65535 behind the host (a login stands before the host and ends with '@'; in a password "
            "write '/' as %2F, ':' behind the user's as it is)"
        )
    return host.strip("[]"), int(port)


def _database(path: str, option: int | None) -> int:
    if not path:
        return option or 0
    if not (path.isascii() and path.isdecimal() and len(path) < 7):
        raise AddressError("a number for the database behind the '/' (in a password write '/' as %2F)")
    if option is not None and option != int(path):
        raise AddressError("the database in one place: behind the '/', or as the option db")
    return int(path)


def _yes_or_no(text: str) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise ValueError
    return values[text.lower()]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise ValueError
    return int(text)


def _protocol(text: str) -> int:
    if text not in ("2", "3"):
        raise ValueError
    return int(text)


def _certificates(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError
    return text


_LOGIN: dict[str, Callable[[str], Any]] = {"username": str, "password": str}
_ANY: dict[str, Callable[[str], Any]] = {
    **_LOGIN,
    "db": _number,
    "client_name": str,
    "protocol": _protocol,
    "health_check_interval": _number,
    "socket_keepalive": _yes_or_no,
}
_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": str,
    "ssl_ca_data": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": _certificates,
    "ssl_check_hostname": _yes_or_no,
    "ssl_min_version": lambda text: ssl.TLSVersion(int(text)),
    "ssl_ciphers": str,
}


def _options(query: str, *, tls: bool, sentinel: bool) -> dict[str, Any]:
    """Parse the options after the '?', each into the type that redis-py takes."""
    parsers = _ANY | (_TLS if tls else {}) | ({f"sentinel_{name}": str for name in _LOGIN} if sentinel else {})
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise AddressError("options as name=value, with & between them") from None
    options: dict[str, Any] = {}
    for name, text in given:
        if name in _TLS and not tls:
            raise AddressError("rediss:// with options that begin with ssl_")
        if name in ("socket_timeout", "socket_connect_timeout"):
            raise AddressError("no time-out among the options (AFTERCLICK_REDIS__TIMEOUT_MS is one)")
        if name not in parsers:
            raise AddressError(f"no options but {', '.join(parsers)}")  # the name may be a part of a password
        if name in options:
            raise AddressError(f"the option {name} once")
        try:
            options[name] = parsers[name](text)
        except ValueError:
            raise AddressError(f"a value of the option {name} that it can have") from None
    return options
