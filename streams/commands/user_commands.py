"""The commands about one user, as Typer reads them: `recommend`, `preferences` and `forget`.

Knows which function does the work and imports it when the command runs.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Annotated

import msgspec
import typer

from streams.commands.options import Config, Json, User
from streams.settings import load


def recommend(
    user: User,
    placement: Annotated[str | None, typer.Option(help="A placement, such as cart: its own list of the user.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print a user's list, with titles and reasons.

    A user without a list gets the cold-start list, and the reason why. --json prints the list as Redis has it, byte for
    byte; what there is to say about it goes to stderr. The status is 0 if a list is printed, 1 if there is none, and 2
    if Redis cannot be asked.
    """
    from streams.commands import recommend as lists
    from streams.terminal.report import show

    answer = asyncio.run(lists.read(load(config), user, placement, with_titles=not as_json))
    for line in answer.notes:
        typer.echo(line, err=True)
    if answer.stored is None:
        raise typer.Exit(1)
    if as_json:
        typer.echo(answer.stored.decode())
    else:
        show(lists.render(answer))


def preferences(
    user: User,
    add: Annotated[str | None, typer.Option(metavar="TEXT", help="State a wish, in the user's words.")] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="The end of the new wish, UTC."),
    ] = None,
    revoke: Annotated[str | None, typer.Option(metavar="ID", help="Take a wish back.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List, state and revoke what a user wishes.

    Wishes are said in English: "nothing with fur this week", "only vegan", "more jazz", "less football", "under 50
    EUR", "cheaper". The status is 1 if the new wish was not understood: it changes nothing, and the table says why.
    """
    from streams.commands import preferences as wishes
    from streams.kafka.record_time import now_ms
    from streams.terminal.report import show

    settings, stated = load(config), None
    if revoke is not None:
        asyncio.run(wishes.revoke(settings, user, revoke))
        typer.echo(f"asked to take {revoke} back; the next list of {user!r} is made without it", err=True)
    if add is not None:
        end = until.replace(tzinfo=timezone.utc) if until else None
        stated = asyncio.run(wishes.state(settings, user, add, end))
        if stated is None:
            typer.echo("sent; no worker has read it yet: ask again", err=True)
    if revoke is None or add is not None:
        kept, owner = asyncio.run(wishes.wishes_of(settings, user))
        found = wishes.listed(kept, now_ms())
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
        else:
            show(wishes.render(owner, found))
    if stated is not None and stated.wish is None:
        raise typer.Exit(1)


def forget(user: User, config: Config = None) -> None:
    """Erase a user: state, list and pending requests."""
    from streams.commands.forget import send

    asyncio.run(send(load(config), user))
    typer.echo(f"asked to forget {user!r}; the workers erase state, list and pending requests when they read it")
