"""The options that several commands share: one name, one type and one help text each. Knows no command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

User = Annotated[str, typer.Argument(help="The user's id; an id that is spelt like an option goes after --.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file of settings; environment variables override it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Items = Annotated[Path | None, typer.Option(help="Messages of the topic items, one a line.")]
Clicks = Annotated[Path | None, typer.Option(help="Messages of the topic clicks, one a line.")]
Purchases = Annotated[Path | None, typer.Option(help="Messages of the topic purchases, one a line.")]
Impressions = Annotated[Path | None, typer.Option(help="Messages of the topic impressions, one a line.")]
Dataset = Annotated[
    tuple[str, Path] | None,
    typer.Option(help="Instead of files: online-retail and the path of its CSV, or generated-shop and a seed."),
]
HoldOut = Annotated[
    str | None,
    typer.Option(help="Do not learn the targets of this evaluate protocol: leave-one-out, next-basket, or a time."),
]
QueryGroupLimit = Annotated[
    int, typer.Option("--query-groups", min=20, help="Most query groups to learn from, drawn by the seed.")
]
MaxMinutes = Annotated[float, typer.Option(min=0.01, help="Time limit of the whole run.")]
Seed = Annotated[int, typer.Option(help="Of all random draws.")]
