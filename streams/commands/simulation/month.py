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
from streams.settings.recommending import Device, Dtype
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
    figures = lives(simulation, settings, Models(), quiet=to_json)
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


def lives(
    simulation: Simulation, settings: Mapping[str, Settings], models: Models, quiet: bool = True
) -> dict[str, list[DayFigures]]:
    """Return the days under each ranker. Progress is shown on a terminal.

    Parameters
    ----------
    simulation : Simulation
    settings : mapping of str to Settings
        By name of a ranker.
    models : Models
        Where they come from.
    quiet : bool
        Show no progress.
    """
    rates = Rates() if simulation.boredom else Rates().without_boredom()
    figures = dict[str, list[DayFigures]]()
    with progress_bar(quiet) as stage, threadpool_limits(1, "blas"):  # one thread, as in a worker
        stage("Loading the models")
        goods = Assortment(simulation.seed, simulation.days)
        vectors = dict[TextEncoder, ItemVectors]()
        for ranker, one in settings.items():
            encoder = models.encoder(one)
            if encoder not in vectors:
                vectors[encoder] = ItemVectors(encoder, goods.items)
            with closing(RerankServers(one.ranker, must_answer=True)) as servers:
                scorer = models.scorer(one, servers)
                people = [Person(simulation.seed, number, goods, rates) for number in range(simulation.users)]
                life = Life(one, vectors[encoder], scorer, goods, people)
                figures[ranker] = life.run(simulation.days, stage(f"{ranker}: {simulation.days} days"))
    return figures


class Models:
    """Loads each model once, whichever lives have it."""

    def __init__(self) -> None:
        self._encoders: dict[tuple[str, Device, Dtype], TextEncoder] = {}
        self._scorers: dict[tuple[str, Device, Dtype], Scorer] = {}

    def encoder(self, settings: Settings) -> TextEncoder:
        """Return the encoder of the settings."""
        key = (settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
        if key not in self._encoders:
            self._encoders[key] = TextEncoder(*key)
        return self._encoders[key]

    def scorer(self, settings: Settings, servers: RerankServers | None = None) -> Scorer | None:
        """Return the model of the settings, with a head that learns and explores by itself; None for no model."""
        ranker = settings.ranker
        if ranker.model == "none":
            return None
        key = (ranker.model, ranker.device, ranker.dtype)
        if key not in self._scorers:
            self._scorers[key] = load_scorer(*key, connect=servers)
        scorer = copy.copy(self._scorers[key])  # the base, which does not change, is that of all copies
        if isinstance(scorer, FusedScorer):
            scorer.start(ranker.learn, ranker.explore > 0)
        return scorer
