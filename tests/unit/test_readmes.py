"""The README of a package names every module in it, and no file that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "ranker", "encoders")
NO_FILES_OF_OURS = {
    "config.json",
    "config_sentence_transformers.json",
    "afterclick.json",
    "known-answers.json",
    "/openapi.json",
}
FILE_NAME = re.compile(r"`([\w/.-]+\.(?:py|md|toml|json|txt))\b[^`]*`")


def readme(package: str) -> str:
    return (ROOT / package / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_it_names_every_module_of_its_package(package: str) -> None:
    text = readme(package)
    folder = ROOT / package
    modules = [path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if path.name != "__init__.py"]
    assert len(modules) > 10
    assert [module for module in sorted(modules) if f"`{module}`" not in text] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_it_names_no_file_that_does_not_exist(package: str) -> None:
    names = set(FILE_NAME.findall(readme(package))) - NO_FILES_OF_OURS
    assert len(names) > 10
    folders = (ROOT / package, ROOT)
    assert [name for name in sorted(names) if not any((folder / name).is_file() for folder in folders)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_it_says_who_may_import_whom_and_how_to_add_things(package: str) -> None:
    text = readme(package)
    assert "## Who may import whom" in text
    assert "## How to add" in text
