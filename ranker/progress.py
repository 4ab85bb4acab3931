"""The type of the callbacks through which long work reports how far it is. Knows no terminal."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called now and then with how much is done and how much there is, in the same unit."""
StageProgress = Callable[[str], Progress]
"""Names the stage that begins, and returns the callback for its progress."""


def silent(done: int, total: int) -> None:
    """Report nothing."""
