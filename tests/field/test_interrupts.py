"""Ctrl-C on real commands: one line that says what was kept and how to go on, status 130, and nothing like a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.testing.embedded import free_port
from tests.client import until

SHOP = ("--dataset", "generated-shop", "1")
COMMANDS = {
    "train": ("train", "--base", "none", "--out", "{folder}/model", *SHOP),
    "evaluate": ("evaluate", "--protocol", "next-basket", "--systems", "afterclick", *SHOP),
    "simulate": ("simulate", "--users", "20", "--days", "10"),
    "bench": ("bench", "scorer"),
    "demo": ("demo",),
    "dead-letters": ("dead-letters", "retry"),
    "doctor": ("doctor",),
}
SAYS = {
    "train": "no stage was complete yet, so nothing is kept; the same command begins again",
    "bench": "the servers were stopped; figures that were not printed are lost",
    "demo": "the demo's worker and servers were stopped, and its data was deleted",
}
"""What the line says in the stage in which `is_at_work` finds the command."""


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_ends_a_command_with_one_line_and_130(name: str, tmp_path: Path) -> None:
    arguments = [argument.format(folder=tmp_path) for argument in COMMANDS[name]]
    # No Kafka listens there, so the commands that need it wait.
    environment = {**os.environ, "AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    with subprocess.Popen(
        [sys.executable, "-m", "streams.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as command:
        try:
            until(lambda: is_at_work(command.pid, name, tmp_path), timeout_s=120)
            command.send_signal(signal.SIGINT)
            _, errors = command.communicate(timeout=120)
        finally:
            command.kill()
    # Python ends by the signal itself if it came in an import; a shell shows 130 for both.
    assert command.returncode in (130, -signal.SIGINT), errors
    line = errors.removesuffix("\n")
    assert "\n" not in line, errors
    assert line.startswith("afterclick: interrupted")
    assert SAYS.get(name, "") in line


def is_at_work(process: int, name: str, folder: Path) -> bool:
    """Whether the command's own code runs: before that, it only imports."""
    if name == "train":
        return (folder / "model" / "checkpoint" / "fingerprint").is_file()
    library = {"demo": "confluent_kafka", "dead-letters": "aiokafka", "doctor": "aiokafka"}.get(name, "torch")
    return library in Path(f"/proc/{process}/maps").read_text(encoding="utf-8")
