"""The rows of `afterclick evaluate` for our own lists: with each model, and without one. Knows no baseline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from encoders.text.encoder import TextEncoder
from ranker.evaluation.groups import judge_groups
from ranker.evaluation.judge import GroundTruth, judge
from ranker.evaluation.protocols import Split
from ranker.evaluation.recall import SourceRecall
from ranker.fusion.fused import FusedScorer
from ranker.load import load_recall, load_scorer
from ranker.progress import StageProgress
from ranker.recall.trained import TrainedRecall
from ranker.rules.item_table import ItemTable
from ranker.version import name
from streams.commands.evaluation_report import System
from streams.datasets.event_log import EventLog
from streams.models.remote.servers import RerankServers
from streams.offline.split_pipeline import SplitPipeline
from streams.settings import Settings

PIPELINE, WITHOUT_MODEL = "afterclick", "afterclick-no-model"


class EvaluatedModels:
    """The lists of the pipeline, with each model and without. Models with the same recall rank the same requests."""

    def __init__(
        self,
        settings: Settings,
        encoder: TextEncoder,
        log: EventLog,
        split: Split,
        leaky: bool,
        stage: StageProgress,
        rules: ItemTable | None = None,
    ) -> None:
        self._settings, self._encoder, self._log, self._split = settings, encoder, log, split
        self._leaky, self._stage, self._rules = leaky, stage, rules
        self._asked: tuple[TrainedRecall, str | None] | None = None
        self.recall: dict[str, dict[int, SourceRecall]] = {}

    def judged(
        self, models: Sequence[str], rows: Sequence[str], truth: GroundTruth, seed: int, ablate: bool = False
    ) -> dict[str, System]:
        """Judge the lists.

        Parameters
        ----------
        models : sequence of str
        rows : sequence of str
            `PIPELINE` for a row of each model, `WITHOUT_MODEL` for one with the requests of the first model.
        truth : GroundTruth
        seed : int
            Of the resamples.
        ablate : bool
            Add a row without each learnt source of each model.

        Returns
        -------
        dict of str to System
            By the name of the row.
        """
        systems: dict[str, System] = {}
        for model in models if PIPELINE in rows else ():
            self._ask(model)
            row = PIPELINE if len(models) == 1 else f"{PIPELINE} {name(model)}"
            systems |= self._rows(model, truth, row, seed)
            for source in load_recall(model).learnt if ablate else ():
                self._ask(model, source.name)
                systems[f"{row} without {source.name}"] = self._row(model, truth, f"{row} without {source.name}", seed)
        if WITHOUT_MODEL in rows:
            self._ask(models[0])
            systems |= self._rows("none", truth, WITHOUT_MODEL, seed)
        return systems

    def _rows(self, model: str, truth: GroundTruth, row: str, seed: int) -> dict[str, System]:
        """The row of a model, and that of its lists under the rules."""
        rows = {row: self._row(model, truth, row, seed)}
        if self._rules is not None:
            with_rules = f"{row} with rules"
            rows[with_rules] = self._row(model, truth, with_rules, seed, self._rules)
        return rows

    def _ask(self, model: str, ablated: str | None = None) -> None:
        """Make the requests of all cases with what a model brings along for the recall, but for one learnt source."""
        trained = load_recall(model)
        if self._asked is not None and trained.recalls_like(self._asked[0]) and ablated == self._asked[1]:
            return
        self._asked = trained, ablated
        if ablated is not None:
            trained = trained.without(ablated)
        log = self._log
        self._pipeline = SplitPipeline(self._settings, self._encoder, log.items, self._split, trained, log.triples)
        self._requests = self._pipeline.all_requests(self._leaky, self._stage("The pipeline reads the log"))
        self.recall = self.recall or self._pipeline.recall.figures()

    def _row(self, model: str, truth: GroundTruth, row: str, seed: int, rules: ItemTable | None = None) -> System:
        ranker = self._settings.ranker.model_copy(update={"model": model})
        with closing(RerankServers(ranker, must_answer=True)) as servers:
            scorer = load_scorer(model, ranker.device, ranker.dtype, connect=servers) if model != "none" else None
            if isinstance(scorer, FusedScorer):
                scorer.start(learning=False, exploring=ranker.explore > 0)
            result = self._pipeline.rank(self._requests, scorer, self._stage(row), rules)
        note = f"{result.degraded:,} lists without the model" if scorer and result.degraded else ""
        measures = judge(truth, result.lists, seed)
        lists_per_s = len(result.lists) / result.ranking_seconds
        groups = judge_groups(truth, result.lists, seed)
        return System(measures, result.seconds, {"model": model}, note, lists_per_s, groups)
