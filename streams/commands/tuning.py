"""The language model of a training run: which candidates it reads, its fine-tuning, and its scores.

Knows neither the log nor the head over it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from encoders.models import source as model_source
from encoders.models.device import choose
from ranker import processes
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import Scorer
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.first_stage import DECODER_DEPTH, FIRST_STAGE_SHARE, FirstStage, first_stage
from ranker.train.fit import train_validation_split
from ranker.train.head_fit import HeadSettings
from ranker.train.losses import LOSSES
from ranker.train.query_groups import QueryGroups, ScoredGroups
from ranker.train.student import is_decoder
from ranker.version import is_url
from streams.commands.training_end import score_in_time
from streams.datasets.messages import InputError
from streams.models.remote.servers import RerankServers
from streams.settings import RankerSettings

if TYPE_CHECKING:
    from streams.commands.train import Training


class TunedScorer(NamedTuple):
    """A language model that is ready for its head.

    Attributes
    ----------
    scorer : Scorer or None
    curve : list of Epoch
        Of its tuning.
    base : str or None
        Its name for `afterclick.json`; None if the checkpoint holds it.
    first : FirstStage or None
        What chooses the candidates that it reads; None if it reads all.
    """

    scorer: Scorer | None
    curve: list[Epoch]
    base: str | None
    first: FirstStage | None = None


class Tuning:
    """Loads the language model of a run, and fine-tunes it where the settings ask for it."""

    def __init__(
        self,
        training: Training,
        ranker: RankerSettings,
        checkpoint: Checkpoint,
        stage: StageProgress,
        servers: RerankServers,
    ) -> None:
        self._training, self._ranker = training, ranker
        self._checkpoint, self._stage, self._servers = checkpoint, stage, servers

    def scored(self, groups: QueryGroups, end: float) -> tuple[TunedScorer, ScoredGroups]:
        """The scorer for the head, and its scores of the candidates that it reads.

        Parameters
        ----------
        groups : QueryGroups
        end : float
            On the clock of `time.monotonic()`, in seconds. The measured cost of a pass says how much of the time is for
            tuning, and how many groups are scored.
        """
        training, now = self._training, time.monotonic()
        head = HeadSettings(LOSSES[training.loss], training.seed, deadline=now + FIRST_STAGE_SHARE * (end - now))
        first = first_stage(groups, self._depth, head, self._checkpoint.first_stage, self._stage)
        read = groups if first is None else first.narrowed(groups)
        tuned = self._tuned(read, end)._replace(first=first)
        progress = self._stage("Scoring the query groups")
        return tuned, score_in_time(tuned.scorer, read, training.seed, end, progress)

    @property
    def _depth(self) -> int:
        """How many candidates of a list the model reads; 0: all of them."""
        if self._training.cascade is not None:
            return self._training.cascade
        return DECODER_DEPTH if self._is_decoder else 0

    def _tuned(self, groups: QueryGroups, end: float) -> TunedScorer:
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

            name, form = str(checkpoint.start), training.form
            processes.by_first(lambda: start(training.base, form, checkpoint.start, training.seed))
        scorer = load_scorer(
            name, self._ranker.device, self._dtype, in_training=bool(training.epochs), connect=self._servers
        )
        if isinstance(scorer, FusedScorer):
            raise InputError(
                f"--base: got {training.base!r}, which has a fusion head already; expected the model under it"
            )
        if isinstance(scorer, BiEncoder) or is_url(name) or not training.epochs:
            return TunedScorer(scorer, [], str(model_source.resolve(name)) if Path(name).is_dir() else name)
        curve = self._fine_tune(scorer, name, groups, end)
        del scorer  # its weights are in the checkpoint
        return TunedScorer(self._result(), curve, None)

    def _fine_tune(self, scorer: Scorer, name: str, groups: QueryGroups, end: float) -> list[Epoch]:
        """Fine-tune the scorer, and save it in the checkpoint."""
        from ranker.train.model_fit import TuningData, TuningSettings, fine_tune
        from ranker.train.pace import seconds_per_group, tuning_end
        from ranker.train.trainable import Trainable, save

        training, trainable = self._training, cast(Trainable, scorer)
        seconds = seconds_per_group(scorer, groups)
        deadline = tuning_end(time.monotonic(), end, len(groups), seconds)
        older, newer = (groups[indices] for indices in train_validation_split(len(groups)))
        how = TuningSettings(LOSSES[training.loss], training.epochs, deadline, training.seed, training.lora)
        progress = self._stage("Tuning the language model")
        curve = fine_tune(trainable, TuningData(older, newer), how, self._checkpoint, progress)
        processes.by_first(lambda: save(trainable, name, self._checkpoint.model))
        processes.by_first(lambda: self._checkpoint.save_curve(curve))
        return curve

    @property
    def _is_decoder(self) -> bool:
        name = self._training.base
        return name != "none" and not is_url(name) and is_decoder(name)

    @property
    def _dtype(self) -> str:
        """Of the weights while they are tuned: those that LoRA leaves as they are may be in bfloat16."""
        if not self._training.epochs:
            return self._ranker.dtype
        chosen = choose(self._ranker.device, self._ranker.dtype).dtype
        return "bfloat16" if self._training.lora and self._is_decoder and chosen == "bfloat16" else "float32"

    def _result(self) -> Scorer:
        return load_scorer(str(self._checkpoint.model), self._ranker.device, self._ranker.dtype, in_training=True)
