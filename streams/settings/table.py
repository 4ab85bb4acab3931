"""Every field of a settings class under its environment variable, with unit, default and effect.

Knows no setting, and no format that the table is printed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streams.settings.group import PREFIX

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
        SettingRow(name, ", ".join([_unit(field), *_limits(field)]), _default(field.default), field.description or "")
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


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return value.as_posix() if isinstance(value, Path) else str(value)


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, UnionType):
        (annotation,) = (kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation
