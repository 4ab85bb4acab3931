"""`afterclick settings`: every setting with what it is now and why, its unit, default and effect, in five formats.

Markdown, `.env` and TOML show the defaults alone. No format shows a secret.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from rich.console import Console

from streams.settings import Settings
from streams.settings.current import CurrentSetting, current, toml_path
from streams.settings.table import SettingRow, fields, rows

WIDTH = 100
ESCAPED_BAR = "\\|"  # a bar alone would end the cell
TOML_HEAD = """\
# Afterclick's settings: afterclick worker --config THIS_FILE. Environment variables override them.
# Remove the "#" before a name to set it. "##" is before a name that is unset by default."""


class Format(str, Enum):
    """How the settings are printed."""

    text = "text"
    markdown = "markdown"
    env = "env"
    toml = "toml"
    json = "json"


def write(
    form: Format, console: Console, config: Path | None = None, only_set: bool = False, profile: str | None = None
) -> None:
    """Print the settings in a format.

    Parameters
    ----------
    config : Path, optional
        The TOML file that is read too. `text` and `json` say what each setting is now.
    only_set : bool
        Leave out what has its default; `text` and `json` alone.
    profile : str, optional
        In place of the profile that is set; `text` and `json` alone.

    Raises
    ------
    SettingsError
        A setting is wrong. All are printed before.
    """
    described = rows(Settings)
    if form in (Format.text, Format.json):
        now, error = current(config, profile)
        pairs = [(row, one) for row, one in zip(described, now, strict=True) if one.is_set or not only_set]
        lines = _json(pairs) if form is Format.json else _text(pairs, min(console.width, WIDTH))
        console.out(*lines, sep="\n", highlight=False)
        if error:
            raise error
        return
    printed = {Format.markdown: _markdown, Format.env: _env, Format.toml: _toml}[form](described)
    console.out(*printed, sep="\n", highlight=False)


Pairs = Sequence[tuple[SettingRow, CurrentSetting]]


def _text(pairs: Pairs, width: int) -> Iterator[str]:
    for row, now in pairs:
        default = f"default {row.default}" if row.default else "unset by default"
        yield f"{row.variable} = {now.value}" if now.value else f"{row.variable} (unset)"
        yield from _paragraph(f"{now.origin}; {default}; {row.unit}" if now.is_set else f"{default}; {row.unit}", width)
        yield from _paragraph(row.effect, width)
        if now.problem:
            yield from _paragraph(f"WRONG: {now.problem}", width)
    if not pairs:
        yield "every setting has its default"


def _paragraph(text: str, width: int, start: str = "    ") -> list[str]:
    """Wrap between words; no name and no value is broken."""
    return textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=start, break_on_hyphens=False, break_long_words=False
    )


def _markdown(settings: Sequence[SettingRow]) -> Iterator[str]:
    yield "| environment variable | unit | default | effect |"
    yield "|---|---|---|---|"
    for row in settings:
        cells = (f"`{row.variable}`", row.unit, f"`{row.default}`" if row.default else "", row.effect)
        yield f"| {' | '.join(cell.replace('|', ESCAPED_BAR) for cell in cells)} |"


def _env(settings: Sequence[SettingRow]) -> Iterator[str]:
    """Write a file for `docker --env-file`, systemd or a shell. Every line is a comment, to be uncommented."""
    for row in settings:
        yield from _paragraph(f"{row.effect} ({row.unit})", WIDTH, "# ")
        yield f"#{row.variable}={row.default}"


def _toml(settings: Sequence[SettingRow]) -> Iterator[str]:
    """Write a file for `--config`. Every setting is a comment, to be uncommented. Those without a table come first."""
    yield TOML_HEAD
    defaults = {variable: field.default for variable, field in fields(Settings)}
    tables: dict[str, list[tuple[str, SettingRow]]] = {"": []}
    for row in settings:
        *table, key = toml_path(row.variable)
        tables.setdefault(".".join(table), []).append((key, row))
    for name, of_table in tables.items():
        yield f"\n[{name}]" if name else ""
        for key, row in of_table:
            yield from _paragraph(f"{row.effect} ({row.unit})", WIDTH, "# ")
            default = defaults[row.variable]
            yield f'##{key} = "{row.unit}"' if default is None else f"#{key} = {toml_value(default)}"


def toml_value(value: Any) -> str:
    """Write a value in TOML.

    >>> toml_value(("a", "b")), toml_value(Path("x")), toml_value(True), toml_value(20)
    ('["a", "b"]', '"x"', 'true', '20')
    """
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, BaseModel):
        return toml_value(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {toml_value(one)}' for key, one in value.items())} }}"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return json.dumps(text.as_posix() if isinstance(text, Path) else str(text), ensure_ascii=False)


def _json(pairs: Pairs) -> Iterator[str]:
    yield json.dumps([asdict(row) | asdict(now) for row, now in pairs], indent=2, ensure_ascii=False)
