"""The command line: any user id, and an end in one line where Kafka is away."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from streams import cli
from streams.commands import forget
from streams.commands.interruption import INTERRUPTED
from streams.contracts import Recommendations
from streams.kafka import client as kafka_client
from streams.publish.list_cache import ListCache
from streams.settings import RedisSettings, Settings
from streams.testing.embedded import free_port


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The users that a command asked for. Every user has a list."""
    users: list[str] = []

    async def read_once(_: RedisSettings, user_id: str, placement: str | None = None) -> bytes:
        users.append(user_id)
        empty = {"list_id": "l", "as_of": 1, "generated_at": 2, "state_version": 3, "model": "none", "items": []}
        list_ = msgspec.convert({**empty, "user_id": user_id, "trigger": None, "degraded": None}, Recommendations)
        return msgspec.json.encode(list_)

    async def send(_: Settings, user_id: str) -> None:
        users.append(user_id)

    monkeypatch.setattr(ListCache, "read_once", read_once)
    monkeypatch.setattr(forget, "send", send)
    return users


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["afterclick", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


@pytest.mark.parametrize(
    ("arguments", "user"),
    [
        (["u1"], "u1"),
        (["-x"], "-x"),
        (["-1"], "-1"),
        (["-"], "-"),
        (["--x--"], "--x--"),
        (["-xyz=1"], "-xyz=1"),
        (["--", "-x"], "-x"),
        (["--", "--config"], "--config"),
        (["--", "--help"], "--help"),
    ],
)
@pytest.mark.parametrize("command", ["recommend", "forget"])
def test_an_id_may_begin_with_a_dash(
    monkeypatch: pytest.MonkeyPatch, requested: list[str], command: str, arguments: list[str], user: str
) -> None:
    assert ended(monkeypatch, command, *arguments) in (None, 0)
    assert requested == [user]


@pytest.mark.parametrize("arguments", [["--json", "-x"], ["-x", "--json"], ["--json", "--", "-x"]])
def test_options_stay_options_beside_such_an_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], requested: list[str], arguments: list[str]
) -> None:
    assert ended(monkeypatch, "recommend", *arguments) in (None, 0)
    assert requested == ["-x"]
    assert '"user_id":"-x"' in capsys.readouterr().out


def test_two_ids_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], requested: list[str]
) -> None:
    assert ended(monkeypatch, "recommend", "u1", "--jsno") == 2
    assert "--jsno" in capsys.readouterr().err
    assert requested == []


@pytest.mark.parametrize("command", ["forget u1", "dead-letters list", "dead-letters retry", "replay files --clicks"])
def test_where_kafka_is_away_a_command_ends_with_one_line_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    clicks = tmp_path / "clicks.jsonl"
    clicks.write_text('{"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": 1795000000000}\n')
    monkeypatch.setenv("AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(kafka_client, "CONNECT_TIMEOUT_S", 1.0)
    arguments = [*command.split(), *([str(clicks)] if command.endswith("--clicks") else [])]
    assert ended(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("afterclick: Kafka at 127.0.0.1:")


def test_what_kafkas_client_says_beside_it_is_not_shown() -> None:
    environment = {**os.environ, "AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    command = [sys.executable, "-m", "streams.cli", "forget", "u1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    (line,) = done.stderr.splitlines()
    assert line.startswith("afterclick: Kafka at 127.0.0.1:")


def test_where_redis_is_away_recommend_ends_with_one_line_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFTERCLICK_REDIS__URL", f"redis://127.0.0.1:{free_port()}/0")
    assert ended(monkeypatch, "recommend", "u1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("afterclick: Redis: ")


@pytest.mark.parametrize(
    ("command", "work", "says"),
    [
        (
            "train --base none --out {folder}/out",
            "train.run",
            "no stage was complete yet, so nothing is kept; the same",
        ),
        ("train --base none --out {folder}/begun", "train.run", "begun/checkpoint keeps the query groups; the same"),
        ("compress m --int8 --out {folder}/out", "compress.run", "no stage was complete yet, so nothing is kept; the"),
        ("evaluate --protocol next-basket", "evaluate.run", "an evaluation keeps nothing; --users, --trials and"),
        ("demo", "demo.command.run", "the demo's worker and servers were stopped, and its data was deleted"),
        ("dead-letters retry", "dead_letters.retry", "what was sent is noted in Kafka, but for 100 messages at most"),
        ("doctor", "doctor.doctor.examine", "afterclick: interrupted"),
        ("replay shop", "replay.send_and_report", "afterclick: interrupted"),
    ],
)
def test_ctrl_c_says_what_was_kept_and_ends_with_130(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    work: str,
    says: str,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "begun" / "checkpoint").mkdir(parents=True)
    (tmp_path / "begun" / "checkpoint" / "query_groups.npz").touch()
    monkeypatch.setattr(f"streams.commands.{work}", interrupted)
    monkeypatch.setattr("streams.commands.model_commands.event_log", lambda *_: None)
    assert ended(monkeypatch, *command.format(folder=tmp_path).split()) == INTERRUPTED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("afterclick: interrupted")
    assert says in line


@pytest.mark.parametrize("command", [("train", "--base", "none", "--out", "o"), ("replay", "files")])
def test_an_option_takes_the_files_that_a_shell_makes_of_a_pattern(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, list[Path] | None]] = []

    def record(files: dict[str, list[Path] | None], *_: object) -> None:
        given.append(files)
        raise typer.Exit

    monkeypatch.setattr("streams.commands.model_commands.event_log", record)
    monkeypatch.setattr("streams.commands.replay.topic_files", record)
    if not cli.app.registered_groups:
        cli.mount()
    files = ["--items", "i", "--clicks", "a", "b", "--purchases", "c", "--clicks", "d"]
    result = CliRunner().invoke(cli.app, [*command, *files], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    expected = {"items": [Path("i")], "clicks": [Path("a"), Path("b"), Path("d")], "purchases": [Path("c")]}
    assert {topic: paths for topic, paths in given[0].items() if paths} == expected


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "--version") in (None, 0)
    assert capsys.readouterr().out == f"afterclick {version('afterclick')}\n"


def test_the_cold_start_list_stands_in_for_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], requested: list[str]
) -> None:
    read_once = ListCache.read_once

    async def only_cold_start(settings: Settings, user_id: str, placement: str | None = None) -> bytes | None:
        stored = await read_once(settings, user_id, placement)
        return stored if user_id == "*" else None

    monkeypatch.setattr(ListCache, "read_once", only_cold_start)
    assert ended(monkeypatch, "recommend", "u1", "--json") in (None, 0)
    assert requested == ["u1", "*"]
    output = capsys.readouterr()
    assert '"user_id":"*"' in output.out
    assert output.err.startswith("no list for 'u1': ")
    assert "this is the cold-start list ('*')" in output.err
