"""Load the settings, and turn everything that is wrong with them into one readable line each."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from streams.settings.errors import SettingsError, empty, lines, unknown
from streams.settings.group import PREFIX
from streams.settings.settings import Settings, environment, service_links, toml_file
from streams.settings.table import fields


def load(config: Path | None = None, profile: str | None = None) -> Settings:
    """Read the settings from the environment and, behind it, the TOML file `config` and the profile.

    Parameters
    ----------
    config : Path, optional
    profile : str, optional
        In place of the profile that is set.

    Raises
    ------
    SettingsError
        One line for each wrong setting: what, got, expected, what to do.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"--config: got {config}, expected a TOML file; check the path")
    by_name, given = dict(fields(Settings)), environment()
    problems = [unknown(name, by_name) for name in sorted(given.keys() - by_name.keys() - service_links())]
    problems += [empty(name, by_name[name]) for name in sorted(by_name) if not given.get(name, "x").strip()]
    if any(problems):
        raise SettingsError("\n".join(filter(None, problems)))
    with toml_file(config):
        try:
            return Settings() if profile is None else Settings.model_validate({"profile": profile})
        except ValidationError as error:
            raise SettingsError("\n".join(lines(error, by_name, PREFIX, config, given))) from None
        except ValueError as error:
            raise SettingsError(f"{config}: got invalid TOML, expected TOML 1.0; {error}") from None
