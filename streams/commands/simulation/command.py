"""`simulate` as Typer reads it. Imports what does the work when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.commands import completion
from streams.commands.completion import one_of
from streams.commands.interruption import interruptible
from streams.commands.options import Json, Seed

SHORTER = "a simulation keeps nothing; --users and --days make it shorter"

Rankers = Annotated[
    list[str] | None,
    typer.Option(
        "--ranker",
        help="greedy (the settings as they are), careful, a TOML file of settings, or the folder of a model; repeat it "
        "for more. By default greedy and careful.",
        autocompletion=one_of(*completion.RANKERS),
    ),
]


def simulate(
    days: Annotated[int, typer.Option(min=1, max=365, help="The number of days.")] = 30,
    users: Annotated[int, typer.Option(min=1, help="The number of generated users.")] = 100,
    seed: Seed = 1,
    ranker: Rankers = None,
    no_boredom: Annotated[
        bool, typer.Option("--no-boredom", help="Let nothing satiate users, and no repetition tire them.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="A PNG or SVG file to draw. Needs afterclick[bench].")] = None,
    as_json: Json = False,
) -> None:
    """Let generated users live with the lists for a month.

    The same users live under each ranker: who stays, clicks and buys, and how satisfied and how varied each day is.
    """
    from streams.commands.simulation.month import Simulation, run

    with interruptible(lambda: SHORTER):
        run(Simulation(days, users, seed, ranker or completion.RANKERS, not no_boredom, plot), to_json=as_json)
