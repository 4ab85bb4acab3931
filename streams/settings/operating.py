"""Settings of the worker's process: where it keeps users' states, and what it shows to Prometheus and probes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import SecretStr, field_validator

from streams.settings.group import SettingsGroup, setting


class TablesSettings(SettingsGroup):
    """Where a state worker keeps users' states."""

    store: Literal["memory", "rocksdb"] = setting(
        "memory",
        "Where a state worker keeps users' states: in memory, or on disk with RocksDB. Either is restored from the "
        "changelog topic.",
    )
    data_dir: Path = setting(
        Path("afterclick-data"),
        "The folder of the RocksDB tables, the items' vectors and the search graph. Each worker needs its own.",
        unit="path of a folder",
    )


class MetricsSettings(SettingsGroup):
    """Where Prometheus and probes find a worker."""

    host: str = setting(
        "127.0.0.1",
        "The address that the HTTP server listens on. The default is reachable from this machine only.",
        unit="host name or address",
    )
    port: int = setting(
        9464, "The port of `/metrics`, `/livez` and `/readyz`. 0: no HTTP server.", unit="TCP port", ge=0, le=65_535
    )
    token: SecretStr | None = setting(
        None,
        "The bearer token that `/metrics` requires, and that probes require for their reasons. Unset: neither requires "
        "one.",
        unit="secret text",
        min_length=16,
    )

    @field_validator("token")
    @classmethod
    def _as_prometheus_reads_it(cls, value: SecretStr | None) -> SecretStr | None:
        return value and SecretStr(value.get_secret_value().strip())


class HealthSettings(SettingsGroup):
    """When /livez and /readyz fail."""

    stuck_s: float = setting(
        60,
        "`/livez` fails once the event loop stood still for this time, or once no message was processed for this time "
        "although there is a lag.",
        unit="s",
        ge=5,
    )
    max_lag: int = setting(
        10_000, "`/readyz` fails while a tier is further behind its topics than this.", unit="messages", ge=0
    )
