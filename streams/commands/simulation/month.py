"""Let the same generated people live a month under each ranker, and print, plot or give as JSON what became of them."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from encoders.text.encoder import TextEncoder
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.rules.reading import read
from ranker.score import Scorer
from streams.commands.simulation import plot
from streams.commands.simulation.rankers import settings_of
from streams.commands.simulation.report import as_json, tables
from streams.datasets.messages import InputError
from streams.datasets.month.assortment import Assortment
from streams.datasets.month.person import Person
from streams.datasets.month.rates import Rates
from streams.models.remote.servers import RerankServers
from streams.offline.item_vectors import ItemVectors
from streams.offline.life import DayFigures, Life
from streams.settings import Settings
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import show

ENDINGS = (".png", ".svg")


@dataclass(frozen=True)
class Simulation:
    """Settings of `afterclick simulate`.

    Attributes
    ----------
    days, users : int
    seed : int
        Of the items, the people and all chance in their lives.
    rankers : sequence of str
        See `rankers.settings_of`.
    boredom : bool
        Whether repetition satiates people and tires them.
    plot : Path or None
        Where the plot goes.
    """

    days: int
    users: int
    seed: int
    rankers: Sequence[str]
    boredom: bool = True
    plot: Path | None = None


def run(simulation: Simulation, to_json: bool) -> None:
    """Simulate and print.

    Raises
    ------
    InputError, streams.settings.SettingsError, ranker.rules.reading.RulesError
        What is asked for cannot be done.
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    settings = settings_of(simulation.rankers)
    _check(simulation, settings)
    figures = lives(simulation, settings, quiet=to_json)
    facts = {
        "days": simulation.days,
        "users": simulation.users,
        "seed": simulation.seed,
        "boredom": simulation.boredom,
    }
    if simulation.plot is not None:
        plot.draw(simulation.users, figures, simulation.plot)
    if to_json:
        sys.stdout.write(json.dumps(as_json(facts, figures)) + "\n")
    else:
        show(*tables(facts, figures))


def _check(simulation: Simulation, settings: Mapping[str, Settings]) -> None:
    """Refuse what can be refused before minutes are spent."""
    for one in settings.values():
        if one.rules is not None:
            read(one.rules)
    if simulation.plot is None:
        return
    if simulation.plot.suffix not in ENDINGS:
        raise InputError(f"--plot: got {simulation.plot}, expected a file that ends in .png or .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot: got no matplotlib, expected it; pip install 'afterclick[bench]'")


def lives(simulation: Simulation, settings: Mapping[str, Settings], quiet: bool = True) -> dict[str, list[DayFigures]]:
    """Return the days under each ranker. Progress is shown on a terminal.

    Parameters
    ----------
    simulation : Simulation
    settings : mapping of str to Settings
        By name of a ranker.
    quiet : bool
        Show no progress.
    """
    rates = Rates() if simulation.boredom else Rates().without_boredom()
    figures = dict[str, list[DayFigures]]()
    with progress_bar(quiet) as stage, threadpool_limits(1, "blas"):  # one thread, as in a worker
        stage("Loading the models")
        goods = Assortment(simulation.seed, simulation.days)
        models = Models(goods)
        for ranker, one in settings.items():
            progress = stage(f"{ranker}: {simulation.days} days of {simulation.users:,} users")
            people = [Person(simulation.seed, number, goods, rates) for number in range(simulation.users)]
            with closing(RerankServers(one.ranker, must_answer=True)) as servers:
                vectors, scorer = models.vectors(one), models.scorer(one, servers)
                figures[ranker] = Life(one, vectors, scorer, goods, people).run(simulation.days, progress)
    return figures


class Models:
    """Loads each model once, whichever rankers have it.

    Parameters
    ----------
    goods : Assortment
        The items that the encoders encode.
    """

    def __init__(self, goods: Assortment) -> None:
        self._goods = goods
        self._vectors: dict[tuple[str, ...], ItemVectors] = {}
        self._scorers: dict[tuple[str, ...], Scorer] = {}

    def vectors(self, settings: Settings) -> ItemVectors:
        """Return the items' vectors."""
        chosen = settings.encoder
        key = (chosen.model, chosen.device, chosen.dtype)
        if key not in self._vectors:
            self._vectors[key] = ItemVectors(TextEncoder(*key), self._goods.items)
        return self._vectors[key]

    def scorer(self, settings: Settings, servers: RerankServers) -> Scorer | None:
        """Return the model of the settings, with a head that learns of its own; None for no model."""
        chosen = settings.ranker
        if chosen.model == "none":
            return None
        key = (chosen.model, chosen.device, chosen.dtype)
        if key not in self._scorers:
            self._scorers[key] = load_scorer(*key, connect=servers)
        scorer = copy.copy(self._scorers[key])  # all copies share the base, which does not change
        if isinstance(scorer, FusedScorer):
            scorer.start(chosen.learn, chosen.explore > 0)
        return scorer
