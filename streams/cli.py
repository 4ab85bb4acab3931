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

from encoders.errors import AfterclickError

try:
    import typer

    from streams import log
    from streams.commands.contents import Contents
    from streams.commands.file_commands import embed_images, export, import_files
    from streams.commands.installation_commands import bench, map_topic, plan, schema, settings, topics
    from streams.commands.interruption import INTERRUPTED, Interrupted, interruptible
    from streams.commands.model_commands import compress, evaluate, train
    from streams.commands.of_files import OfFiles
    from streams.commands.options import ANY_ID, Config, Json, Web
    from streams.commands.simulation.command import simulate
    from streams.commands.user_commands import forget, preferences, recommend
    from streams.settings import PREFIX, Settings, SettingsError, load
    from streams.settings.settings import environment
except ModuleNotFoundError as missing:  # installed as a client
    sys.exit(
        f"afterclick: {missing.name}: got no such package, expected it for the command line; "
        "pip install 'afterclick[worker]'"
    )

LOGS_THAT_ERRORS_REPEAT = ("aiokafka", "streams.kafka.token_provider")
"""A command that sets up no log ends with one line; what these loggers say is in that line."""

app = typer.Typer(
    name="afterclick",
    help="Every click re-ranks the list: a streaming recommender on Kafka, ranked by a language model.",
    cls=Contents,
    no_args_is_help=True,
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


def _begin(config: Path | None, what: str) -> Settings:
    """Load the settings and log as they say: a wrong one, too, as JSON if the environment asks for that."""
    from streams.worker.log import set_up

    if environment().get(f"{PREFIX}LOG_FORMAT", "").strip().lower() == "json":
        log.configure(log.LogChoice("info", "json"))
    settings = load(config)
    set_up(settings, what)
    return settings


@app.command()
def worker(
    role: Annotated[
        Role, typer.Option(help="state: from events to requests. rank: from requests to lists. all: both.")
    ] = Role.all,
    http: Annotated[
        bool, typer.Option("--http", help="Serve HTTP too, in a process of its own, as `afterclick serve` does.")
    ] = False,
    web: Web = False,
    config: Config = None,
) -> None:
    """Read events from Kafka, write lists to Kafka and Redis.

    Runs until SIGTERM or Ctrl-C, and then finishes the work in flight.
    """
    from streams.models.child import ChildProcess

    settings = _begin(config, f"worker, role {role.value}")
    encoder = settings.encoder if role is not Role.rank else None
    ranker = settings.ranker if role is not Role.state else None
    process = ChildProcess(with_models=bool(encoder or (ranker and ranker.is_loaded)))  # before all other imports

    from encoders.text import vector_store
    from streams.rank.serving import Serving
    from streams.worker import http_process

    serve_command = http_process.serve_command(config, web) if http or web or settings.http.port else None
    if serve_command:
        http_process.check(settings)
    vectors = settings.tables.data_dir / vector_store.FILE
    with closing(Serving(encoder, ranker, process, vectors)) as serving:  # the models load while Kafka is asked
        from streams.worker.run import run

        raise typer.Exit(run(settings, role.value, serving, serve_command))


@app.command()
def serve(
    config: Config = None,
    web: Web = False,
    end_with_stdin: Annotated[bool, typer.Option("--end-with-stdin", hidden=True)] = False,
) -> None:
    """Serve lists, and take events, by HTTP.

    Runs until SIGTERM or Ctrl-C. Needs no worker on this machine.
    """
    from streams.worker import http_process

    settings = _begin(config, "HTTP server")
    http_process.check(settings)
    from streams.serve.server import run

    run(settings, web=web, end_with_stdin=end_with_stdin)


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=50, help="The number of events to send.")] = 1_500,
    seed: Annotated[int, typer.Option(help="The seed of the generated shop.")] = 7,
    web: Annotated[bool, typer.Option("--web", help="Show it on a live page, in a browser, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Run the whole product on a generated shop.

    Needs no Kafka, no Redis and no internet.
    """
    if web and as_json:
        raise SettingsError("demo: got --web and --json, expected one of them; leave the other out")
    with interruptible(lambda: "the demo's worker and servers were stopped, and its data was deleted"):
        if web:
            from streams.commands.demo import web as live

            live.run(events=events, seed=seed)
            return
        from streams.commands.demo.command import run

        run(events=events, seed=seed, as_json=as_json)


@app.command()
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Check Kafka, the topics, Redis and the models.

    Says what to do about each failure. The status is 1 if a check fails.
    """
    from streams.commands.doctor.doctor import examine, render
    from streams.terminal.report import show

    checks = asyncio.run(examine(load(config)))
    if as_json:
        typer.echo(json.dumps([{"name": c.name, "ok": c.ok, "found": c.found, "advice": c.advice} for c in checks]))
    else:
        show(render(checks))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


for command in (schema, settings, topics, plan, bench, simulate):
    app.command()(command)
for of_files in (evaluate, train, compress, embed_images, export):
    app.command(cls=OfFiles)(of_files)
app.command("map")(map_topic)
app.command("import")(import_files)
for of_user in (recommend, preferences, forget):
    app.command(context_settings=ANY_ID)(of_user)


def mount() -> None:
    """Add the groups of commands that are declared beside their work. Importing them takes a moment."""
    from streams.commands.dead_letter_commands import commands as dead_letters
    from streams.commands.replay import commands as replay
    from streams.commands.rules_commands import commands as rules

    app.add_typer(dead_letters, name="dead-letters", help="List rejected messages, and send corrected ones again.")
    app.add_typer(rules, name="rules", help="Check a file of rules, and say what rules did to a list.")
    app.add_typer(replay, name="replay", help="Send recorded events to Kafka, at their own pace or not.")


def main() -> None:
    """Run the command line. An error that a person can correct becomes one line and status 2; Ctrl-C becomes 130."""
    for name in LOGS_THAT_ERRORS_REPEAT:
        logging.getLogger(name).addHandler(logging.NullHandler())
    try:
        mount()
        app()
    except KeyboardInterrupt:
        sys.stderr.write("afterclick: interrupted\n")
        sys.exit(INTERRUPTED)
    except AfterclickError as error:
        if log.chosen and log.chosen.form == "json":
            logging.getLogger("streams.cli").error("%s", error)
        else:
            sys.stderr.write(f"afterclick: {error}\n")
        sys.exit(INTERRUPTED if isinstance(error, Interrupted) else 2)


if __name__ == "__main__":
    main()
