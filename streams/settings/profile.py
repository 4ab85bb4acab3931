"""Ready-made mappings: TOML files in `profiles/`, one table for each input, written as a user's own `[topics.*]`.

A table that names a profile is read over the profile's table: what it sets wins, `where`, `fields`, `constants`,
`types` and `weights` name by name. Knows no contract.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).with_name("profiles")
PROFILES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""The names of all profiles."""
_MERGED = ("where", "fields", "constants", "types", "weights")


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; Python 3.10 has no parser of its own."""
    return tomllib.loads(text)


@cache
def profile_tables(name: str) -> dict[str, dict[str, Any]]:
    """Return a profile's tables by input."""
    return parse_toml(_FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def over_profile(table: Mapping[str, Any], input_name: str) -> dict[str, Any]:
    """Return a table with all that its profile gives and the table itself does not.

    Raises
    ------
    ValueError
        There is no such profile, or it gives nothing for this input.

    >>> over_profile({"name": "feedback", "profile": "gorse", "where": {"FeedbackType": "read"}}, "clicks")["where"]
    {'FeedbackType': 'read'}
    """
    name = table.get("profile")
    if name is None:
        return dict(table)
    if name not in PROFILES:
        raise ValueError(f"got {name!r}, expected one of {', '.join(PROFILES)}")
    tables = profile_tables(name)
    if input_name not in tables:
        raise ValueError(f"got {name!r}, which gives no {input_name} but {', '.join(tables)}")
    given = tables[input_name]
    merged = {key: {**given.get(key, {}), **table.get(key, {})} for key in _MERGED if key in given or key in table}
    return {**given, **table, **merged}
