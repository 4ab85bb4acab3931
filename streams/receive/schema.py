"""What decoders by schema have in common: their errors, and the packages of the extra `registry`.

Knows no format.
"""

from __future__ import annotations

import importlib
from types import ModuleType

MAX_DECIMAL_BYTES = 1_024
"""About 2,400 digits, converted in a tenth of a millisecond; chosen by us. Databases have at most 76 digits."""


class SchemaUnusable(Exception):
    """A schema by which nothing can be decoded here. The text goes on from "the schema …" and says what to do."""


class Undecodable(Exception):
    """Bytes that do not fit their schema. The text says what a decoder met."""


def module_of_extra(name: str, format_name: str) -> ModuleType:
    """Import a module of the extra `registry`.

    Raises
    ------
    SchemaUnusable
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SchemaUnusable(
            f"is {format_name}, and the package {error.name} that decodes it is not installed; "
            "pip install 'afterclick[registry]'"
        ) from None


def is_installed(name: str) -> bool:
    """Tell whether a module of the extra can be imported."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True
