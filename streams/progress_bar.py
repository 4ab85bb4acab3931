"""A progress bar on long work. Called by the commands `evaluate`, `train` and `compress`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")
Bar = Callable[[str, int, int], None]
"""Called with what goes on, how much is done and how much there is."""


@contextmanager
def bars(quiet: bool) -> Iterator[Bar]:
    """A progress bar, where somebody looks."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as shown:
        task = shown.add_task("Reading", total=None)
        yield lambda text, done, total: shown.update(task, description=text, completed=done, total=total)


def track(items: Sequence[T], text: str, bar: Bar) -> Iterator[T]:
    """Yield the items; show on the bar how many of them are done."""
    for done, item in enumerate(items):
        bar(text, done, len(items))
        yield item
    bar(text, len(items), len(items))
