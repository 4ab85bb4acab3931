"""What is wrong with settings, in words: what, got, expected, what to do. No message shows a secret.

Knows no setting: the caller passes the fields.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from encoders.errors import AfterclickError
from streams.settings.group import pairs_text

MAPPING = "mapping"
"""The type of a pydantic error about mappings: its context has the `problems`, each what the name of the setting ends
with beyond the error's own name, and a line in words."""


class SettingsError(AfterclickError):
    """A setting is wrong; the message says which one, what was given, what is expected and what to do."""


def unknown(name: str, fields: Mapping[str, FieldInfo]) -> str:
    """Describe a setting that does not exist, and name the one that was probably meant."""
    groups = [other for other in fields if other.startswith(f"{name}__")]
    close = groups or difflib.get_close_matches(name, fields, n=1) or sorted(fields)
    return f"{name}: got a setting that does not exist, expected one such as {close[0]}; rename or unset it"


def empty(name: str, field: FieldInfo) -> str:
    """Describe an empty value; nothing if the setting may be empty.

    An empty value is refused because a template that filled nothing in would silently turn off a token or a static
    membership.
    """
    if field.default in ("", ()):
        return ""
    advice = "set it, or unset it" if is_secret(field) else f"unset it for {field.default!r}"
    return f"{name}: got an empty value, expected one; {advice}"


def lines(
    error: ValidationError, fields: Mapping[str, FieldInfo], prefix: str, config: Path | None, given: Collection[str]
) -> Iterator[str]:
    """Describe each wrong value in one line, under its name in the environment or in the file.

    Parameters
    ----------
    error : ValidationError
        What pydantic says.
    fields : mapping of str to FieldInfo
        Every setting under its environment variable.
    prefix : str
        What each variable begins with.
    config : Path or None
        The TOML file that was read too.
    given : collection of str
        The variables that are set. A wrong value of another setting is from the file.
    """
    for problem in error.errors(include_url=False):
        name = prefix + "__".join(str(part).upper() for part in problem["loc"])
        field = fields.get(name)
        if field is None and problem["type"] == "extra_forbidden":
            yield f"{config}: {_as_in_file(unknown(name, fields), prefix)}"
            continue
        if problem["type"] == MAPPING:
            for ending, line in problem["ctx"]["problems"]:
                yield f"{_where(name + ending, prefix, config, given)}: {line}"
            continue
        where = _where(name, prefix, config, given)
        expected = re.sub(r"^(Value error, |Input should be )", "", problem["msg"])
        if problem["input"] is None:
            yield f"{where}: got nothing, expected {expected}; set it"
        elif field is None or is_secret(field):
            yield f"{where}: got a value not shown, expected {expected}; correct it"
        else:
            got = re.sub(r"//[^/@\s]*@", "//…@", repr(problem["input"]))  # a URL's login is no business of a log
            default = pairs_text(field.default) if isinstance(field.default, dict) else repr(field.default)
            yield f"{where}: got {got}, expected {expected}; correct it, or unset it for {default}"


def _where(name: str, prefix: str, config: Path | None, given: Collection[str]) -> str:
    """Name a setting as it is written where it was set."""
    variable = name.partition(":")[0]
    return name if config is None or variable in given else f"{config}: {_as_in_file(name, prefix)}"


def _as_in_file(text: str, prefix: str) -> str:
    """Write the names of variables as a TOML file has them.

    >>> _as_in_file("AFTERCLICK_KAFKA__PARTITIONS: got 0", "AFTERCLICK_")
    'kafka.partitions: got 0'
    """
    return re.sub(
        rf"\b{prefix}[A-Z0-9_]+", lambda found: found[0].removeprefix(prefix).lower().replace("__", "."), text
    )


def is_secret(field: FieldInfo) -> bool:
    """Tell whether no message may show the value of the field."""
    return "SecretStr" in str(field.annotation)
