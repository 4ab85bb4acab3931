"""A progress bar for long work, shown only on a terminal. Knows no work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from ranker.progress import Progress, StageProgress

T = TypeVar("T")


@contextmanager
def progress_bar(quiet: bool = False, console: Console | None = None) -> Iterator[StageProgress]:
    """Show one bar, which names the current stage, where the console is a terminal.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    console : Console, optional
        Where to show it; by default stderr.

    Examples
    --------
    >>> with progress_bar(quiet=True) as stage:
    ...     progress = stage("Reading")
    ...     progress(1, 2)
    """
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    console = console or Console(stderr=True)
    with RichProgress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("Starting", total=None)

        def stage(name: str) -> Progress:
            bar.update(task, description=name, completed=0, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield stage


def track(items: Sequence[T], name: str, stage: StageProgress) -> Iterator[T]:
    """Yield the items as a stage of this name; report how many of them are done."""
    progress = stage(name)
    for done, item in enumerate(items):
        progress(done, len(items))
        yield item
    progress(len(items), len(items))
