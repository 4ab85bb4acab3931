"""All settings, in one frozen class. It reads the environment and, behind it, one TOML file.

`loading.load` calls it with readable errors. Opens no file but the TOML.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streams.settings.connections import KafkaSettings, RedisSettings
from streams.settings.group import PREFIX, TOPIC_LETTERS, setting, trim
from streams.settings.operating import HealthSettings, MetricsSettings, TablesSettings
from streams.settings.recommending import CandidatesSettings, EncoderSettings, InterestSettings, RankerSettings
from streams.settings.service_links import is_service_link
from streams.settings.table import fields

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

    topic_prefix: str = setting(
        "",
        "Stands before the name of every topic, so that several installations can share one Kafka.",
        unit="text",
        pattern=f"^{TOPIC_LETTERS}*$",
    )
    pseudonym_key: SecretStr | None = setting(
        None,
        "Users are kept under the HMAC-SHA256 of their ids with this key. Unset: under their ids. Another key makes "
        "every user a new one.",
        unit="secret text",
        min_length=16,
    )
    time_zone: str | None = setting(
        None,
        "The zone of times that a message writes without one. Unset: such messages are rejected.",
        unit="IANA name, such as Europe/Berlin",
    )
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    tables: TablesSettings = TablesSettings()
    encoder: EncoderSettings = EncoderSettings()
    interest: InterestSettings = InterestSettings()
    candidates: CandidatesSettings = CandidatesSettings()
    ranker: RankerSettings = RankerSettings()
    metrics: MetricsSettings = MetricsSettings()
    health: HealthSettings = HealthSettings()
    grace_s: float = setting(
        20, "After SIGTERM a worker has this time to finish the messages that it has taken.", unit="s", gt=0
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "The least severe messages that are logged."
    )

    _trim = field_validator("*", mode="before")(trim)

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        try:
            return value and ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("the IANA name of a zone, such as Europe/Berlin") from None

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
        if isinstance(env_settings, EnvSettingsSource):  # a service named `afterclick-kafka--x` would fill `kafka`
            links = {name.lower() for name in service_links()}
            env_settings.env_vars = {k: v for k, v in env_settings.env_vars.items() if k.lower() not in links}
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _toml_file.get())

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone of times that a message writes without one."""
        return ZoneInfo(self.time_zone) if self.time_zone else None

    @property
    def key_prefix(self) -> str:
        """The prefix of the lists' keys in Redis. Installations that share a Redis differ in their topic prefix."""
        if self.redis.key_prefix is not None:
            return self.redis.key_prefix
        return f"afterclick:list:{self.topic_prefix}{':' if self.topic_prefix else ''}"

    def topic(self, name: str) -> str:
        """The topic's name in Kafka: the prefix and the contract's name."""
        return self.topic_prefix + name


@contextmanager
def toml_file(path: Path | None) -> Iterator[None]:
    """Let `Settings()` read this file too, for the length of the block."""
    token = _toml_file.set(path)
    try:
        yield
    finally:
        _toml_file.reset(token)


def environment() -> dict[str, str]:
    """The environment variables that begin as settings do, under their names in capitals."""
    return {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}


def service_links() -> set[str]:
    """Name the variables that an orchestrator made for a service whose name begins with ours; none is a setting."""
    known = dict(fields(Settings))
    return {name for name, value in environment().items() if name not in known and is_service_link(name, value, PREFIX)}
