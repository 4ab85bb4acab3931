"""`afterclick schema`: the JSON Schema of every topic's messages and of every body of the HTTP interface."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.bodies import BODIES
from streams.contracts import TOPICS
from streams.settings import SettingsError

STRUCTS = {**TOPICS, **BODIES}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(name: str) -> dict[str, Any]:
    """Return a schema.

    Parameters
    ----------
    name : str
        One of `STRUCTS`.

    Raises
    ------
    SettingsError
        There is no such name.
    """
    if name not in STRUCTS:
        raise SettingsError(f"schema: got {name!r}, expected one of {', '.join(STRUCTS)}")
    return {"$schema": DIALECT, **msgspec.json.schema(STRUCTS[name])}
