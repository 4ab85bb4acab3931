"""Every field of a settings class under its environment variable, with unit, default and effect.

Also lists the settings that are not at their defaults. Knows no setting, and no format that the table is printed in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streams.settings.group import PREFIX, pairs_text

MASK = "***"
"""In place of a secret."""
_BOUNDS = ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))


@dataclass(frozen=True)
class SettingRow:
    """One setting, in words.

    Attributes
    ----------
    variable : str
        The environment variable.
    unit : str
        The unit or the values that it takes, with the limits: `ms, ≥ 1`.
    default : str
        As it would be written in the environment; empty when the setting is unset.
    effect : str
        What it changes.
    """

    variable: str
    unit: str
    default: str
    effect: str


def rows(model: type[BaseModel]) -> list[SettingRow]:
    """List every setting of a settings class, in the order of its fields."""
    return [
        SettingRow(name, ", ".join([_unit(field), *_limits(field)]), text_of(field.default), field.description or "")
        for name, field in fields(model)
    ]


def fields(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the name in the environment and the field of every setting, groups within groups too."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def differing(settings: BaseModel, path: str = "") -> dict[str, str]:
    """Return the settings that are not at their defaults, named as in TOML (`kafka.partitions`); `MASK` for secrets."""
    found: dict[str, str] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= differing(value, f"{path}{name}.")
        elif value != field.default:
            found[path + name] = MASK if isinstance(value, SecretStr) else text_of(value) or "unset"
    return found


def _unit(field: FieldInfo) -> str:
    annotation = _without_none(field.annotation)
    if get_origin(annotation) is Literal:
        return " | ".join(get_args(annotation))
    if annotation is bool:
        return "true | false"
    extra = field.json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""


def _limits(field: FieldInfo) -> Iterator[str]:
    for kind, attribute, sign in _BOUNDS:
        for limit in field.metadata:
            if isinstance(limit, kind):
                yield f"{sign} {getattr(limit, attribute):,}"
    for limit in field.metadata:
        if isinstance(limit, MinLen):
            yield f"{limit.min_length} characters or more"


def text_of(value: Any) -> str:
    """Write a value as it would be written in the environment; a secret too."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dict) and all(isinstance(number, float) for number in value.values()):
        return pairs_text(value)
    if isinstance(value, tuple | list | dict):
        if all(isinstance(part, str) for part in value) and not isinstance(value, dict):
            return ",".join(value)
        return json.dumps(value, default=lambda part: part.model_dump(mode="json", exclude_defaults=True))
    return value.as_posix() if isinstance(value, Path) else str(value)


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, UnionType):
        (annotation,) = (kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation
