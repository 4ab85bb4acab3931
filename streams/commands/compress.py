"""`afterclick compress`: replace a large model by a small one, and measure what that costs and what it saves.

There are four ways to a student: another model (`--distil`), some of the model's own layers (`--prune`) or half of its
own weights (`--sparsify`), which then learn the teacher's scores; or its own weights in 8-bit integers (`--int8`). A
new fusion head is fitted on the student's scores. Of several processes all but the first one only take their shares of
scoring and of learning.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import NamedTuple

from ranker.fusion.fused import FusedScorer
from ranker.load import cascade_depth, load_scorer
from ranker.progress import StageProgress, silent
from ranker.recall.trained import parts_of
from ranker.score import Scorer
from ranker.train.checkpoint import FOLDER, Checkpoint
from ranker.train.curve import Epoch
from ranker.train.first_stage import FIRST_STAGE_SHARE, FirstStage, first_stage
from ranker.train.fit import FittedHead, ModelRefused, fit
from ranker.train.head_fit import HeadSettings
from ranker.train.learnt_sources import ChosenGroups
from ranker.train.losses import softmax
from ranker.train.query_groups import QueryGroups, ScoredGroups
from ranker.version import folder_of
from streams.commands.compression import SHARES, CompressDeadlines, Compression
from streams.commands.compression_report import Evaluated, evaluated, lists_per_s, note, table
from streams.commands.student_maker import StudentMaker
from streams.commands.training_end import TrainedModel, finish, refuse, score_in_time
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.offline.source_fits import fit_deadlines
from streams.offline.training_data import TrainingData, gather, parts
from streams.offline.training_run import check_new_folder
from streams.settings import Settings
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import show


class _Scored(NamedTuple):
    """Teacher and student with their scores, and the curve of the student's training."""

    teacher: Scorer
    by_teacher: ScoredGroups
    student: Scorer
    by_student: ScoredGroups
    curve: list[Epoch]
    first: FirstStage | None


@dataclass(frozen=True)
class _Compressed:
    """Teacher and student, with a head each, and what chose the candidates."""

    scored: _Scored
    teacher_head: FittedHead
    student_head: FittedHead
    chosen: ChosenGroups

    def figures(self) -> dict[str, Evaluated]:
        """Both models; timed in turns."""
        teacher, student = self.scored.teacher, self.scored.student
        teacher_rate, student_rate = lists_per_s([teacher, student], self.scored.by_teacher.groups)
        return {
            "before": evaluated(self.teacher_head, teacher, teacher_rate),
            "after": evaluated(self.student_head, student, student_rate),
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
    with progress_bar(quiet=to_json) as stage:
        stage("Ordering the events")(0, 1)
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
    scored = compressed.scored
    facts = {
        "teacher": compression.model,
        "way": compression.way,
        "hold_out": compression.hold_out,
        "seed": compression.seed,
        "query_groups": len(scored.by_student),
        "data_sha256": scored.by_teacher.groups.digest(),
        "dtype": scored.student.placement.dtype,
        "seconds": round(time.monotonic() - started, 1),
        **{name: asdict(model) for name, model in models.items()},
    }
    trained = TrainedModel(
        compressed.chosen.groups,
        None,
        compressed.student_head,
        scored.curve,
        facts,
        compressed.chosen.merge.merge,
        parts(checkpoint, compressed.chosen),
    )
    finish(compression.out, checkpoint, settings, trained)
    if to_json:
        sys.stdout.write(json.dumps({"out": str(compression.out), **facts}) + "\n")
    else:
        title = f"{compression.out}: {facts['query_groups']:,} query groups in {facts['seconds']:.0f} s"
        show(table(title, models, note(compression.way, scored.student.placement.device)))


def follow(settings: Settings, compression: Compression) -> None:
    """Take a share of scoring and of learning, in every process but the first, whose clock and checkpoint count.

    Raises
    ------
    ranker.processes.ProcessesFailed
        Another process has ended, or does not share the folder of the model.
    """
    checkpoint = Checkpoint(compression.out / FOLDER)
    checkpoint.check_shared()
    chosen = checkpoint.query_groups()
    if chosen is None:
        return
    endless = CompressDeadlines(**dict.fromkeys(SHARES, float("inf")))
    job = _Compressing(compression, settings, checkpoint, lambda _: silent)
    with suppress(ModelRefused):  # the first process says why
        job.scored(_without_head(compression.model, settings), chosen.groups, endless)


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
        self._depth = cascade_depth(compression.model)
        self._learnt = set(parts_of(folder_of(compression.model)).values())

    def compressed(self, teacher: Scorer, data: TrainingData, deadlines: CompressDeadlines) -> _Compressed:
        """Read the log, let the teacher score, make the student, let it score, and fit the heads."""
        seed, stage = self._compression.seed, self._stage
        until = fit_deadlines(
            self._settings, deadlines.neighbours, deadlines.adapting, deadlines.linking, deadlines.reading
        )
        until = {kind: deadline for kind, deadline in until.items() if kind in self._learnt}
        learnt = data.learnt(self._settings, self._checkpoint, until, stage)
        chosen = data.query_groups(
            self._settings, self._checkpoint, deadlines.reading, stage, learnt, keep=self._learnt
        )
        self._checkpoint.check_shared()
        scored = self.scored(teacher, chosen.groups, deadlines)
        of_student = HeadSettings(softmax, seed, deadline=deadlines.fitting)
        student_head = fit(scored.by_student, of_student, stage("Fitting the head"), scored.first)
        of_teacher = HeadSettings(softmax, seed, deadline=deadlines.teacher_fitting)
        teacher_head = fit(scored.by_teacher, of_teacher, stage("Fitting the teacher's head"), scored.first)
        return _Compressed(scored, teacher_head, student_head, chosen)

    def scored(self, teacher: Scorer, groups: QueryGroups, deadlines: CompressDeadlines) -> _Scored:
        """Let the teacher score, make the student, and let it score: of a cascade, the same candidates."""
        seed, ranker, stage = self._compression.seed, self._settings.ranker, self._stage
        now = time.monotonic()
        head = HeadSettings(softmax, seed, deadline=now + FIRST_STAGE_SHARE * (deadlines.teaching - now))
        first = first_stage(groups, self._depth, head, self._checkpoint.first_stage, stage)
        groups = groups if first is None else first.narrowed(groups)
        by_teacher = score_in_time(teacher, groups, seed, deadlines.teaching, stage("The teacher scores"))
        curve = StudentMaker(self._compression, ranker, self._checkpoint, stage).make(
            teacher, by_teacher, deadlines.tuning
        )
        made = load_scorer(str(self._checkpoint.model), ranker.device, ranker.dtype, in_training=True)
        by_student = score_in_time(made, by_teacher.groups, seed, deadlines.scoring, stage("The student scores"))
        return _Scored(teacher, by_teacher, made, by_student, curve, first)
