"""`afterclick replay`: send events to Kafka: files, UCI Online Retail, or a generated shop.

Knows nothing about the effect of the events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.commands.of_files import OfFiles
from streams.commands.options import (
    Clicks,
    Config,
    DecimalComma,
    Events,
    Fields,
    Forget,
    Impressions,
    Items,
    Json,
    Knowledge,
    Merges,
    Preferences,
    Purchases,
    Searches,
    Seed,
    Skip,
    TimeUnit,
    Where,
)
from streams.commands.send_report import send_and_report
from streams.commands.sending import SendPlan
from streams.datasets.field_options import FieldOptions
from streams.datasets.file_messages import topic_files
from streams.datasets.live_shop import LiveShop
from streams.datasets.messages import InputError
from streams.datasets.online_retail import online_retail
from streams.datasets.shop import SyntheticShop
from streams.settings import load
from streams.terminal.progress_bar import progress_bar

commands = typer.Typer(help="Send recorded events to Kafka.", no_args_is_help=True)
Speed = Annotated[str, typer.Option(help="X times as fast as the events occurred, or 'max'.")]
Limit = Annotated[int | None, typer.Option(min=0, help="Most events to send; items are not counted.")]


@commands.command("online-retail")
def replay_online_retail(
    path: Annotated[Path, typer.Argument(help="UCI Online Retail as CSV, plain or gzipped.")],
    speed: Speed = "max",
    limit: Limit = None,
    skip: Skip = 0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send UCI Online Retail as items and purchases."""
    settings, plan = load(config), SendPlan(_factor(speed), limit, skip)
    with progress_bar() as stage:
        replay = online_retail(path, stage(f"Reading {path.name}"))
    send_and_report(replay, settings, plan, as_json)


@commands.command("files", cls=OfFiles)
def replay_files(
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    events: Events = None,
    searches: Searches = None,
    preferences: Preferences = None,
    impressions: Impressions = None,
    knowledge: Knowledge = None,
    forget: Forget = None,
    merges: Merges = None,
    fields: Fields = None,
    time_unit: TimeUnit = None,
    where: Where = None,
    decimal_comma: DecimalComma = False,
    speed: Speed = "max",
    limit: Limit = None,
    skip: Skip = 0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send files: items first, then all events in the order of time.

    Each file is JSON lines, a JSON array, or CSV with a header, plain or gzipped. Its first lines are checked before
    anything is sent. A line that a worker would reject is not sent, but counted.
    """
    settings, plan = load(config), SendPlan(_factor(speed), limit, skip)
    paths = {
        "items": items,
        "clicks": clicks,
        "purchases": purchases,
        "events": events,
        "searches": searches,
        "preferences": preferences,
        "impressions": impressions,
        "knowledge": knowledge,
        "forget": forget,
        "merges": merges,
    }
    options = FieldOptions.given(fields, time_unit, where, decimal_comma)
    files = topic_files(paths, options, settings.topics, settings.zone, settings.interest.weights)
    send_and_report(files, settings, plan, as_json)


@commands.command("shop")
def replay_shop(
    events: Annotated[
        int, typer.Option(min=1, help="The number of events to send; Ctrl-C ends it sooner.")
    ] = 1_000_000,
    per_s: Annotated[float, typer.Option("--per-second", min=0.01, help="Events a second.")] = 5.0,
    items: Annotated[int, typer.Option(min=600, max=21_600, help="The size of the catalogue.")] = 1_000,
    shoppers: Annotated[int, typer.Option(min=1, help="The number of users.")] = 50,
    seed: Seed = 7,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send a generated shop's items, and then clicks and purchases that happen now."""
    settings, replay = load(config), LiveShop(SyntheticShop(seed, items, shoppers), events, per_s)
    send_and_report(replay, settings, SendPlan(1.0), as_json, repeatable=False)


def _factor(speed: str) -> float | None:
    if speed == "max":
        return None
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise InputError(f"--speed: got {speed}, expected a number above 0, or 'max'")
    return factor
