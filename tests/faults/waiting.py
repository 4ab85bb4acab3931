"""Wait for a condition, for a bounded time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


class NotInTime(AssertionError):
    """A condition did not become true in time; the message says which."""


def until(condition: Callable[[], object], timeout_s: float, otherwise: str, every_s: float = 0.1) -> float:
    """Wait until a condition is true; return the seconds that it took.

    A pause of the whole machine counts as at most one second.

    Parameters
    ----------
    condition : callable
    timeout_s : float
    otherwise : str
        The message of the error.
    every_s : float
        The seconds between two calls of the condition.

    Raises
    ------
    NotInTime
        The condition was still false after `timeout_s`.
    """
    waited_s, checked_s = 0.0, time.monotonic()
    while not condition():
        if waited_s > timeout_s:
            raise NotInTime(f"not within {timeout_s:g} s: {otherwise}")
        time.sleep(every_s)
        now_s = time.monotonic()
        waited_s, checked_s = waited_s + min(now_s - checked_s, every_s + 1), now_s
    return waited_s


def reachable(port: int) -> bool:
    """Return whether a server listens on a port of the loopback interface."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
