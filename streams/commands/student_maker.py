"""The student of a compression: what it starts from, and how it learns its teacher's scores.

Knows neither the log nor the heads.
"""

from __future__ import annotations

from typing import cast

from ranker import processes
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import Scorer
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train import student
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.distillation import distillation_targets
from ranker.train.fit import train_validation_split
from ranker.train.losses import distillation
from ranker.train.query_groups import ScoredGroups
from streams.commands.compression import Compression
from streams.datasets.messages import InputError
from streams.settings import RankerSettings


class StudentMaker:
    """Makes the student of a run, in one of the ways of `compress`."""

    def __init__(
        self, compression: Compression, ranker: RankerSettings, checkpoint: Checkpoint, stage: StageProgress
    ) -> None:
        self._compression, self._ranker = compression, ranker
        self._checkpoint, self._stage = checkpoint, stage

    def make(self, teacher: Scorer, scored_by_teacher: ScoredGroups, deadline: float) -> list[Epoch]:
        """Put the student into the checkpoint, if it is not there.

        Parameters
        ----------
        teacher : Scorer
        scored_by_teacher : ScoredGroups
            What it learns from.
        deadline : float
            Of its training, on the clock of `time.monotonic()`, in seconds.

        Returns
        -------
        list of Epoch
            Its curve: NDCG@10 against the teacher's ten best.
        """
        curve = self._checkpoint.curve()
        if curve is not None:
            return curve
        if self._compression.way == "int8":
            processes.by_first(lambda: student.quantise(teacher.name, self._checkpoint.model))
            curve = []
        else:
            start = processes.by_first(lambda: self._start(teacher))
            curve = self._distil(start, scored_by_teacher, deadline)
        if self._compression.way == "sparsify":
            processes.by_first(lambda: student.pack(teacher.name, self._checkpoint.model))
        processes.by_first(lambda: self._checkpoint.save_curve(curve))
        return curve

    def _start(self, teacher: Scorer) -> str:
        """The student before it has learnt."""
        compression, folder = self._compression, self._checkpoint.start
        if compression.way != "distil":
            if isinstance(teacher, BiEncoder):
                raise InputError(
                    f"--{compression.way}: got {teacher.name!r}, an embedding model, expected a packed encoder, a "
                    "cross-encoder or a decoder; distil it instead, or keep it in --int8"
                )
            if compression.way == "sparsify":
                student.sparsify(teacher.name, folder)
            else:
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

        scorer = load_scorer(name, self._ranker.device, "float32", in_training=True)
        if isinstance(scorer, FusedScorer):
            raise InputError(f"--student: got {name!r}, which has a fusion head; expected the model under it")
        trainable, compression = cast(Trainable, scorer), self._compression
        targets = distillation_targets(scored_by_teacher)
        older, newer = (targets[indices] for indices in train_validation_split(len(targets)))
        data = TuningData(older.groups, newer.groups, older.scores)
        how = TuningSettings(distillation, compression.epochs, deadline, compression.seed)
        curve = fine_tune(trainable, data, how, self._checkpoint, self._stage("The student learns"))
        processes.by_first(lambda: save(trainable, name, self._checkpoint.model))
        return curve
