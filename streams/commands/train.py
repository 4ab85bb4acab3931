"""`afterclick train`: read a log, let the pipeline build query groups from it, learn, and write a model's folder.

`OUT/checkpoint` keeps what was done until the model is written: a run that was stopped continues from there, if it has
the same settings and data. Of several processes the first one does all this; the others take their shares of tuning
and of scoring. Knows no loss.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from ranker.evaluation.measures import COLD_EVENTS
from ranker.progress import silent
from ranker.train.checkpoint import FOLDER, Checkpoint
from ranker.train.cold_items import ColdItems
from ranker.train.fit import FittedHead, ModelRefused, fit
from ranker.train.head_fit import HeadSettings
from ranker.train.learnt_sources import ChosenGroups
from ranker.train.losses import LOSSES
from ranker.train.merge_fit import FittedMerge
from streams.commands.training_end import TrainedModel, finish, refuse
from streams.commands.tuning import Tuning
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.models.remote.servers import RerankServers
from streams.offline.source_fits import fit_deadlines
from streams.offline.training_data import gather, parts, sources_facts
from streams.offline.training_run import TrainingRun, check_new_folder
from streams.settings import Settings
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import Field, Report, show

SHARES = {"neighbours": 0.32, "adapting": 0.42, "linking": 0.48, "reading": 0.65, "scoring": 0.92, "fitting": 1.0}
"""Of the minutes: the share that may have passed when each stage ends."""
SHARES_OF_FEATURES = SHARES | {"neighbours": 0.36, "adapting": 0.47, "linking": 0.54, "reading": 0.88, "scoring": 0.88}
"""Without a model: nothing is tuned, and nothing is scored."""


@dataclass(frozen=True)
class TrainDeadlines:
    """When the stages end, in seconds of `time.monotonic()`: learning neighbours, adapting texts, learning the
    knowledge graph, reading the log, tuning the language model and scoring with it, and fitting the head.
    """

    neighbours: float
    adapting: float
    linking: float
    reading: float
    scoring: float
    fitting: float


@dataclass(frozen=True, kw_only=True)
class Training(TrainingRun):
    """Settings of `afterclick train`.

    Attributes
    ----------
    base : str
        A model as `load_scorer` takes it; `none`: features alone.
    form : str or None
        What becomes of an embedding model: None: a bi-encoder, as it is; `packed` or `cross`: trained to be that.
    lora : bool
        Train new weights of low rank instead of all weights.
    loss : str
        One of `LOSSES`.
    cascade : int or None
        How many candidates of a list the model reads, the best by the features; 0: all of them. None: `DECODER_DEPTH`
        for a decoder, all for others.
    """

    base: str
    form: str | None = None
    lora: bool = False
    loss: str = "softmax"
    cascade: int | None = None


def run(event_log: EventLog, settings: Settings, training: Training, to_json: bool) -> None:
    """Train, write the folder and print the figures.

    Raises
    ------
    SystemExit
        Status 1: the model was refused.
    InputError
        The settings do not fit each other, or nothing can be learnt from the data.
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    started = time.monotonic()
    _check(training)
    with progress_bar(quiet=to_json) as stage:
        stage("Ordering the events")(0, 1)
        data = gather(event_log, settings, training)
    checkpoint = data.checkpoint(training, settings)
    shares = SHARES_OF_FEATURES if training.base == "none" else SHARES
    deadlines = TrainDeadlines(**training.deadlines(started, shares))
    try:
        servers = RerankServers(settings.ranker, training.base, must_answer=True)
        with closing(servers), progress_bar(quiet=to_json) as stage:
            until = fit_deadlines(
                settings, deadlines.neighbours, deadlines.adapting, deadlines.linking, deadlines.reading
            )
            learnt = data.learnt(settings, checkpoint, until, stage)
            chosen = data.query_groups(settings, checkpoint, deadlines.reading, stage, learnt)
            checkpoint.check_shared()
            tuning = Tuning(training, settings.ranker, checkpoint, stage, servers)
            tuned, scored = tuning.scored(chosen.groups, deadlines.scoring)
            head = HeadSettings(LOSSES[training.loss], training.seed, deadline=deadlines.fitting)
            fitted = fit(scored, head, stage("Fitting the head"), tuned.first)
    except ModelRefused as refused:
        refuse(refused, checkpoint)
    facts = {
        "base": training.base,
        "hold_out": training.hold_out,
        "loss": training.loss,
        "seed": training.seed,
        "query_groups": len(scored),
        "events": len(data.log),
        "data_sha256": scored.groups.digest(),
        "dtype": tuned.scorer.placement.dtype if tuned.scorer else "float32",
        "merge": {name: round(value, 6) for name, value in chosen.merge.recall.items()} | {"kept": chosen.merge.name},
        **sources_facts(learnt, chosen),
        "cascade": tuned.first.depth if tuned.first else None,
        "seconds": round(time.monotonic() - started, 1),
    }
    model = TrainedModel(
        chosen.groups, tuned.base, fitted, tuned.curve, facts, chosen.merge.merge, parts(checkpoint, chosen)
    )
    finish(training.out, checkpoint, settings, model)
    _print(training, fitted, chosen, facts, to_json)


def follow(settings: Settings, training: Training) -> None:
    """Take a share of tuning and of scoring, in every process but the first, whose clock and checkpoint count.

    Raises
    ------
    ranker.processes.ProcessesFailed
        Another process has ended, or does not share the folder of the model.
    """
    checkpoint = Checkpoint(training.out / FOLDER)
    checkpoint.check_shared()
    chosen = checkpoint.query_groups()
    if chosen is None:
        return
    with closing(RerankServers(settings.ranker, training.base, must_answer=True)) as servers:
        tuning = Tuning(training, settings.ranker, checkpoint, lambda _: silent, servers)
        with suppress(ModelRefused):  # the first process says why
            tuning.scored(chosen.groups, float("inf"))


def _print(training: Training, fitted: FittedHead, chosen: ChosenGroups, facts: dict[str, Any], to_json: bool) -> None:
    if to_json:
        figures = {name: round(value, 6) for name, value in fitted.all_ndcg().items()}
        described = {"validation_ndcg_at_10": figures, "cold_items": fitted.cold_items.facts()}
        sys.stdout.write(json.dumps({"out": str(training.out)} | described | facts) + "\n")
    else:
        title = f"{training.out}: {facts['query_groups']:,} query groups in {facts['seconds']:.0f} s"
        show(*tables(title, fitted, chosen))
    if fitted.cold_items.falls:
        sys.stderr.write(f"afterclick: {fitted.cold_items.advice()}\n")


def _check(training: Training) -> None:
    if training.loss not in LOSSES:
        raise InputError(f"--loss: got {training.loss!r}, expected one of {', '.join(LOSSES)}")
    if training.form not in (None, "packed", "cross"):
        raise InputError(f"--as: got {training.form!r}, expected packed or cross, or leave it out")
    if training.form is not None and not training.epochs:
        raise InputError(
            f"--as: got {training.form!r} with --epochs 0, expected epochs to train it; leave out one of them"
        )
    if training.cascade and training.base == "none":
        raise InputError(f"--cascade: got {training.cascade} with --base none, expected a model to read them")
    check_new_folder(training.out)


def tables(title: str, fitted: FittedHead, chosen: ChosenGroups) -> tuple[Report, ...]:
    """What was measured on the newer query groups."""
    of_parts = table(title, fitted.all_ndcg())
    return of_parts, cold_table(fitted.cold_items), merge_table(chosen.merge), sources_table(chosen)


def table(title: str, figures: Mapping[str, float]) -> Report:
    """NDCG@10 of the trained model and of its parts."""
    report = Report((Field("on the newer query groups"), Field("NDCG@10", number=True)), title)
    for name, value in figures.items():
        report.add(name, f"{value:.4f}")
    return report


def cold_table(cold_items: ColdItems) -> Report:
    """NDCG@10 of cold and of warm items, with the trained head and without a model."""
    figures = [Field(name, number=True) for name in ("query groups", "with the head", "no model", "difference")]
    caption = "below each value its 95% interval: bootstrap over users; only these items count as relevant"
    report = Report((Field("NDCG@10 of items"), *figures), caption=caption)
    for name, part in (
        (f"fewer than {COLD_EVENTS} events", cold_items.cold),
        (f"{COLD_EVENTS} events or more", cold_items.warm),
    ):
        cells = (part.head, part.no_model, part.difference) if part.groups else ()
        texts = [f"{one.value:.4f}\n{one.low:.4f} {one.high:.4f}" for one in cells]
        report.add(name, f"{part.groups:,}", *(texts or ["-"] * 3))
    return report


def merge_table(merge: FittedMerge) -> Report:
    """Recall of the merges, and which one is kept."""
    caption = "a source alone: the others fill what it leaves free"
    report = Report((Field("merge of the candidates"), Field("recall", number=True), Field("")), caption=caption)
    for name, recall in merge.recall.items():
        report.add(name, f"{recall:.4f}", "kept" if name == merge.name else "")
    return report


def sources_table(chosen: ChosenGroups) -> Report:
    """What the learnt sources bring, and which are kept."""
    caption = "the features alone, on the newer query groups; recall: of the candidates"
    fields = (Field("learnt source"), Field("NDCG@10", number=True), Field("recall", number=True), Field(""))
    report = Report(fields, caption=caption)
    for source, facts in chosen.judged.items():
        for name, kept in (("with", facts["kept"]), ("without", not facts["kept"])):
            figures = [facts.get(f"{figure}_{name}") for figure in ("ndcg_at_10", "recall")]
            shown = ["too few to judge" if figure is None else f"{figure:.4f}" for figure in figures]
            report.add(f"{name} {source}", *shown, "kept" if kept else "")
    return report
