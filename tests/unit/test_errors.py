"""The tree of errors in the root's docstring names every error that a user can fix, and where it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from encoders import errors

ROOT = Path(__file__).parents[2]


def test_the_tree_names_every_error_and_its_module() -> None:
    tree = dict(re.findall(r"[├└]── (\w+) +\(([\w.]+)\)", errors.__doc__ or ""))
    defined = {
        node.name: ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("encoders", "ranker", "streams")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "AfterclickError" for base in node.bases)
    }
    assert tree == defined
