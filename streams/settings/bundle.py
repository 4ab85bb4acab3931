"""The profiles of settings (`AFTERCLICK_PROFILE`): TOML files in `bundles/`, written as a user's own for `--config`.

A profile is the lowest source of settings but their defaults: the environment and the user's file win, setting by
setting, and among `interest.weights` weight by weight. Knows no setting.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHOP = "shop"
"""The profile of the defaults: it sets nothing."""
_FOLDER = Path(__file__).with_name("bundles")


@cache
def bundle(profile: str) -> Mapping[str, Any]:
    """Return the settings of a profile as a tree; none of one that does not exist.

    `rules` is the path of a file beside the profile's.
    """
    path = _FOLDER / f"{profile}.toml"
    if profile == SHOP or not profile.isalpha() or not path.is_file():
        return {}
    tree = tomllib.loads(path.read_text(encoding="utf-8"))
    return tree | {"rules": str(_FOLDER / tree["rules"])} if "rules" in tree else tree


class ProfileSource(PydanticBaseSettingsSource):
    """The settings of the profile that the sources before this one name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: the source gives a whole tree."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(bundle(str(self.current_state.get("profile", SHOP)).strip().lower()))


class NamedNumbers(PydanticBaseSettingsSource):
    """A source whose `interest.weights` are numbers by name, not a text, so that those of a profile stay beside them.

    Parameters
    ----------
    settings_cls : type of BaseSettings
    source : PydanticBaseSettingsSource
        Gives everything.
    """

    def __init__(self, settings_cls: type[BaseSettings], source: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See `PydanticBaseSettingsSource`."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        state = self._source()
        interest = state.get("interest")
        if isinstance(interest, dict) and isinstance(text := interest.get("weights"), str):
            pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
            try:
                weights = {name.strip(): float(number) for name, _, number in pairs}
            except ValueError:  # the setting's own check says what is wrong
                return state
            return state | {"interest": interest | {"weights": weights}}
        return state
