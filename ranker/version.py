"""The folder that a model's name stands for, and which model it holds: its name, its version, its fingerprint.

A folder's name says where the model is, and the model in it may be replaced, so the version depends on the files.
Loads no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from encoders.errors import AfterclickError
from encoders.models import source as model_source
from ranker.scorers.template import FILE

DEFAULT = "default"
"""The ranker that comes with this package: `default/` beside this file, a fusion head on an embedding model."""
DIGITS, BLOCK_BYTES = 8, 1 << 20
Fingerprint: TypeAlias = "tuple[tuple[str, int, int], ...]"
"""Path, size and modification time of each file."""


def is_url(model: str) -> bool:
    """Return whether the name is the address of a server that ranks, and not a model to be loaded."""
    return model.startswith(("http://", "https://"))


def folder_of(model: str) -> Path:
    """Return the folder that a model's name stands for if it names one; `./default` names your own folder."""
    return Path(__file__).parent / DEFAULT if model == DEFAULT else Path(model).expanduser()


def name(model: str) -> str:
    """Return what lists, metrics and logs call a model: for a folder its last component, because paths differ by host.

    >>> name("/srv/models/shop/"), name("https://rerank.example.com:8443/v1")
    ('shop', 'rerank.example.com:8443')
    """
    if is_url(model):
        return urlsplit(model).netloc.rpartition("@")[2]
    folder = folder_of(model)
    is_folder = folder.is_dir() or folder.is_absolute()
    return (folder.name or folder.resolve().name) if is_folder else model


def version(model: str) -> str:
    """Return the model's name; for a folder followed by `@` and the first digits of the SHA-256 of all its files.

    The version is the same on every machine. The files of a base model that is a folder count too.
    """
    digest, empty = hashlib.sha256(), True
    for folder in _folders(model):
        for path in _files(folder):
            empty = False
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(_digest(path))
    return name(model) if empty else f"{name(model)}@{digest.hexdigest()[:DIGITS]}"


def fingerprint(model: str) -> Fingerprint:
    """Return path, size and time of each file in the model's folder: it changes when a file does; () for no folder."""
    files = []
    for folder in _folders(model):
        for path in _files(folder):
            status = path.stat()
            files.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(files)


def fingerprint_now(model: str) -> Fingerprint:
    """Return the same; () while the folder is being written."""
    try:
        return fingerprint(model)
    except (OSError, AfterclickError):
        return ()


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.digest()


def _folders(model: str) -> Iterator[Path]:
    folder = folder_of(model)
    if not folder.is_dir():
        return
    yield folder.resolve()  # a link that now points elsewhere is another model
    base = (model_source.read_json(folder, FILE, dict) or {}).get("base", "none")
    if Path(base).is_dir():
        yield Path(base).resolve()


def _files(folder: Path) -> list[Path]:
    """The files of the folder itself, and those that describe the pooling of a sentence-transformers model."""
    return sorted(path for path in (*folder.iterdir(), *folder.glob("*/config.json")) if path.is_file())
