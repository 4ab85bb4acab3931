"""The set-up checks the version of Python itself, and says in one line which versions it needs."""

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
sys.version_info = {version}
if sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    print("made", *sys.argv[1:])
    sys.exit(3)
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the files that `make setup` reads, without an environment."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", "pyproject.toml", "deploy/constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def made(folder: Path, version: tuple[int, int, int], target: str = "setup") -> subprocess.CompletedProcess[str]:
    fake = folder / "some-python"
    fake.write_text(FAKE.format(python=sys.executable, version=version))
    fake.chmod(0o755)
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of an outer make
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


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 13, 9)])
def test_a_supported_python_creates_the_environment(copied: Path, version: tuple[int, int, int]) -> None:
    assert "made -m venv .venv" in made(copied, version).stdout


def test_the_makefile_and_the_package_name_the_same_range() -> None:
    assert 'requires-python = ">=3.10,<3.14"' in (ROOT / "pyproject.toml").read_text()
