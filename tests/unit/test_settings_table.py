"""`afterclick settings` prints every setting, with unit, default and effect, in each format."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from pydantic import BaseModel
from rich.console import Console

from streams import cli
from streams.commands.settings import Format, write
from streams.settings import PREFIX, Settings, load
from streams.settings.table import SettingRow, rows

ROWS = rows(Settings)


def leaves(model: BaseModel, prefix: str = PREFIX) -> dict[str, object]:
    """The value of every setting under its environment variable, read from an instance instead of the classes."""
    values: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            values |= leaves(value, f"{prefix}{name.upper()}__")
        else:
            values[prefix + name.upper()] = value
    return values


def printed(form: Format, width: int = 80, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    write(form, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_setting_has_a_row() -> None:
    assert [row.variable for row in ROWS] == list(leaves(Settings.model_construct()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.variable)
def test_every_setting_says_its_unit_and_its_effect_in_sentences(row: SettingRow) -> None:
    assert row.unit, f"{row.variable} has no unit"
    assert not row.unit.startswith(","), f"{row.variable} has limits but no unit"
    assert re.fullmatch(r"[A-Z0-9`].*[.]", row.effect), f"{row.variable}: got {row.effect!r}, expected sentences"
    assert len(row.effect.split()) >= 4


@pytest.mark.parametrize(
    ("variable", "unit", "default"),
    [
        ("AFTERCLICK_KAFKA__PARTITIONS", "partitions, ≥ 1", "8"),
        ("AFTERCLICK_KAFKA__CREATE_TOPICS", "true | false", "true"),
        ("AFTERCLICK_REDIS__URL", "URL", "redis://127.0.0.1:6379/0"),
        ("AFTERCLICK_CANDIDATES__SOURCES", "names with commas", "co-visited,nearest,trending,newest"),
        ("AFTERCLICK_RANKER__CHALLENGER_SHARE", "share, > 0, < 1", "0.1"),
        ("AFTERCLICK_METRICS__TOKEN", "secret text, 16 characters or more", ""),
        ("AFTERCLICK_LOG_LEVEL", "debug | info | warning | error", "info"),
    ],
)
def test_a_row_has_unit_limits_and_default(variable: str, unit: str, default: str) -> None:
    (row,) = (row for row in ROWS if row.variable == variable)
    assert (row.unit, row.default) == (unit, default)


def test_the_defaults_of_the_env_file_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every line that has a value uncommented, the settings are those of an empty environment."""
    lines = printed(Format.env).splitlines()
    assert all(line.startswith("#") for line in lines)
    assigned = dict(re.findall(rf"^#({PREFIX}\w+)=(.*)$", "\n".join(lines), re.MULTILINE))
    assert list(assigned) == [row.variable for row in ROWS]
    for name, value in assigned.items():
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert load() == Settings.model_construct()


def test_json_has_every_row() -> None:
    stored = json.loads(printed(Format.json))
    assert [SettingRow(**row) for row in stored] == ROWS


def test_a_wide_terminal_gets_a_table_and_everything_else_text() -> None:
    wide = printed(Format.table, width=160, terminal=True)
    assert "│ AFTERCLICK_CANDIDATES__CO_VISIT_HALF_LIFE_DAYS " in wide, "a name is never broken"
    for text in (printed(Format.table, width=160), printed(Format.table, width=80, terminal=True)):
        assert "│" not in text
        assert "AFTERCLICK_KAFKA__PARTITIONS (partitions, ≥ 1; default 8)\n    The number of partitions" in text


def test_two_formats_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["afterclick", "settings", "--env", "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("afterclick: settings: got --env and --json, expected one format")
