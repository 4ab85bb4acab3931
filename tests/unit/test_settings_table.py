"""`afterclick settings` prints every setting, with unit, default and effect, in each format."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import BaseModel
from rich.console import Console

from streams import cli
from streams.commands.settings import Format, write
from streams.settings import PREFIX, Settings, SettingsError, load
from streams.settings.current import current, toml_path
from streams.settings.table import MASK, SettingRow, rows

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
        (
            "AFTERCLICK_CANDIDATES__SOURCES",
            "names with commas",
            "co-visited,nearest,searched,trending,newest,knowledge",
        ),
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


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def test_the_toml_file_loads_as_it_is_and_gives_the_defaults_uncommented(no_environment: None, tmp_path: Path) -> None:
    text = printed(Format.toml)
    assert re.findall(r"^(?![#\[]|$).*", text, re.MULTILINE) == [], "every setting is a comment"
    keys = re.findall(r"^##?(\w+) = ", text, re.MULTILINE)
    assert sorted(keys) == sorted(toml_path(row.variable)[-1] for row in ROWS)
    file = tmp_path / "afterclick.toml"
    for content in (text, re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)):
        file.write_text(content, encoding="utf-8")
        assert load(file) == Settings.model_construct()
    file.write_text(re.sub(r"^##?(?=\w+ = )", "", text, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(SettingsError, match="got 'IANA name, such as Europe/Berlin'"):
        load(file)


def test_each_setting_says_its_value_and_who_set_it(
    no_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        """grace_s = 9
[kafka]
# a comment
partitions = 5
create_topics = false
[candidates]
sources = [
  "nearest",
  "newest",
]
[metrics]
token = "of the file, 16 or more"
""",
        encoding="utf-8",
    )
    monkeypatch.setenv("AFTERCLICK_KAFKA__CREATE_TOPICS", "true")
    monkeypatch.setenv("AFTERCLICK_REDIS__URL", "redis://ann:secret@redis:6379/0")
    rows, error = current(file)
    assert error is None
    assert len(rows) == len(ROWS)
    assert {row.variable.removeprefix(PREFIX): (row.value, row.origin) for row in rows if row.is_set} == {
        "GRACE_S": ("9", f"{file}:1"),
        "KAFKA__PARTITIONS": ("5", f"{file}:4 [kafka]"),
        "KAFKA__CREATE_TOPICS": ("true", "environment"),
        "CANDIDATES__SOURCES": ("nearest,newest", f"{file}:7 [candidates]"),
        "METRICS__TOKEN": (MASK, f"{file}:12 [metrics]"),
        "REDIS__URL": (MASK, "environment"),
    }


def test_a_wrong_setting_is_printed_too_and_ends_with_2(
    no_environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFTERCLICK_KAFKA__PARTITIONS", "many")
    monkeypatch.setenv("AFTERCLICK_METRICS__TOKEN", "short")
    monkeypatch.setattr(sys, "argv", ["afterclick", "settings", "--set"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert "AFTERCLICK_KAFKA__PARTITIONS = many" in printed.out
    assert "WRONG: AFTERCLICK_KAFKA__PARTITIONS: got 'many'" in printed.out
    assert printed.err.startswith("afterclick: AFTERCLICK_KAFKA__PARTITIONS: got 'many'")
    assert "short" not in printed.out + printed.err


def test_json_has_every_row_and_its_value(no_environment: None) -> None:
    stored = json.loads(printed(Format.json))
    assert [SettingRow(**{field: row[field] for field in asdict(ROWS[0])}) for row in stored] == ROWS
    assert {row["origin"] for row in stored} == {"default"}


@pytest.mark.parametrize("width", [80, 160])
def test_no_name_and_no_value_is_broken(no_environment: None, width: int) -> None:
    lines = printed(Format.text, width).splitlines()
    for row in ROWS:
        assert (f"{row.variable} = {row.default}" if row.default else f"{row.variable} (unset)") in lines
    assert max(map(len, lines)) <= max(width, max(len(f"{row.variable} = {row.default}") for row in ROWS))


def test_two_formats_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["afterclick", "settings", "--env", "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("afterclick: settings: got --env and --json, expected one format")
