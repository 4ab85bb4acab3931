"""Say what to install when a package of the extra `evaluate` is missing. Knows no package by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from encoders.errors import AfterclickError


class PackageMissing(AfterclickError):
    """A package of an extra is not installed."""


@contextmanager
def evaluate_extra() -> Iterator[None]:
    """Import packages of the extra within this context.

    Raises
    ------
    PackageMissing
        One of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise PackageMissing(
            f"{error.name}: got no such package, expected it for evaluations; pip install 'afterclick[evaluate]'"
        ) from error
