"""The end of a command by Ctrl-C: one line that says what was kept and how to go on, and status 130."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from encoders.errors import AfterclickError

INTERRUPTED = 130
"""The exit status: 128 and the number of SIGINT, as shells have it."""


class Interrupted(AfterclickError):
    """Ctrl-C ended the command; the message says what was kept and how to go on."""


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C in the block into one line.

    Parameters
    ----------
    kept : callable
        Says what was kept and how to go on. It is called after the Ctrl-C.

    Raises
    ------
    Interrupted
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {kept()}") from None
