"""Settings of the connections to Kafka, its schema registry and Redis: addresses, logins, time-outs.

Opens no connection.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import SecretStr, ValidationInfo, field_validator

from streams.settings import redis_address
from streams.settings.group import PREFIX, TOPIC_LETTERS, SettingsGroup, setting
from streams.settings.http_url import check_url


class SecuritySettings(SettingsGroup):
    """How the workers log in to Kafka."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "Whether the connection is encrypted (SSL) and whether it needs a login (SASL)."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = setting(
        "SCRAM-SHA-512",
        "How a SASL login proves itself: with a user name and a password, or with a token (OAUTHBEARER).",
    )
    token_provider: str | None = setting(
        None,
        "The function that returns the token of an OAUTHBEARER login.",
        unit="module:callable",
        validate_default=True,
    )
    sasl_username: str | None = setting(None, "The user name of a SASL login.", unit="text", validate_default=True)
    sasl_password: SecretStr | None = setting(
        None, "The password of a SASL login.", unit="secret text", validate_default=True
    )
    ssl_cafile: Path | None = setting(
        None,
        "The certificate authorities that the workers trust. Unset: the authorities of the operating system.",
        unit="path of a PEM file",
    )
    ssl_certfile: Path | None = setting(
        None, "The certificate that the workers present, for mutual TLS.", unit="path of a PEM file"
    )
    ssl_keyfile: Path | None = setting(
        None, "The private key of that certificate. Unset: the key is in `ssl_certfile`.", unit="path of a PEM file"
    )
    ssl_key_password: SecretStr | None = setting(
        None, "The password that decrypts the private key.", unit="secret text"
    )

    @field_validator("protocol", "sasl_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        upper = value.strip().upper() if isinstance(value, str) else value
        if upper == "AWS_MSK_IAM":  # the name that Amazon's Java library has for it
            raise ValueError(f"OAUTHBEARER, with {PREFIX}KAFKA__SECURITY__TOKEN_PROVIDER")
        return upper

    @field_validator("token_provider", "sasl_username", "sasl_password")
    @classmethod
    def _login_complete(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        protocol, mechanism = info.data.get("protocol", ""), info.data.get("sasl_mechanism")
        needed = (mechanism == "OAUTHBEARER") == (info.field_name == "token_provider")
        if protocol.startswith("SASL") and mechanism and needed and not value:
            form = "module:callable" if info.field_name == "token_provider" else "a value"
            raise ValueError(f"{form}, because a login with {mechanism} over {protocol} needs it")
        return value


class KafkaSettings(SettingsGroup):
    """Where Kafka is, and how the workers join it."""

    bootstrap_servers: str = setting(
        "127.0.0.1:9092",
        "The brokers that a client asks first. Several are separated by commas; an IPv6 address stands in brackets.",
        unit="host:port",
    )
    security: SecuritySettings = SecuritySettings()
    schema_registry_url: str | None = setting(
        None,
        "The schema registry of producers that write Avro or Protobuf in Confluent's wire format. Several URLs of one "
        "registry are separated by commas. `https` uses the certificates of `kafka.security`.",
        unit="URL",
    )
    schema_registry_user_info: SecretStr | None = setting(
        None, "The login at the schema registry, or its API key.", unit="user:password"
    )
    schema_registry_token: SecretStr | None = setting(
        None, "The bearer token for the schema registry, instead of a login.", unit="secret text"
    )
    group_id: str = setting(
        "afterclick",
        "The consumer group of the workers. Each tier appends its role: `afterclick-state`, `afterclick-rank`.",
        unit="text",
        pattern=f"^{TOPIC_LETTERS}+$",
    )
    instance_id: str | None = setting(
        None,
        "A stable name of this worker, different for each worker (static membership). A restart then moves no "
        "partitions and takes about a second. Unset: every restart moves partitions twice.",
        unit="text",
    )
    partitions: int = setting(
        8,
        "The number of partitions of every topic that a worker creates, and so the largest number of workers of one "
        "tier. Input topics may have another number.",
        unit="partitions",
        ge=1,
    )
    replication_factor: int = setting(
        1,
        "The number of brokers that hold each topic that a worker creates: 3 in production, -1 for the broker's "
        "default.",
        unit="brokers",
    )
    create_topics: bool = setting(
        True, "Whether a worker creates missing topics at its start. Otherwise it stops and lists them."
    )
    session_timeout_s: float = setting(
        8, "After this time without a heartbeat Kafka gives a worker's partitions to the others.", unit="s", gt=0
    )
    fetch_wait_ms: int = setting(
        500,
        "The longest time for which a broker holds a fetch that finds no data. New data ends the wait at once.",
        unit="ms",
        ge=1,
    )
    heartbeat_s: float = setting(
        2,
        "The time between two heartbeats, at most a third of `session_timeout_s`.",
        unit="s",
        gt=0,
        validate_default=True,
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        """Drop empty addresses and refuse those that clients would read differently."""
        addresses = [address.strip() for address in value.split(",") if address.strip()]
        if not addresses:
            raise ValueError("host:port, such as kafka:9092")
        for address in addresses:
            _check_address(address)
        return ",".join(addresses)

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each server; an IPv6 address without its brackets."""
        split = (address.rpartition(":") for address in self.bootstrap_servers.split(","))
        return tuple((host.strip("[]"), int(port)) for host, _, port in split)

    @field_validator("schema_registry_url")
    @classmethod
    def _urls(cls, value: str | None) -> str | None:
        urls = [url.strip().rstrip("/") for url in (value or "").split(",") if url.strip()]
        for url in urls:
            check_url(url, "set kafka.schema_registry_user_info to user:password")
        return ",".join(urls) or None

    @field_validator("schema_registry_user_info")
    @classmethod
    def _name_and_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (":" not in (text := value.get_secret_value()) or text != text.strip()):
            raise ValueError("user:password with a colon between them and no white space at the ends")
        return value

    @field_validator("schema_registry_token")
    @classmethod
    def _one_login(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("schema_registry_user_info") is not None:
            raise ValueError("no token beside schema_registry_user_info, because a request has one login")
        if value is not None and not re.fullmatch("[!-~]+", value.get_secret_value()):
            raise ValueError("ASCII without white space (a line feed from a file?)")
        return value

    @property
    def schema_registries(self) -> tuple[str, ...]:
        """The URLs of the schema registry; none if there is no registry."""
        return tuple(self.schema_registry_url.split(",")) if self.schema_registry_url else ()

    @field_validator("replication_factor")
    @classmethod
    def _replicas(cls, value: int) -> int:
        if value < 1 and value != -1:
            raise ValueError("1 or more, or -1 for the broker's default")
        return value

    @field_validator("heartbeat_s")
    @classmethod
    def _heartbeat_fits(cls, value: float, info: ValidationInfo) -> float:
        timeout_s = info.data.get("session_timeout_s")
        if timeout_s is not None and value * 3 > timeout_s:
            raise ValueError(f"at most a third of session_timeout_s ({timeout_s:g})")
        return value


def _check_address(address: str) -> None:
    """Refuse an address that two clients would read differently, or that no client could reach."""
    if "://" in address:
        raise ValueError(f"host:port without a scheme, not {address!r}; the protocol is kafka.security.protocol")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port:
        raise ValueError(f"host:port, such as kafka:9092, not {address!r}")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        raise ValueError(f"a port from 1 to 65535, not the {port!r} of {address!r}")
    if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%A-Za-z]+\]", host):
        raise ValueError(
            f"a host name or an address before the port, not the {host!r} of {address!r}; separate servers with "
            "commas, and put an IPv6 address in brackets"
        )


class RedisSettings(SettingsGroup):
    """The cache of lists."""

    url: SecretStr = setting(
        SecretStr("redis://127.0.0.1:6379/0"),
        "The Redis that the lists are written to: one server (`redis://host:6379/0`), some nodes of a cluster "
        "(`redis://host:6379,host2:6379`), sentinels (`redis+sentinel://host:26379,host2:26379/master/0`) or a socket "
        "(`unix://`). `rediss://` and `rediss+sentinel://` use TLS. The login stands before the host.",
        unit="URL",
    )
    key_prefix: str | None = setting(
        None,
        "The key of a list is this prefix and the user id. Unset: `afterclick:list:`, and after it the topic prefix "
        "and a colon if there is a topic prefix.",
        unit="text",
    )
    ttl_s: int = setting(30 * 86_400, "Redis drops a list that no worker renewed for this time.", unit="s", ge=1)
    timeout_ms: int = setting(
        500,
        "The longest wait for one write. A list that is not written by then is in the topic only, and a metric counts "
        "it.",
        unit="ms",
        ge=1,
    )

    @field_validator("url")
    @classmethod
    def _readable(cls, value: SecretStr) -> SecretStr:
        redis_address.parse(value.get_secret_value())
        return value

    @property
    def address(self) -> redis_address.Address:
        """The parsed URL."""
        return redis_address.parse(self.url.get_secret_value())
