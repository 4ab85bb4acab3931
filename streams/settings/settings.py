"""All settings, in one frozen class. It reads the environment and, behind it, one TOML file.

`loading.load` calls it with readable errors. Opens no file but the TOML and the ready-made mappings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streams.settings.bundle import SHOP, NamedNumbers, ProfileSource
from streams.settings.connections import KafkaSettings, RedisSettings
from streams.settings.group import PREFIX, TOPIC_LETTERS, setting, trim
from streams.settings.interest import InterestSettings
from streams.settings.operating import HealthSettings, MetricsSettings, TablesSettings
from streams.settings.reasons import ReasonsSettings
from streams.settings.recommending import CandidatesSettings, EncoderSettings, RankerSettings
from streams.settings.service_links import is_service_link
from streams.settings.serving import HttpSettings
from streams.settings.table import fields
from streams.settings.topics import TopicsSettings, own_topics_among, wrong_mapping
from streams.settings.wishes import WishesSettings

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

    profile: Literal["shop", "news", "video", "music", "ads"] = setting(
        SHOP,
        "The kind of catalogue: it sets half-lives, weights, repeats, freshness and rules that fit; whatever else is "
        "set wins over it. `shop` sets nothing. `afterclick settings --set --profile news` prints what a profile sets.",
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
    rules: Path | None = setting(
        None,
        "The file of the rules that every list keeps. A worker follows its changes. Unset: no rules.",
        unit="path of a TOML file",
    )
    topics: TopicsSettings = TopicsSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    tables: TablesSettings = TablesSettings()
    encoder: EncoderSettings = EncoderSettings()
    interest: InterestSettings = Field(InterestSettings(), validate_default=True)
    candidates: CandidatesSettings = CandidatesSettings()
    ranker: RankerSettings = Field(RankerSettings(), validate_default=True)
    reasons: ReasonsSettings = ReasonsSettings()
    wishes: WishesSettings = WishesSettings()
    metrics: MetricsSettings = MetricsSettings()
    health: HealthSettings = HealthSettings()
    http: HttpSettings = HttpSettings()
    grace_s: float = setting(
        20, "After SIGTERM a worker has this time to finish the messages that it has taken.", unit="s", gt=0
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "The least severe messages that are logged. With debug the libraries' own lines are among them."
    )
    log_format: Literal["text", "json"] = setting(
        "text", "How a worker and a server write their log: lines for people, or one JSON object a line."
    )

    _trim = field_validator("*", mode="before")(trim)

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        try:
            return value and ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("the IANA name of a zone, such as Europe/Berlin") from None

    @field_validator("topics")
    @classmethod
    def _topics_of_the_team(cls, value: TopicsSettings, info: ValidationInfo) -> TopicsSettings:
        if problems := own_topics_among(value, info.data.get("topic_prefix", "")):
            raise wrong_mapping(problems)
        return value

    @field_validator("interest")
    @classmethod
    def _weights_of_topics(cls, value: InterestSettings, info: ValidationInfo) -> InterestSettings:
        topics = info.data.get("topics")
        return value.over(topics.event_weights) if topics and topics.event_weights else value

    @field_validator("ranker")
    @classmethod
    def _placements_of_domains(cls, value: RankerSettings, info: ValidationInfo) -> RankerSettings:
        candidates = info.data.get("candidates")
        return value.with_placements(candidates.domains) if candidates and candidates.domains else value

    @field_validator("pseudonym_key")
    @classmethod
    def _same_for_all(cls, value: SecretStr | None) -> SecretStr | None:
        if value and value.get_secret_value() != value.get_secret_value().strip():
            raise ValueError("no white space at its ends, which other programs may read otherwise")
        return value

    @field_validator("profile", "log_level", "log_format", mode="before")
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
        return (
            init_settings,
            NamedNumbers(settings_cls, env_settings),
            TomlConfigSettingsSource(settings_cls, _toml_file.get()),
            ProfileSource(settings_cls),
        )

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone of times that a message writes without one."""
        return ZoneInfo(self.time_zone) if self.time_zone else None

    @property
    def recalled(self) -> int:
        """How many candidates are recalled for a rank request: enough for the longest list."""
        return max(self.candidates.limit, self.ranker.list_size)

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
