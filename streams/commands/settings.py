"""`afterclick settings`: every setting with its environment variable, unit, default and effect, in four formats.

Shows what can be set and the defaults. It reads no environment, so it shows no secret.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import Enum

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streams.settings import Settings
from streams.settings.table import SettingRow, rows

WIDTH, TABLE_WIDTH = 100, 120
ESCAPED_BAR = "\\|"  # a bar alone would end the cell


class Format(str, Enum):
    """How the settings are printed."""

    table = "table"
    markdown = "markdown"
    env = "env"
    json = "json"


def write(form: Format, console: Console) -> None:
    """Print all settings in a format. A console that is no terminal, or a narrow one, gets text instead of a table."""
    settings = rows(Settings)
    if form is Format.table and console.is_terminal and console.width >= TABLE_WIDTH:
        console.print(_table(settings))
        return
    lines = {Format.table: _text, Format.markdown: _markdown, Format.env: _env, Format.json: _json}[form](settings)
    console.out(*lines, sep="\n", highlight=False)


def _table(settings: Sequence[SettingRow]) -> Table:
    table = Table(Column("environment variable", no_wrap=True), "unit", "default", "effect", show_lines=True)
    for row in settings:
        table.add_row(row.variable, row.unit, Text(row.default or "(unset)", overflow="fold"), row.effect)
    return table


def _text(settings: Sequence[SettingRow]) -> Iterator[str]:
    for row in settings:
        yield f"{row.variable} ({row.unit}; {f'default {row.default}' if row.default else 'unset by default'})"
        yield from textwrap.wrap(row.effect, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _markdown(settings: Sequence[SettingRow]) -> Iterator[str]:
    yield "| environment variable | unit | default | effect |"
    yield "|---|---|---|---|"
    for row in settings:
        cells = (f"`{row.variable}`", row.unit, f"`{row.default}`" if row.default else "", row.effect)
        yield f"| {' | '.join(cell.replace('|', ESCAPED_BAR) for cell in cells)} |"


def _env(settings: Sequence[SettingRow]) -> Iterator[str]:
    """Write a file for `docker --env-file`, systemd or a shell. Every line is a comment, to be uncommented."""
    for row in settings:
        yield from textwrap.wrap(
            f"{row.effect} ({row.unit})", WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
        yield f"#{row.variable}={row.default}"


def _json(settings: Sequence[SettingRow]) -> Iterator[str]:
    yield json.dumps([asdict(row) for row in settings], indent=2, ensure_ascii=False)
