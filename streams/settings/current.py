"""What each setting is now, and where it comes from: a default, the environment, or a line of the TOML file.

A wrong value is there too, with what is wrong. No secret is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.settings.bundle import SHOP, bundle
from streams.settings.errors import SettingsError, is_secret
from streams.settings.group import PREFIX
from streams.settings.loading import load
from streams.settings.settings import Settings, environment
from streams.settings.table import MASK, fields, text_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = "default"
PROFILE = ("profile",)


@dataclass(frozen=True)
class CurrentSetting:
    """One setting as it is now.

    Attributes
    ----------
    variable : str
        The environment variable.
    value : str
        As it would be written in the environment; empty when the setting is unset, `MASK` for a secret that is set.
    origin : str
        `default`, the profile, `environment`, or the file, the line and the table.
    problem : str
        What is wrong with it; empty if nothing is.
    """

    variable: str
    value: str
    origin: str
    problem: str = ""

    @property
    def is_set(self) -> bool:
        """Whether somebody set it, or the profile does."""
        return self.origin != DEFAULT


def current(config: Path | None, profile: str | None = None) -> tuple[list[CurrentSetting], SettingsError | None]:
    """List every setting in the order of the table, and what is wrong with them if anything is.

    Parameters
    ----------
    config : Path, optional
        The TOML file that is read too.
    profile : str, optional
        In place of the profile that is set.
    """
    settings, error = None, None
    try:
        settings = load(config, profile)
    except SettingsError as wrong:
        error = wrong
    given, lines = environment(), _lines(config)
    text = config.read_text(encoding="utf-8-sig", errors="replace") if lines and config else ""
    tree = tomllib.loads(text) if text else {}
    chosen = settings.profile if settings else profile or SHOP
    found = []
    for variable, field in fields(Settings):
        path = toml_path(variable)
        raw: Any = given.get(variable) if variable in given else _at(tree, path)
        origin = DEFAULT if _at(bundle(chosen), path) is None else f"profile {chosen}"
        if path == PROFILE and profile is not None:
            origin = "--profile"
        elif variable in given:
            origin = "environment"
        elif path in lines:
            origin = f"{config}:{lines[path]}" + (f" [{'.'.join(path[:-1])}]" if path[1:] else "")
        value = _at_attribute(settings, path) if settings else field.default if raw is None else raw
        shown = MASK if origin != DEFAULT and is_secret(field) else text_of(value)
        found.append(CurrentSetting(variable, shown, origin, _problem(variable, error)))
    return found, error


def toml_path(variable: str) -> tuple[str, ...]:
    """Return where a setting is in TOML: its tables and its key.

    >>> toml_path("AFTERCLICK_KAFKA__PARTITIONS")
    ('kafka', 'partitions')
    """
    return tuple(variable.removeprefix(PREFIX).lower().split("__"))


def _problem(variable: str, error: SettingsError | None) -> str:
    lines = str(error).splitlines() if error else []
    return next((line for line in lines if f"{variable}:" in line), "")


def _lines(config: Path | None) -> dict[tuple[str, ...], int]:
    """The line of each setting in the file: that after which the text, up to there, begins to have it."""
    lines: dict[tuple[str, ...], int] = {}
    if config is None or not config.is_file():
        return lines
    paths = [toml_path(variable) for variable, _ in fields(Settings)]
    begun, before = 1, ""
    for number, line in enumerate(config.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        before += f"{line}\n"
        try:
            tree = tomllib.loads(before)
        except tomllib.TOMLDecodeError:
            continue  # within a value of several lines
        for path in paths:
            if path not in lines and _at(tree, path) is not None:
                lines[path] = begun
        begun = number + 1
    return lines


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = tree
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _at_attribute(settings: Settings, path: tuple[str, ...]) -> Any:
    value: Any = settings
    for part in path:
        value = getattr(value, part)
    return value
