"""`afterclick rules`, as Typer reads it: check a file of rules, and say what rules did to a user's list."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ranker.rules.reading import read
from streams.commands import rules_report
from streams.commands.options import ANY_ID, Config, Json, User
from streams.settings import load
from streams.terminal.report import show

commands = typer.Typer(no_args_is_help=True)


@commands.command()
def check(
    file: Annotated[Path, typer.Argument(help="A TOML file of rules.")],
    as_json: Json = False,
) -> None:
    """Check a file of rules, and print them in words.

    What is wrong is printed with file and line, and the status is 2. Needs no server.
    """
    rules = read(file)
    if as_json:
        typer.echo(msgspec.json.encode([rules_report.as_object(rule) for rule in rules.rules]).decode())
    else:
        show(rules_report.of_file(rules, str(file)))


@commands.command(context_settings=ANY_ID)
def explain(
    user: User,
    placement: Annotated[str | None, typer.Option(help="A placement, such as cart: its own list of the user.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say which rule moved which item in the list that a user has now.

    A user without a list gets the cold-start list. The status is 1 if there is none.
    """
    settings = load(config)
    rules = read(settings.rules).rules if settings.rules else ()
    list_ = asyncio.run(rules_report.list_of(settings, user, placement))
    if list_ is None:
        typer.echo(f"no list for {user!r}, and no cold-start list: afterclick recommend says why", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(msgspec.json.encode(rules_report.moves(list_)).decode())
        return
    show(rules_report.of_list(list_, rules))
    for line in rules_report.notes(list_, rules):
        typer.echo(line, err=True)
