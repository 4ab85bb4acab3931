"""Find what a setting names as `module:name`: code of the user's own."""

from __future__ import annotations

import importlib
from typing import Any

from streams.settings import SettingsError


def imported(path: str, setting: str, expected: str) -> Any:
    """Import it.

    Parameters
    ----------
    setting, expected : for the error: the setting's name, and what it takes.

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
