"""The base of every group of settings, and how a setting is declared.

Knows no setting and reads no environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

PREFIX = "AFTERCLICK_"
"""What the environment variable of every setting begins with."""
TOPIC_LETTERS = "[A-Za-z0-9._-]"
"""The characters that Kafka accepts in the name of a topic, as a character class."""


def setting(default: Any, effect: str, *, unit: str = "", **limits: Any) -> Any:
    """Declare a setting.

    Parameters
    ----------
    default : object
        The value when nobody sets one.
    effect : str
        What the setting changes, in one sentence or two. `afterclick settings` prints it.
    unit : str
        The unit of the value, or what a text is (`path`, `URL`). Empty for a boolean and for a choice: their type
        says what they take.
    **limits
        Passed on to `pydantic.Field`: `ge`, `gt`, `le`, `lt`, `pattern`, `min_length`, `validate_default`.
    """
    return Field(default, description=effect, json_schema_extra={"unit": unit}, **limits)


def trim(cls: type[BaseModel], value: object, info: ValidationInfo) -> object:
    """Remove white space around a value, such as the line feed of a file. A secret is left as it was given."""
    annotation = cls.model_fields[info.field_name or ""].annotation
    return value.strip() if isinstance(value, str) and "SecretStr" not in str(annotation) else value


def split_commas(value: object) -> object:
    """Split a text at its commas, as an environment variable gives a list. Any other value is left as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def pairs_text(numbers: Mapping[str, float]) -> str:
    """Write numbers by name as the environment has them.

    >>> pairs_text({"cart": 2.0, "skip": -0.5})
    'cart=2,skip=-0.5'
    """
    return ",".join(f"{name}={number:g}" for name, number in numbers.items())


class SettingsGroup(BaseModel):
    """Settings of one concern: one level of `__` in the environment, one table in TOML."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    _trim = field_validator("*", mode="before")(trim)
