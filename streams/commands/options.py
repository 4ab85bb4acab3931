"""The arguments and options that several commands share, as Typer reads them. Knows no command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ANY_ID: dict[str, Any] = {"ignore_unknown_options": True}
"""For commands that take a user id: an argument that begins with a dash and is no option is the id."""

User = Annotated[str, typer.Argument(help="The id of the user. Write an id that is spelt like an option after --.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of settings. Environment variables override it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

Items = Annotated[Path | None, typer.Option(help="A file of messages of the topic items, one a line.")]
Clicks = Annotated[Path | None, typer.Option(help="A file of messages of the topic clicks.")]
Purchases = Annotated[Path | None, typer.Option(help="A file of messages of the topic purchases.")]
Impressions = Annotated[Path | None, typer.Option(help="A file of messages of the topic impressions.")]
Dataset = Annotated[
    tuple[str, Path] | None,
    typer.Option(help="Instead of files: online-retail and the path of its CSV file, or generated-shop and a seed."),
]
HoldOut = Annotated[
    str | None,
    typer.Option(help="Leave out what evaluate asks for with this protocol: leave-one-out, next-basket, or a time."),
]
QueryGroupLimit = Annotated[
    int,
    typer.Option("--query-groups", min=20, help="The largest number of query groups to learn from, drawn by the seed."),
]
MaxMinutes = Annotated[float, typer.Option(min=0.01, help="The time for the whole run, in minutes.")]
Seed = Annotated[int, typer.Option(help="The seed of every random draw.")]
