"""The wheel has every file of the package, and works in an environment that has nothing else of ours.

The environment sees the dependencies of the one that runs the tests, and not its editable installation: a `.pth` file
adds a folder to the path without reading the `.pth` files in there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "ranker", "encoders")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that knows nothing of this checkout, and return its output; it must end with status 0."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no build folder is left in the checkout."""
    pytest.importorskip("setuptools")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", built, source, cwd=source)
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder)
    (packages,) = folder.glob("lib/*/site-packages")
    dependencies = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n", encoding="utf-8")
    return folder / "bin"


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith(tuple(f"{name}/" for name in PACKAGES))}
    modules = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    default = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ranker/default").iterdir() if path.is_file()}
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "streams/serve/page/static").iterdir()}
    profiles = {path.relative_to(ROOT).as_posix() for path in (ROOT / "streams/settings/profiles").iterdir()}
    typed = {f"{name}/py.typed" for name in PACKAGES}
    assert default, "the default model is a part of the package"
    assert "streams/serve/page/static/index.html" in page
    assert "streams/settings/profiles/segment.toml" in profiles
    assert (modules | default | page | profiles | typed) - packed == set()
    assert {name for name in packed if name.endswith(".py")} == modules


def test_the_wheel_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    afterclick = installed / "afterclick"
    assert run(afterclick, "--version", cwd=tmp_path) == f"afterclick {version('afterclick')}\n"
    schema = json.loads(run(afterclick, "schema", "clicks", cwd=tmp_path))
    assert schema["$ref"].endswith("/Click")
    where = "import encoders, ranker, streams; print(*(m.__file__ for m in (encoders, ranker, streams)))"
    for path in run(installed / "python", "-c", where, cwd=tmp_path).split():
        assert Path(path).is_relative_to(installed.parent)
