"""Where a ranker's folder is. Called by whoever looks into one."""

from __future__ import annotations

from pathlib import Path

DEFAULT = "default"
"""The ranker that comes with us: `default/` beside this file, a fusion head over an embedding model's package."""


def folder_of(model: str) -> Path:
    """The folder that a model's name means, if it is a folder's; `./default` for one of your own of that name."""
    return Path(__file__).parent / DEFAULT if model == DEFAULT else Path(model).expanduser()
