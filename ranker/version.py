"""Which model a folder holds: its name says where it is, not what it is, and it may be replaced there.

Loads nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from encoders.models import source as model_source
from ranker.folder import folder_of
from ranker.scorers.template import FILE

DIGITS, BLOCK = 8, 1 << 20
Fingerprint: TypeAlias = "tuple[tuple[str, int, int], ...]"


def name(model: str) -> str:
    """What a model is called in lists, metrics and logs: a folder by its last component, for paths are a host's own.

    >>> name("/srv/models/shop/")
    'shop'
    """
    folder = folder_of(model)
    is_folder = folder.is_dir() or folder.is_absolute()
    return (folder.name or folder.resolve().name) if is_folder else model


def version(model: str) -> str:
    """The model's name; behind that of a folder, `@` and the first digits of the SHA-256 of all files in it.

    The same on every machine. A base that is a folder of its own counts as a part of it.
    """
    digest, empty = hashlib.sha256(), True
    for folder in _folders(model):
        for path in _files(folder):
            empty = False
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(_digest(path))
    return name(model) if empty else f"{name(model)}@{digest.hexdigest()[:DIGITS]}"


def fingerprint(model: str) -> Fingerprint:
    """What changes whenever a file in the model's folder does: each one's path, size and time; () for no folder."""
    found = []
    for folder in _folders(model):
        for path in _files(folder):
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(found)


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.digest()


def _folders(model: str) -> Iterator[Path]:
    folder = folder_of(model)
    if not folder.is_dir():
        return
    yield folder.resolve()  # a link that points elsewhere is another model
    base = (model_source.read_json(folder, FILE, dict) or {}).get("base", "none")
    if Path(base).is_dir():
        yield Path(base).resolve()


def _files(folder: Path) -> list[Path]:
    """The model's own, and those that say how a sentence-transformers folder pools."""
    return sorted(path for path in (*folder.iterdir(), *folder.glob("*/config.json")) if path.is_file())
