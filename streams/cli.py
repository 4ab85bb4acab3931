"""The command line `afterclick`. Knows which function does what, and imports it when its command runs.

An error that a person can correct ends the command with one line on stderr and status 2.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import closing
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from encoders.errors import AfterclickError
from streams.commands.model_commands import compress, evaluate, train
from streams.commands.options import ANY_ID, Config, Json, User
from streams.settings import SettingsError, load

LOGS_THAT_ERRORS_REPEAT = ("aiokafka", "streams.kafka.token_provider")
"""A command that sets up no log ends with one line; what these loggers say is in that line."""

app = typer.Typer(
    name="afterclick",
    help="Every click re-ranks the list: a streaming recommender on Kafka, ranked by a language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Role(str, Enum):
    """The tiers that a worker runs."""

    state = "state"
    rank = "rank"
    all = "all"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"afterclick {version('afterclick')}")
        raise typer.Exit


@app.callback()
def afterclick(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Every click re-ranks the list: a streaming recommender on Kafka, ranked by a language model."""


@app.command()
def worker(
    role: Annotated[
        Role, typer.Option(help="state: from events to requests. rank: from requests to lists. all: both.")
    ] = Role.all,
    config: Config = None,
) -> None:
    """Read events from Kafka and write lists to Kafka and Redis, until SIGTERM."""
    from streams.rank.serving import Serving
    from streams.worker.log import set_up

    settings = load(config)
    set_up(settings)
    encoder = settings.encoder if role is not Role.rank else None
    ranker = settings.ranker if role is not Role.state else None
    with closing(Serving(encoder, ranker)) as serving:  # the models load while the rest is imported and Kafka is asked
        from streams.worker.run import run

        raise typer.Exit(run(settings, role.value, serving))


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=50, help="The number of events to send.")] = 1_500,
    seed: Annotated[int, typer.Option(help="The seed of the generated shop.")] = 7,
    as_json: Json = False,
) -> None:
    """Run the whole product on a generated shop. Needs no Kafka, no Redis and no internet."""
    from streams.commands.demo.command import run

    run(events=events, seed=seed, as_json=as_json)


@app.command()
def schema(
    topic: Annotated[str | None, typer.Argument(help="The name of a topic. By default all topics.")] = None,
) -> None:
    """Print the JSON Schema of a topic's messages."""
    import msgspec

    from streams.contracts import TOPICS

    if topic is not None and topic not in TOPICS:
        raise SettingsError(f"schema: got {topic!r}, expected one of {', '.join(TOPICS)}")
    schemas = {name: msgspec.json.schema(struct) for name, struct in TOPICS.items()}
    typer.echo(json.dumps(schemas[topic] if topic else schemas, indent=2))


@app.command()
def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Print a commented .env file.")] = False,
    as_json: Json = False,
) -> None:
    """Print every setting with its environment variable, unit, default and effect."""
    from rich.console import Console

    from streams.commands.settings import Format, write

    chosen = [form for form in Format if {"markdown": markdown, "env": env, "json": as_json}.get(form.value)]
    if len(chosen) > 1:
        got = " and ".join(f"--{form.value}" for form in chosen)
        raise SettingsError(f"settings: got {got}, expected one format at most; leave the others out")
    write(chosen[0] if chosen else Format.table, Console())


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
    """Print a user's list from Redis."""
    from rich.console import Console

    from streams.commands.recommend import read, render
    from streams.contracts import COLD_START_USER

    stored, own = asyncio.run(read(load(config), user))
    if not own:
        typer.echo(
            f"no list for {user!r}: no event of this user was accepted, the list expired, or the user was forgotten; "
            f"this is the cold-start list ({COLD_START_USER!r})",
            err=True,
        )
    if stored is None:
        typer.echo("there is no cold-start list either: no worker runs, or there are no items", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(stored.decode())
    else:
        Console().print(render(json.loads(stored)))


@app.command(context_settings=ANY_ID)
def forget(user: User, config: Config = None) -> None:
    """Erase a user: state, list and pending requests."""
    from streams.commands.forget import send

    asyncio.run(send(load(config), user))
    typer.echo(f"asked to forget {user!r}; the workers erase state, list and pending requests when they read it")


@app.command()
def bench(
    name: Annotated[
        str | None, typer.Argument(help="pipeline, scorer, state, start, candidates or growth. By default all.")
    ] = None,
    items: Annotated[int, typer.Option(min=20_000, help="The largest catalogue of candidates and growth.")] = 100_000,
    users: Annotated[int, typer.Option(min=1_000, help="The largest number of users of growth.")] = 100_000,
    keep: Annotated[
        Path | None, typer.Option(help="A folder that keeps the built search graph for the next run, and the plot.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure speed against the limit of the hardware or a peer, in the same run."""
    try:
        from streams.bench.command import Sizes, run
    except ModuleNotFoundError as error:
        if error.name != "confluent_kafka":
            raise
        raise SettingsError(
            "confluent-kafka: got no such package, expected it for the benchmark; pip install 'afterclick[demo]'"
        ) from error
    run(name, as_json, Sizes(items, users, keep))


app.command()(evaluate)
app.command()(train)
app.command()(compress)


def mount() -> None:
    """Add the groups of commands that are declared beside their work. Importing them takes a moment."""
    from streams.commands.dead_letters import commands as dead_letters
    from streams.commands.replay import commands as replay

    app.add_typer(dead_letters, name="dead-letters", help="List rejected messages, and send corrected ones again.")
    app.add_typer(replay, name="replay", help="Send recorded events to Kafka, at their own pace or at full speed.")


def main() -> None:
    """Run the command line. An error that a person can correct becomes one line and status 2."""
    mount()
    for name in LOGS_THAT_ERRORS_REPEAT:
        logging.getLogger(name).addHandler(logging.NullHandler())
    try:
        app()
    except AfterclickError as error:
        sys.stderr.write(f"afterclick: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
