"""Import what a setting names as `module:name`: code of the user's own."""

from __future__ import annotations

import importlib
from typing import Any

from streams.settings.errors import SettingsError


def imported(path: str, setting: str, expected: str) -> Any:
    """Import what the path names.

    Parameters
    ----------
    path : str
        `module:name`.
    setting : str
        The environment variable of the setting, for the error.
    expected : str
        What the setting takes, for the error.

    Raises
    ------
    SettingsError
        There is no such module, or no such name in it.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the user's module raises
        raise SettingsError(
            f"{setting}: got {path!r} ({type(error).__name__}: {error}), expected {expected}; check that it can be "
            "imported from PYTHONPATH"
        ) from error
