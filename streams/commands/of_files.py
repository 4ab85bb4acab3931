"""Commands whose options take several files: `--clicks a.jsonl b.jsonl`, as a shell writes out `clicks-*.jsonl`.

Knows no command.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from typer.core import TyperCommand, TyperOption

from streams.commands.options import FILES


class OfFiles(TyperCommand):
    """A command in which each option of files takes all arguments up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with the name of the option before each of its files."""
        options = [option for option in self.params if isinstance(option, TyperOption) and option.metavar == FILES]
        names = {name for option in options for name in option.opts}
        return super().parse_args(ctx, list(_repeated(args, names)))


def _repeated(args: list[str], names: Collection[str]) -> Iterator[str]:
    """Repeat an option of these names before its second argument and the later ones.

    >>> list(_repeated(["--clicks", "a", "b", "--seed", "3"], {"--clicks"}))
    ['--clicks', 'a', '--clicks', 'b', '--seed', '3']
    """
    option, has_file = "", False
    for arg in args:
        if arg.startswith("-"):
            option, has_file = arg if arg in names else "", False
        elif option:
            if has_file:
                yield option
            has_file = True
        yield arg
