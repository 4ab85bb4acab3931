"""`afterclick train`: read a log, let the pipeline build query groups from it, learn, and write a model's folder.

`OUT/checkpoint` keeps what was done until the model is written: a run that was stopped continues from there, if it has
the same settings and data. Knows no loss.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from rich.console import Console
from rich.table import Table

from encoders.models import source as model_source
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import Scorer
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.fit import ModelRefused, fit, train_validation_split
from ranker.train.head_fit import HeadSettings
from ranker.train.losses import LOSSES
from ranker.train.query_groups import QueryGroups
from streams.commands.training_end import TrainedModel, finish, refuse, score_in_time
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.offline.training_data import check_new_folder, gather
from streams.offline.training_run import TrainingRun
from streams.progress_bar import progress_bar
from streams.settings import Settings

SHARES = {"reading": 0.3, "tuning": 0.6, "scoring": 0.9, "fitting": 1.0}
"""Of the minutes: the share that may have passed when each stage ends."""


@dataclass(frozen=True)
class TrainDeadlines:
    """When the stages end, in seconds of `time.monotonic()`: reading the log, tuning the language model, scoring with
    it, and fitting the head.
    """

    reading: float
    tuning: float
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
    """

    base: str
    form: str | None = None
    lora: bool = False
    loss: str = "softmax"


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
    data = gather(event_log, settings, training)
    checkpoint = data.checkpoint(training, settings)
    deadlines = TrainDeadlines(**training.deadlines(started, SHARES))
    try:
        with progress_bar(quiet=to_json) as stage:
            groups = data.query_groups(settings, checkpoint, deadlines.reading, stage)
            tuned = _Tuning(training, settings, checkpoint, stage).tuned(groups, deadlines.tuning)
            scored = score_in_time(
                tuned.scorer, groups, training.seed, deadlines.scoring, stage("Scoring the query groups")
            )
            head = HeadSettings(LOSSES[training.loss], training.seed, deadline=deadlines.fitting)
            fitted = fit(scored, head, stage("Fitting the head"))
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
        "seconds": round(time.monotonic() - started, 1),
    }
    finish(training.out, checkpoint, settings, TrainedModel(scored.groups, tuned.base, fitted, tuned.curve, facts))
    figures = fitted.all_ndcg()
    if to_json:
        rounded = {name: round(value, 6) for name, value in figures.items()}
        sys.stdout.write(json.dumps({"out": str(training.out), "validation_ndcg_at_10": rounded, **facts}) + "\n")
    else:
        title = f"{training.out}: {facts['query_groups']:,} query groups in {facts['seconds']:.0f} s"
        Console().print(_table(title, figures))


def _check(training: Training) -> None:
    if training.loss not in LOSSES:
        raise InputError(f"--loss: got {training.loss!r}, expected one of {', '.join(LOSSES)}")
    if training.form not in (None, "packed", "cross"):
        raise InputError(f"--as: got {training.form!r}, expected packed or cross, or leave it out")
    if training.form is not None and not training.epochs:
        raise InputError(
            f"--as: got {training.form!r} with --epochs 0, expected epochs to train it; leave out one of them"
        )
    check_new_folder(training.out)


def _table(title: str, figures: dict[str, float]) -> Table:
    table = Table(title=title)
    table.add_column("on the newer query groups")
    table.add_column("NDCG@10", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}")
    return table


class TunedScorer(NamedTuple):
    """A scorer, the curve of its tuning, and its name for `afterclick.json`: None if the checkpoint holds it."""

    scorer: Scorer | None
    curve: list[Epoch]
    base: str | None


class _Tuning:
    """Loads the language model of a run, and fine-tunes it where the settings ask for it."""

    def __init__(self, training: Training, settings: Settings, checkpoint: Checkpoint, stage: StageProgress) -> None:
        self._training, self._ranker = training, settings.ranker
        self._checkpoint, self._stage = checkpoint, stage

    def tuned(self, groups: QueryGroups, deadline: float) -> TunedScorer:
        """The scorer for the head, from the checkpoint if it is complete there."""
        training, checkpoint = self._training, self._checkpoint
        if training.base == "none":
            return TunedScorer(None, [], "none")
        curve = checkpoint.curve()
        if curve is not None:
            return TunedScorer(self._result(), curve, None)
        name = training.base
        if training.form is not None:
            from ranker.train.student import start

            name = str(checkpoint.start)
            start(training.base, training.form, checkpoint.start, training.seed)
        dtype = "float32" if training.epochs else self._ranker.dtype
        scorer = load_scorer(name, self._ranker.device, dtype, in_training=bool(training.epochs))
        if isinstance(scorer, FusedScorer):
            raise InputError(
                f"--base: got {training.base!r}, which has a fusion head already; expected the model under it"
            )
        if isinstance(scorer, BiEncoder) or not training.epochs:
            return TunedScorer(scorer, [], str(model_source.resolve(name)) if Path(name).is_dir() else name)
        curve = self._fine_tune(scorer, name, groups, deadline)
        return TunedScorer(self._result(), curve, None)

    def _fine_tune(self, scorer: Scorer, name: str, groups: QueryGroups, deadline: float) -> list[Epoch]:
        """Fine-tune the scorer, and save it in the checkpoint."""
        from ranker.train.model_fit import TuningData, TuningSettings, fine_tune
        from ranker.train.trainable import Trainable, save

        training, trainable = self._training, cast(Trainable, scorer)
        older, newer = (groups[indices] for indices in train_validation_split(len(groups)))
        how = TuningSettings(LOSSES[training.loss], training.epochs, deadline, training.seed, training.lora)
        progress = self._stage("Tuning the language model")
        curve = fine_tune(trainable, TuningData(older, newer), how, self._checkpoint, progress)
        save(trainable, name, self._checkpoint.model)
        self._checkpoint.save_curve(curve)
        return curve

    def _result(self) -> Scorer:
        return load_scorer(str(self._checkpoint.model), self._ranker.device, self._ranker.dtype, in_training=True)
