"""Without the extra `evaluate`: an evaluation says in one line what to install, everything else works."""

from __future__ import annotations

import subprocess
import sys

import pytest

HIDE = """
import sys
from importlib.abc import MetaPathFinder

class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])

hidden = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Hide())
"""
COMMANDS = (
    "worker", "demo", "schema", "doctor", "recommend", "forget", "bench", "evaluate", "train", "compress",
    "dead-letters", "replay",
)  # fmt: skip
EVALUATE = """
from streams.cli import main
sys.argv = ["afterclick", "evaluate", "--protocol", "next-basket", "--dataset", "generated-shop", "1"]
main()
"""
HELP = f"""
from typer.testing import CliRunner
from streams import cli
cli.mount()
for arguments in ([], *([name] for name in {COMMANDS})):
    result = CliRunner().invoke(cli.app, [*arguments, "--help"])
    assert result.exit_code == 0, (arguments, result.output, result.exception)
"""
IMPORTS = """
import streams.worker.run, streams.commands.train, streams.commands.compress, streams.commands.train_default
import streams.commands.demo.command, streams.offline.split_pipeline, ranker.load
assert not hidden & {name.split(".")[0] for name in sys.modules}
"""


def run(hidden: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDE + script, hidden], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("hidden", ["scipy", "implicit"])
def test_an_evaluation_says_in_one_line_what_to_install(hidden: str) -> None:
    ended = run(hidden, EVALUATE)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        f"afterclick: {hidden}: got no such package, expected it for evaluations; pip install 'afterclick[evaluate]'\n"
    )


@pytest.mark.parametrize("script", [HELP, IMPORTS], ids=["help", "imports"])
def test_everything_else_works_without_the_extra(script: str) -> None:
    ended = run("scipy,implicit", script)
    assert ended.returncode == 0, ended.stderr
