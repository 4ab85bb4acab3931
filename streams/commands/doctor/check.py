"""The result of one check of the doctor."""

from __future__ import annotations

from dataclasses import dataclass

from streams.settings import PREFIX


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes
    ----------
    name : str
        What was checked.
    ok : bool
        Whether a worker can work with it.
    found : str
        What is there, in words.
    advice : str
        What to do about it; empty when there is nothing to do.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


def not_loaded(name: str, error: Exception, group: str) -> Check:
    """A model cannot be loaded, of the settings of this group."""
    advice = f"check {PREFIX}{group}__MODEL, {PREFIX}{group}__DEVICE and {PREFIX}{group}__DTYPE"
    return Check(name, False, f"{type(error).__name__}: {error}", advice)
