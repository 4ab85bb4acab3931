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
    if field.default == "":
        return ""
    advice = "set it, or unset it" if is_secret(field) else f"unset it for {field.default!r}"
    return f"{name}: got an empty value, expected one; {advice}"


def lines(
    error: ValidationError, fields: Mapping[str, FieldInfo], prefix: str, config: Path | None, given: Collection[str]
) -> Iterator[str]:
    """Describe each wrong value in one line, under its name in the environment.

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
            yield f"{config}: {unknown(name, fields)}"
            continue
        where = name if config is None or name in given else f"{config}: {name}"
        expected = re.sub(r"^(Value error, |Input should be )", "", problem["msg"])
        if problem["input"] is None:
            yield f"{where}: got nothing, expected {expected}; set it"
        elif field is None or is_secret(field):
            yield f"{where}: got a value not shown, expected {expected}; correct it"
        else:
            yield f"{where}: got {problem['input']!r}, expected {expected}; unset it for {field.default!r}"


def is_secret(field: FieldInfo) -> bool:
    """Tell whether no message may show the value of the field."""
    return "SecretStr" in str(field.annotation)
