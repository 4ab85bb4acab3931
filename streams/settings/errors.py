"""What is wrong with settings, in words: what, got, expected, what to do. No secret is shown.

Knows no setting: `settings` hands over its own fields.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo


def fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting under its name in the environment."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def unknown(name: str, known: Mapping[str, FieldInfo]) -> str:
    """A setting that does not exist, and the one that may have been meant."""
    groups = [other for other in known if other.startswith(f"{name}__")]
    close = groups or difflib.get_close_matches(name, known, n=1) or sorted(known)
    return f"{name}: got a setting that does not exist, expected one such as {close[0]}; rename or unset it"


def empty(name: str, field: FieldInfo) -> str:
    """A template that filled nothing in would otherwise turn a token or a static membership off, silently."""
    if field.default == "":
        return ""
    otherwise = "set it, or unset it" if is_secret(field) else f"unset it for {field.default!r}"
    return f"{name}: got an empty value, expected one; {otherwise}"


def lines(
    error: ValidationError, known: Mapping[str, FieldInfo], prefix: str, config: Path | None, given: Collection[str]
) -> Iterator[str]:
    """One line for each wrong value, with the name that the environment has for it."""
    for problem in error.errors(include_url=False):
        name = prefix + "__".join(str(part).upper() for part in problem["loc"])
        field = known.get(name)
        if field is None and problem["type"] == "extra_forbidden":
            yield f"{config}: {unknown(name, known)}"
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
    return "SecretStr" in str(field.annotation)
