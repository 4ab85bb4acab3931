"""The rules of the house, checked on the source of every product package: sizes, names and words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "ranker", "encoders")
FILE_LINES = 300
FUNCTION_LINES = 60
TOP_FILES = 10
"""Entries beside folders at the top of a package."""
SAME_NAME_ALLOWED = frozenset({"Transport", "Consumer", "Producer"})
"""Subclasses of Faust's classes of the same name."""
REPLACED_WORDS = frozenset(
    {
        "arm",
        "arms",
        "imitation",
        "lease",
        "newcomers",
        "outbox",
        "parted",
        "peek",
        "prior",
        "stamp",
        "taught",
    }
)
"""Words that a standard term has replaced; `odds` is allowed in `log_odds` only."""
REPLACED_PAIRS = ("hand_over", "take_over", "made_up")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def product_files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def definitions(path: Path) -> Iterator[Definition]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Definition):
            yield node


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of every class, function, argument, attribute and variable that a file defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Definition):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def is_replaced(identifier: str) -> bool:
    """Return whether an identifier has a word that a standard term has replaced.

    >>> [is_replaced(name) for name in ("peek", "newcomers_list", "odds", "PriorScore", "hand_over")]
    [True, True, True, True, True]
    >>> [is_replaced(name) for name in ("harm", "log_odds", "priority")]
    [False, False, False]
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower()
    words = set(snake.split("_"))
    odds = "odds" in words and "log_odds" not in snake
    return odds or bool(words & REPLACED_WORDS) or any(f"_{pair}_" in f"_{snake}_" for pair in REPLACED_PAIRS)


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in product_files()}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{name_of(path)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in product_files()
        for node in definitions(path)
        if not isinstance(node, ast.ClassDef) and node.end_lineno is not None
    }
    assert {name: lines for name, lines in long.items() if lines > FUNCTION_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_at_most_ten_entries_beside_folders(package: str) -> None:
    files = sorted(path.name for path in (ROOT / package).iterdir() if path.is_file())
    assert len(files) <= TOP_FILES, files


def test_a_class_name_means_one_thing() -> None:
    """Private classes, whose names begin with an underscore, may repeat."""
    indices: dict[str, list[str]] = defaultdict(list)
    for path in product_files():
        for node in definitions(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                indices[node.name].append(name_of(path))
    assert {name: files for name, files in indices.items() if len(files) > 1 and name not in SAME_NAME_ALLOWED} == {}


def test_no_module_says_who_calls_it() -> None:
    called_by = [
        name_of(path)
        for path in product_files()
        if "called by" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").lower()
    ]
    assert called_by == []


def test_no_identifier_has_a_word_that_was_replaced() -> None:
    replaced = {
        f"{name_of(path)}:{line} {name}"
        for path in product_files()
        for line, name in identifiers(path)
        if is_replaced(name)
    }
    assert sorted(replaced) == []
