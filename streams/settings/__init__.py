"""Every setting, its unit, its default and its effect: the only reader of the environment.

A setting is given as `AFTERCLICK_…` with `__` between levels (`AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS`), or in a TOML file
(`--config`); the environment wins. `load` turns a wrong or unknown setting into `SettingsError`, one readable line
each, in which no secret appears. `afterclick settings` prints all of them. Opens no connection, and no file but the
TOML.
"""

from __future__ import annotations

from streams.settings.connections import KafkaSettings, RedisSettings, SecuritySettings
from streams.settings.errors import SettingsError
from streams.settings.group import PREFIX
from streams.settings.loading import load
from streams.settings.operating import HealthSettings, MetricsSettings, TablesSettings
from streams.settings.recommending import CandidatesSettings, EncoderSettings, InterestSettings, RankerSettings
from streams.settings.settings import Settings, service_links

__all__ = [
    "PREFIX",
    "CandidatesSettings",
    "EncoderSettings",
    "HealthSettings",
    "InterestSettings",
    "KafkaSettings",
    "MetricsSettings",
    "RankerSettings",
    "RedisSettings",
    "SecuritySettings",
    "Settings",
    "SettingsError",
    "TablesSettings",
    "load",
    "service_links",
]
