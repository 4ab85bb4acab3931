"""`afterclick import`, `afterclick embed-images` and `afterclick export` as Typer reads them.

Knows which functions do the work and imports them when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.commands.options import (
    Clicks,
    Config,
    Dataset,
    DecimalComma,
    Events,
    Fields,
    Items,
    Json,
    Purchases,
    Skip,
    TimeUnit,
    Where,
    files_of,
)
from streams.settings import load
from streams.settings.profile import PROFILES


def embed_images(
    model: Annotated[str, typer.Option(help="A CLIP or SigLIP model: a folder, an installed package, or a hub name.")],
    out: Annotated[Path, typer.Option(help="A file for the items with their vectors, as JSON lines.")],
    items: Items = None,
    name: Annotated[str, typer.Option(help="The name of the vectors in `embeddings`.")] = "image",
    folder: Annotated[Path, typer.Option(help="The folder of the pictures that items name by a path.")] = Path(),
    timeout_s: Annotated[float, typer.Option(min=0.1, help="The longest time for one picture, in seconds.")] = 10.0,
    max_mb: Annotated[float, typer.Option(min=0.001, help="The largest picture, in MB.")] = 20.0,
    private_hosts: Annotated[
        bool, typer.Option("--private-hosts", help="Ask addresses of this machine and of private networks, too.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make vectors of the items' pictures.

    Reads the path or URL in `image` of each item, and writes the items with the vectors.
    """
    from streams.datasets.messages import InputError

    try:
        from encoders.images.encoder import ImageEncoder
        from streams.commands.embed_images.command import ImageEmbedder, check_name, run
    except ModuleNotFoundError as missing:
        raise InputError(
            f"{missing.name}: got no such package, expected it for pictures; pip install 'afterclick[images]'"
        ) from missing
    from streams.commands.embed_images.picture_files import PictureBounds
    from streams.datasets.file_messages import topic_files

    settings = load(config)
    check_name(name)
    files = topic_files({"items": items}, topics=settings.topics, zone=settings.zone)
    bounds = PictureBounds(folder, timeout_s, int(max_mb * 1e6), private_hosts)
    encoder = ImageEncoder(model, settings.encoder.device, settings.encoder.dtype)
    run(files, ImageEmbedder(encoder, name, bounds), out, as_json)


def import_files(
    profile: Annotated[str, typer.Argument(help=f"The system that wrote the files: {', '.join(PROFILES)}.")],
    files: Annotated[
        list[Path], typer.Argument(help="JSON lines, JSON arrays or CSV, also gzipped; sent one after the other.")
    ],
    skip: Skip = 0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send files that another system exported.

    Each record goes to every topic that it feeds, items first.
    """
    from streams.commands.send_report import send_and_report
    from streams.commands.sending import SendPlan
    from streams.datasets.file_messages import profile_files

    settings = load(config)
    send_and_report(
        profile_files(profile, files, settings.topics, settings.zone, settings.interest.weights),
        settings,
        SendPlan(skip=skip),
        as_json,
    )


def export(
    epsilon: Annotated[float, typer.Option(help="The protection of an event: above 0, at most 20; less is more.")],
    out: Annotated[Path, typer.Option(help="A new folder for the files.")],
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    events: Events = None,
    fields: Fields = None,
    time_unit: TimeUnit = None,
    where: Where = None,
    decimal_comma: DecimalComma = False,
    dataset: Dataset = None,
    events_per_user: Annotated[
        int | None,
        typer.Option(min=1, help="Export the newest events of each user alone: what a user did has so often epsilon."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write events with local differential privacy.

    Each event is about its own item with a probability that --epsilon sets, and otherwise about any other one. `train`
    and `evaluate` read the files as any others.
    """
    from streams.commands.recorded_events import event_log
    from streams.datasets.messages import InputError

    try:
        from streams.commands.export import check, run
    except ModuleNotFoundError as missing:
        raise InputError(
            f"{missing.name}: got no such package, expected it for epsilon; pip install 'afterclick[privacy]'"
        ) from missing
    check(out)
    settings = load(config)
    shape = fields, time_unit, where, decimal_comma
    run(
        event_log(files_of(items, clicks, purchases, events), shape, dataset, settings),
        epsilon,
        events_per_user,
        out,
        as_json,
    )
