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

from streams import cli
from streams.commands import forget
from streams.contracts import Recommendations
from streams.kafka import client as kafka_client
from streams.publish.list_cache import ListCache
from streams.settings import RedisSettings, Settings
from streams.testing.embedded import free_port


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The users that a command asked for. Every user has a list."""
    users: list[str] = []

    async def read_once(_: RedisSettings, user_id: str) -> bytes:
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


@pytest.mark.parametrize("command", ["forget u1", "dead-letters list", "dead-letters retry", "replay jsonl --clicks"])
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


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "--version") in (None, 0)
    assert capsys.readouterr().out == f"afterclick {version('afterclick')}\n"


def test_the_cold_start_list_stands_in_for_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], requested: list[str]
) -> None:
    read_once = ListCache.read_once

    async def only_cold_start(settings: Settings, user_id: str) -> bytes | None:
        stored = await read_once(settings, user_id)
        return stored if user_id == "*" else None

    monkeypatch.setattr(ListCache, "read_once", only_cold_start)
    assert ended(monkeypatch, "recommend", "u1", "--json") in (None, 0)
    assert requested == ["u1", "*"]
    output = capsys.readouterr()
    assert '"user_id":"*"' in output.out
    assert output.err.startswith("no list for 'u1': ")
    assert "this is the cold-start list ('*')" in output.err
