"""Whether a line for `afterclick` can be run: it is parsed, and nothing runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from streams import cli


def check_afterclick(arguments: Sequence[str]) -> None:
    """Parse the arguments as the command would, down to the last option; run nothing."""
    if not cli.app.registered_groups:
        cli.mount()
    command: Any = typer.main.get_command(cli.app)
    context, rest = None, list(arguments)
    while True:
        try:
            context = command.make_context("afterclick", list(rest), parent=context)
        except typer.Exit:  # --version
            return
        if not hasattr(command, "commands"):
            return
        rest = [*getattr(context, "_protected_args", []), *context.args]
        _, command, rest = command.resolve_command(context, rest)
