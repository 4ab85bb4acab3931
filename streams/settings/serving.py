"""Settings of HTTP: where it listens, who may ask for what, and how much.

Opens no port.
"""

from __future__ import annotations

import ipaddress
import re

from pydantic import SecretStr, field_validator

from streams.settings.errors import SettingsError
from streams.settings.group import PREFIX, SettingsGroup, setting, split_commas

USUAL_PORT = 8080
"""The port of `afterclick serve` and of `worker --http` where no port is set; chosen by us: the usual one."""
_ORIGIN = re.compile(r"\*|https?://[^/?#\s,@]+")
_TOKEN = "The bearer token that {what} needs. Unset: no token is needed, and only this machine can be served."


class HttpSettings(SettingsGroup):
    """Lists, events and scores by HTTP."""

    host: str = setting(
        "127.0.0.1",
        "The address that the HTTP interface listens on. The default is reachable from this machine only; any other "
        "needs all three tokens.",
        unit="host name or address",
    )
    port: int = setting(
        0,
        f"The port of the HTTP interface. 0: a worker serves none, unless it is started with `--http`; then, and with "
        f"`afterclick serve`, it is {USUAL_PORT}.",
        unit="TCP port",
        ge=0,
        le=65_535,
    )
    read_token: SecretStr | None = setting(None, _TOKEN.format(what="reading lists"), unit="secret text", min_length=16)
    write_token: SecretStr | None = setting(
        None, _TOKEN.format(what="sending events and erasing users"), unit="secret text", min_length=16
    )
    rank_token: SecretStr | None = setting(
        None, _TOKEN.format(what="having candidates ranked"), unit="secret text", min_length=16
    )
    rate_per_s: float = setting(
        1_000,
        "The most requests of each right that one client address may make, in the mean over a second. More are "
        "answered with 429. 0: no limit.",
        unit="requests/s",
        ge=0,
    )
    max_body_bytes: int = setting(
        4 << 20, "The largest body of a request. A larger one is answered with 413.", unit="bytes", ge=1_024
    )
    max_events: int = setting(1_000, "The most events in one request.", unit="events", ge=1)
    max_connections: int = setting(
        1_000, "The most open connections. One more is answered with 503 and closed.", unit="connections", ge=1
    )
    client_timeout_s: float = setting(
        10,
        "A client has this time to send a whole request. A slower one is answered with 408 and disconnected.",
        unit="s",
        gt=0,
    )
    rerank: bool = setting(
        True,
        "Whether the HTTP interface scores candidates (`POST /v1/rerank`). It then loads the models in a process of "
        "its own, and keeps a copy of the catalogue in memory and of the users' states on disk.",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        "Origins of web pages whose scripts may use the HTTP interface (`https://shop.example`), separated by commas; "
        "`*`: all. Empty: none.",
        unit="origins",
    )

    _split = field_validator("cors_origins", mode="before")(split_commas)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [origin for origin in value if not _ORIGIN.fullmatch(origin)]:
            raise ValueError(f"scheme://host or scheme://host:port without a path, not {wrong[0]!r}")
        return value

    @field_validator("read_token", "write_token", "rank_token")
    @classmethod
    def _as_clients_send_it(cls, value: SecretStr | None) -> SecretStr | None:
        return value and SecretStr(value.get_secret_value().strip())

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def check_tokens(self) -> None:
        """Refuse to serve other machines without tokens.

        Raises
        ------
        SettingsError
            The address is not of the loopback interface, and a token is missing.
        """
        missing = [name for name in ("read_token", "write_token", "rank_token") if getattr(self, name) is None]
        if missing and not self.is_local:
            names = ", ".join(f"{PREFIX}HTTP__{name.upper()}" for name in missing)
            raise SettingsError(
                f"{PREFIX}HTTP__HOST: got {self.host!r} without {names}, expected a token for each right beyond this "
                "machine; set them, or 127.0.0.1"
            )
