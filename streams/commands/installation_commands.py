"""The commands for those who size and set up an installation, as Typer reads them: `settings`, `topics`, `plan`, …

Knows which function does the work and imports it when the command runs.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from streams.commands import completion
from streams.commands.completion import one_of
from streams.commands.interruption import interruptible
from streams.commands.options import Config, Json
from streams.settings import SettingsError, load


def topics(
    show: Annotated[bool, typer.Option("--print", help="Print every topic with partitions and settings.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print what is different in the cluster; status 1 if anything is.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Create missing topics and alter settings; status 1 if a difference stays.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print the topics, or compare or create them.

    For workers that may not create topics.
    """
    from rich.console import Console

    from streams.commands.topics import Action, run

    chosen = [action for action in Action if {"print": show, "diff": diff, "apply": apply}[action.value]]
    if len(chosen) != 1:
        got = " and ".join(f"--{action.value}" for action in chosen) or "none"
        raise SettingsError(f"topics: got {got}, expected one of --print, --diff and --apply")
    raise typer.Exit(0 if asyncio.run(run(load(config), chosen[0], as_json, Console())) else 1)


def schema(
    name: Annotated[
        str | None,
        typer.Argument(help="A topic, or a body of HTTP. By default all of them.", autocompletion=completion.schemas),
    ] = None,
) -> None:
    """Print the JSON Schema of a topic, or of a body of HTTP."""
    from streams.commands.schema import STRUCTS, schema_of

    typer.echo(json.dumps(schema_of(name) if name else {each: schema_of(each) for each in STRUCTS}, indent=2))


def settings(
    only_set: Annotated[bool, typer.Option("--set", help="Only what somebody or the profile set.")] = False,
    toml: Annotated[bool, typer.Option("--toml", help="Print a commented TOML file of the defaults.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Print a commented .env file of the defaults.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table of the defaults.")] = False,
    profile: Annotated[
        str | None, typer.Option(help="Print the settings as they are with this profile, such as news.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print every setting: what it is, who set it, what it does.

    With its environment variable, unit and default. Secrets are masked. A wrong setting is printed too, and ends the
    command with status 2.
    """
    from rich.console import Console

    from streams.commands.settings import Format, write

    given = {"markdown": markdown, "env": env, "toml": toml, "json": as_json}
    chosen = [form for form in Format if given.get(form.value)]
    if len(chosen) > 1:
        got = " and ".join(f"--{form.value}" for form in chosen)
        raise SettingsError(f"settings: got {got}, expected one format at most; leave the others out")
    form = chosen[0] if chosen else Format.text
    if form in (Format.markdown, Format.env, Format.toml) and (only_set or config or profile):
        other = "--set" if only_set else "--config" if config else "--profile"
        raise SettingsError(f"settings: got --{form.value} and {other}, expected one of them: it prints the defaults")
    write(form, Console(), config, only_set, profile)


def map_topic(
    topic: Annotated[str, typer.Argument(help="The full name of the topic in Kafka.")],
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the newest records to read.")] = 200,
    profile: Annotated[
        str | None, typer.Option(help="A ready-made mapping to try, such as segment, instead of the settings'.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what the newest records of a topic become.

    Of each: which messages it gives, or why not. Status 1 if some are rejected or none fits. For a topic that the
    settings do not name, list the fields of its records and propose a mapping. Changes nothing.
    """
    from rich.console import Console

    from streams.commands.mapping import report as reports
    from streams.commands.mapping.examine import examine

    report = asyncio.run(examine(load(config), topic, sample, profile))
    if as_json:
        typer.echo(reports.as_json(report))
    else:
        reports.write(report, Console(highlight=False))
    raise typer.Exit(1 if report.is_configured and report.records and not report.all_well else 0)


def plan(
    users: Annotated[int, typer.Option(min=1, help="Users with a state and a list.")],
    events_per_second: Annotated[float, typer.Option(min=0.001, help="Clicks and purchases at the busiest time.")],
    items: Annotated[int, typer.Option(min=1, help="Items in the catalogue.")],
    candidates: Annotated[int, typer.Option(min=1, max=5_000, help="Candidates that the model scores a list.")] = 100,
    model: Annotated[
        str,
        typer.Option(
            help="default, none, a published reranker, or a folder or package with a config.json.",
            autocompletion=one_of(*completion.MODELS),
        ),
    ] = "default",
    card: Annotated[
        str,
        typer.Option(
            help="The GPU for any other model than default: L4, A10G, L40S, A100, H100.",
            autocompletion=one_of(*completion.CARDS),
        ),
    ] = "L4",
    worker_gb: Annotated[float, typer.Option(min=2.0, help="Memory of a worker, in GB.")] = 8.0,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the costs on this machine first.")] = False,
    report: Annotated[
        Path | None,
        typer.Option("--from", help="Read costs from the JSON of afterclick bench growth, state or scorer."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what a load needs: workers, memory, GPUs, Kafka, Redis.

    And partitions, disks, and the limit that comes next.
    """
    from rich.console import Console

    from streams.commands import plan as plans
    from streams.sizing import costs

    if measure and report:
        raise SettingsError("plan: got --measure and --from, expected one source of costs at most; leave one out")
    settings, (measured, not_measured) = load(config), costs.read(report) if report else (costs.DEFAULTS, [])
    asked = plans.load_of(settings, users, events_per_second, items, candidates, model, card, worker_gb)
    if measure:
        from streams.bench.costs import measure as measure_costs
        from streams.terminal.progress_bar import progress_bar

        with progress_bar() as stage:
            measured, not_measured = measure_costs(settings, stage), ["list_core_ms", "restore_per_s"]
    plans.write(asked, measured, not_measured, Console(), as_json)


def bench(
    name: Annotated[
        str | None,
        typer.Argument(
            help=f"{', '.join(completion.BENCHES)}. By default all.",
            autocompletion=one_of(*completion.BENCHES),
        ),
    ] = None,
    items: Annotated[int, typer.Option(min=20_000, help="The largest catalogue of candidates and growth.")] = 100_000,
    users: Annotated[int, typer.Option(min=1_000, help="The largest number of users of growth.")] = 100_000,
    events: Annotated[int, typer.Option(min=10_000, help="The largest log of growth, in events.")] = 100_000,
    keep: Annotated[
        Path | None, typer.Option(help="A folder that keeps the built search graph for the next run, and the plot.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure speed against the limit of this hardware, or a peer.

    Both are measured in turns, in the same run.
    """
    with interruptible(lambda: "the servers were stopped; figures that were not printed are lost"):
        try:
            from streams.bench.command import Sizes, run
        except ModuleNotFoundError as error:
            if error.name != "confluent_kafka":
                raise
            raise SettingsError(
                "confluent-kafka: got no such package, expected it for the benchmark; pip install 'afterclick[demo]'"
            ) from error
        run(name, as_json, Sizes(items, users, events, keep))
