"""Time a call: by the wall clock, or by processor time too. Knows no benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def timed(action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> tuple[float, R]:
    """Call `action` once; return the seconds that it took, and its result."""
    begin_s = time.perf_counter()
    result = action(*args, **kwargs)
    return time.perf_counter() - begin_s, result


def seconds(action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Call `action` once; return the seconds that it took."""
    return timed(action, *args, **kwargs)[0]


def processor_and_wall_s(action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> tuple[float, float]:
    """Call `action` once; return the seconds of processor time that this process used, and those that passed.

    The first does not count the time in which other programs have the cores.
    """
    processor_s, begin_s = time.process_time(), time.perf_counter()
    action(*args, **kwargs)
    return time.process_time() - processor_s, time.perf_counter() - begin_s


def seconds_of_each(action: Callable[[T], object], inputs: Iterable[T]) -> float:
    """Call `action` with each input in turn; return the seconds that all calls took together."""
    begin_s = time.perf_counter()
    for value in inputs:
        action(value)
    return time.perf_counter() - begin_s
