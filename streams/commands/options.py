"""The arguments and options that several commands share, as Typer reads them. Knows no command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streams.commands.completion import DATASETS, one_of

ANY_ID: dict[str, Any] = {"ignore_unknown_options": True}
"""For commands that take a user id: an argument that begins with a dash and is no option is the id."""

FILES = "FILE…"

User = Annotated[str, typer.Argument(help="The id of the user. Write an id that is spelt like an option after --.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of settings. Environment variables override it.")
]
Web = Annotated[bool, typer.Option("--web", help="Serve the live page too: a shop, and each shopper's list.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

Items = Annotated[
    list[Path] | None,
    typer.Option(metavar=FILES, help="Files of items: JSON lines, a JSON array, or CSV with a header, also gzipped."),
]
Clicks = Annotated[list[Path] | None, typer.Option(metavar=FILES, help="Such files of clicks.")]
Purchases = Annotated[list[Path] | None, typer.Option(metavar=FILES, help="Such files of purchases.")]
Events = Annotated[
    list[Path] | None, typer.Option(metavar=FILES, help="Such files of events of other types: likes, ratings, returns.")
]
Preferences = Annotated[list[Path] | None, typer.Option(metavar=FILES, help="Such files of what users wish.")]
Searches = Annotated[list[Path] | None, typer.Option(metavar=FILES, help="Such files of searches.")]
Impressions = Annotated[list[Path] | None, typer.Option(metavar=FILES, help="Such files of lists that were shown.")]
Knowledge = Annotated[
    list[Path] | None, typer.Option(metavar=FILES, help="Such files of triples: head, relation and tail.")
]
Forget = Annotated[list[Path] | None, typer.Option(metavar=FILES, help="Such files of users to erase.")]
Merges = Annotated[list[Path] | None, typer.Option(metavar=FILES, help="Such files of merges of visitors into users.")]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=COLUMN,…",
        help="Where the fields are in files of another shape: user_id=customer,item_id=sku. Of one file alone: "
        "items.price=list_price.",
    ),
]
TimeUnit = Annotated[
    str | None,
    typer.Option(help="Their unit of time: s, ms, us, ns or iso. By default milliseconds or RFC 3339."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE,…", help="Read only their records that have these values."),
]
DecimalComma = Annotated[
    bool, typer.Option("--decimal-comma", help="Their numbers have a decimal comma: 59,90 or 1.234,50.")
]
Skip = Annotated[
    int, typer.Option(min=0, help="Leave out so many messages at the beginning, as a run that was stopped says.")
]
Dataset = Annotated[
    tuple[str, Path] | None,
    typer.Option(
        help="Instead of files: online-retail and the path of its CSV file, or a seed after generated-shop, "
        "search-shop, wish-shop, knowledge-shop, seller-shop or audio-shop.",
        autocompletion=one_of(*DATASETS),
    ),
]
HoldOut = Annotated[
    str | None,
    typer.Option(
        help="Leave out what evaluate asks for with this protocol: leave-one-out, next-basket, or a time.",
        autocompletion=one_of("leave-one-out", "next-basket"),
    ),
]
QueryGroupLimit = Annotated[
    int,
    typer.Option("--query-groups", min=20, help="The largest number of query groups to learn from, drawn by the seed."),
]
MaxMinutes = Annotated[float, typer.Option(min=0.01, help="The time for the whole run, in minutes.")]
Seed = Annotated[int, typer.Option(help="The seed of every random draw.")]
OrderSeed = Annotated[
    int, typer.Option(help="The seed of every random draw, and of the order of events that have the same time.")
]
LineOrder = Annotated[
    bool, typer.Option("--line-order", help="Keep the order of the file for events that have the same time.")
]
By = Annotated[
    str | None,
    typer.Option(
        help="Judge groups too: provider, brand, category, group_id or attributes.NAME of items, or the users' events.",
        autocompletion=one_of("provider", "brand", "category", "group_id", "attributes.", "events"),
    ),
]
UnderRules = Annotated[
    Path | None, typer.Option("--rules", help="A file of rules: add a row with our lists under them to each of ours.")
]
GroupPlot = Annotated[
    Path | None, typer.Option("--plot", help="With --by: a PNG or SVG file to draw. Needs afterclick[bench].")
]


Paths = list[Path] | None


def files_of(
    items: Paths,
    clicks: Paths,
    purchases: Paths,
    events: Paths = None,
    searches: Paths = None,
    impressions: Paths = None,
    knowledge: Paths = None,
    preferences: Paths = None,
) -> dict[str, Paths]:
    """Return the files of recorded events by topic."""
    return {
        "items": items,
        "clicks": clicks,
        "purchases": purchases,
        "events": events,
        "searches": searches,
        "preferences": preferences,
        "impressions": impressions,
        "knowledge": knowledge,
    }
