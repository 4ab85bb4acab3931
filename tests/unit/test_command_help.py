"""`afterclick --help` reads like a table of contents; each command has an example; a shell completes what we know."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ranker.evaluation.baselines.methods import METHODS
from ranker.train.losses import LOSSES
from streams import cli
from streams.commands import completion
from streams.commands.contents import CONTENTS, all_examples
from streams.commands.evaluate import SYSTEMS
from streams.datasets.event_log import DATASETS
from streams.offline.split_by_protocol import PROTOCOLS
from streams.sizing.plan import CARDS
from tests.command_line import check_afterclick

WIDTH = 80


@pytest.fixture(autouse=True)
def mounted() -> None:
    if not cli.app.registered_groups:
        cli.mount()


def commands(of: Any = None, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, and every command of a group."""
    command = of or typer.main.get_command(cli.app)
    for name, inner in getattr(command, "commands", {}).items():
        yield (*names, name)
        yield from commands(inner, (*names, name))


def help_of(*arguments: str) -> str:
    environment = {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1"}
    result = CliRunner().invoke(cli.app, [*arguments, "--help"], env=environment)
    assert result.exit_code == 0
    return result.output


def test_the_help_is_a_table_of_contents_with_one_line_for_each_command() -> None:
    text = help_of()
    lines = text.splitlines()
    present = [name for (name, *inner) in commands() if not inner]
    headings = re.findall(r"─ ([A-Z][\w ]+) ─", text)
    assert headings == ["Options", *(heading for heading, names in CONTENTS.items() if {*names} & {*present})]
    listed = [
        match[1] for line in lines if (match := re.match(r"│ ([a-z-]+) {2,}\S.*│$", line)) and match[1] in present
    ]
    ordered = [name for names in CONTENTS.values() for name in names if name in present]
    assert listed == ordered, "every command has a heading"
    assert sorted(listed) == sorted(present)
    after_options = lines[next(number for number, line in enumerate(lines) if f"─ {headings[1]} ─" in line) :]
    assert [line for line in after_options if re.match(r"│ {10,}\S", line)] == [], "a line goes on in the next one"
    assert max(map(len, lines)) <= WIDTH


def test_every_command_has_an_example_that_parses() -> None:
    present = {name for name, *_ in commands()}
    for names in commands():
        assert "Example" in help_of(*names), names
    for line in all_examples():
        arguments = [one for one in shlex.split(line.partition(" > ")[0]) if one]
        if arguments[0] in present:
            check_afterclick(arguments)


def test_the_completed_values_are_those_that_the_commands_take() -> None:
    from streams.bench.command import BENCHES
    from streams.cli import Role

    assert completion.PROTOCOLS == PROTOCOLS
    assert completion.DATASETS == DATASETS
    assert list(completion.LOSSES) == list(LOSSES)
    assert list(completion.CARDS) == list(CARDS)
    assert completion.BENCHES == BENCHES
    assert ("afterclick", "afterclick-no-model", *completion.BASELINES) == tuple(SYSTEMS)
    assert list(completion.BASELINES) == list(METHODS)
    assert [role.value for role in Role] == ["state", "rank", "all"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("afterclick dead", {"dead-letters"}),
        ("afterclick dead-letters retry --topic cl", {"clicks"}),
        ("afterclick evaluate --protocol next", {"next-basket"}),
        ("afterclick evaluate --systems item-knn,als,sas", {"item-knn,als,sasrec", "item-knn,als,sasrec+item-knn"}),
        ("afterclick evaluate --dataset gen", {"generated-shop"}),
        ("afterclick worker --role ", {"state", "rank", "all"}),
        ("afterclick schema rec", {"recommendations"}),
        ("afterclick settings --to", {"--toml"}),
    ],
)
def test_a_shell_completes_commands_options_and_values(typed: str, offered: set[str]) -> None:
    """As bash asks: the script that `--show-completion` prints sets these variables."""
    words = typed.split(" ")
    environment = {"_AFTERCLICK_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words)}
    environment["COMP_CWORD"] = str(len(words) - 1)
    result = CliRunner().invoke(cli.app, [], prog_name="afterclick", env=environment)
    assert set(result.output.split()) == offered


def test_bash_completes_with_the_printed_script(tmp_path: Path) -> None:
    program = tmp_path / "afterclick"
    program.write_text(f"#!{sys.executable}\nfrom streams.cli import main\nmain()\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
    environment["_AFTERCLICK_COMPLETE"] = "source_bash"
    asked = f"""
eval "$({program})"
unset _AFTERCLICK_COMPLETE
COMP_WORDS=(afterclick train --loss r) COMP_CWORD=3
complete -p afterclick > /dev/null && _afterclick_completion afterclick
echo "${{COMPREPLY[@]}}"
"""
    command = ["bash", "--norc", "-c", asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.returncode) == ("ranknet", 0), done.stderr
