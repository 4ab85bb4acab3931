"""The set-up: which Python it takes, what it installs for the demo and for the tests, and what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAKE = """#!{python}
import sys
from pathlib import Path
sys.version_info = {version}
if sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    assert sys.argv[1:] == ["-m", "venv", ".venv"], sys.argv
    for name in ("pip", "afterclick"):
        program = Path(".venv/bin") / name
        program.parent.mkdir(parents=True, exist_ok=True)
        note = 'echo "$(basename $0) $*" >> run'
        program.write_text(f'#!/bin/sh\\n{{note}}\\ncase "$*" in {fails}) echo broken >&2; exit 1;; esac\\n')
        program.chmod(0o755)
"""
PIP = "pip install -qq --disable-pip-version-check"
TORCH = (
    f"{PIP} --no-deps --retries 1 --timeout 20 --index-url https://download.pytorch.org/whl/cpu "
    "-c deploy/constraints.txt torch"
)
DEMO, DEV = (f"{PIP} -c deploy/constraints.txt -e .[{extra}]" for extra in ("demo", "dev"))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the files that `make setup` reads, without an environment."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", "pyproject.toml", "deploy/constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def made(
    folder: Path,
    version: tuple[int, int, int] = (3, 12, 1),
    target: str = "setup",
    fails: str = "nothing",
    display: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run make with a Python of this version, whose `pip` and `afterclick` note their arguments in the file `run`."""
    fake = folder / "some-python"
    fake.write_text(FAKE.format(python=sys.executable, version=version, fails=fails))
    fake.chmod(0o755)
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of an outer make
    outer |= {"DISPLAY": display, "WAYLAND_DISPLAY": ""}
    return subprocess.run(
        ["make", target, f"PYTHON={fake}"],
        cwd=folder,
        env=outer,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("version", [(3, 9, 19), (3, 14, 0), (2, 7, 18), (4, 0, 0)])
@pytest.mark.parametrize("target", ["setup", "demo"])
def test_an_unsupported_python_is_refused_in_one_line(copied: Path, version: tuple[int, int, int], target: str) -> None:
    done = made(copied, version, target)
    assert done.returncode != 0
    assert done.stdout == ""
    line, make = done.stderr.splitlines()
    assert line == (
        f"{copied}/some-python: got Python {version[0]}.{version[1]}, expected 3.10 to 3.13; "
        f"install one of them and name it: make {target} PYTHON=python3.12"
    )
    assert make.startswith("make: ***")


def ran(folder: Path) -> list[str]:
    """Return the commands that ran since the last call."""
    commands = (folder / "run").read_text().splitlines()
    (folder / "run").unlink()
    return commands


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 13, 9)])
def test_the_demo_installs_what_it_needs_and_the_tests_install_the_rest(
    copied: Path, version: tuple[int, int, int]
) -> None:
    demo = made(copied, version, "demo")
    assert (demo.returncode, demo.stderr) == (0, "")
    assert ran(copied) == [TORCH, DEMO, "afterclick demo"]
    begin, end = demo.stdout.splitlines()
    assert "1.6 GB" in begin
    assert end == "set-up: done, 1 MB in .venv"
    made(copied, version, "demo", display=":0")
    assert ran(copied) == ["afterclick demo --web"]
    assert len(made(copied, version).stdout.splitlines()) == 2
    assert ran(copied) == [DEV]
    assert "Nothing to be done" in made(copied, version).stdout


def test_without_the_index_of_pytorch_it_comes_from_the_usual_one(copied: Path) -> None:
    done = made(copied, target="demo", fails="*--index-url*")
    assert (done.returncode, done.stderr) == (0, "")
    assert "got no PyTorch from https://download.pytorch.org/whl/cpu" in done.stdout
    assert ran(copied) == [TORCH, DEMO, "afterclick demo"]


def test_a_set_up_that_fails_shows_why_and_is_tried_again(copied: Path) -> None:
    done = made(copied, target="demo", fails="*demo*")
    assert done.returncode != 0
    assert done.stderr.startswith("broken\n")
    assert ran(copied) == [TORCH, DEMO]
    made(copied, target="demo", fails="*demo*")
    assert ran(copied) == [TORCH, DEMO]


def test_the_makefile_and_the_package_name_the_same_range() -> None:
    assert 'requires-python = ">=3.10,<3.14"' in (ROOT / "pyproject.toml").read_text()
