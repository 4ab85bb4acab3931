"""Every setting, its unit, its default and its effect: the only reader of the environment.

A setting is given as `AFTERCLICK_…` with `__` between levels (`AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS`), or in a TOML file
(`--config`); the environment wins. `load` turns a wrong or unknown setting into `SettingsError`, one readable line
each, in which no secret appears. `afterclick settings` prints all of them. Opens no connection, and no file but the
TOML and the ready-made mappings.
"""

from __future__ import annotations

from streams.settings.connections import KafkaSettings, RedisSettings, SecuritySettings
from streams.settings.errors import SettingsError
from streams.settings.group import PREFIX
from streams.settings.interest import InterestSettings
from streams.settings.loading import load
from streams.settings.operating import HealthSettings, MetricsSettings, TablesSettings
from streams.settings.reasons import ReasonsSettings
from streams.settings.recommending import CandidatesSettings, EncoderSettings, RankerSettings
from streams.settings.reranking import RerankSettings
from streams.settings.serving import HttpSettings
from streams.settings.settings import Settings, service_links
from streams.settings.topics import TopicSource, TopicsSettings
from streams.settings.wishes import WishesSettings

__all__ = [
    "PREFIX",
    "CandidatesSettings",
    "EncoderSettings",
    "HealthSettings",
    "HttpSettings",
    "InterestSettings",
    "KafkaSettings",
    "MetricsSettings",
    "RankerSettings",
    "ReasonsSettings",
    "RedisSettings",
    "RerankSettings",
    "SecuritySettings",
    "Settings",
    "SettingsError",
    "TablesSettings",
    "TopicSource",
    "TopicsSettings",
    "WishesSettings",
    "load",
    "service_links",
]
