"""Waiting, bounded. Called by the whole harness."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


class TooLate(AssertionError):
    """What was waited for did not come."""


def until(condition: Callable[[], object], timeout_s: float, otherwise: str, every_s: float = 0.1) -> float:
    """Wait for a condition; the seconds that it took. A pause of this whole machine counts as a second at the most.

    Raises
    ------
    TooLate
        With `otherwise`.
    """
    waited_s, looked_s = 0.0, time.monotonic()
    while not condition():
        if waited_s > timeout_s:
            raise TooLate(f"not within {timeout_s:g} s: {otherwise}")
        time.sleep(every_s)
        now_s = time.monotonic()
        waited_s, looked_s = waited_s + min(now_s - looked_s, every_s + 1), now_s
    return waited_s


def reachable(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
