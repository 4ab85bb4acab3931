"""What a model is trained on: an ordered log, test cases from it, and the query groups that the pipeline makes of them.

Knows no loss and no model.
"""

from __future__ import annotations

import hashlib
import sys
import time
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from encoders.describe import describe_item
from encoders.interest import Vector
from encoders.text.encoder import TextEncoder
from encoders.text.vector_store import StoredEncoder, identity
from ranker.evaluation.impressions import impressions
from ranker.evaluation.interactions import Interactions
from ranker.evaluation.log_order import ordered
from ranker.evaluation.protocols import Case
from ranker.progress import StageProgress
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.embedding_space import EmbeddingSpace
from ranker.recall.fatigue import Fatigue
from ranker.recall.learnt_knowledge import LearntKnowledge
from ranker.recall.number_feature import NumberFeature
from ranker.recall.trained import LearntSource, TrainedRecall, parts_of
from ranker.recall.user_signs import UserSigns
from ranker.train.adapted_space import AdapterSettings, fit_adapted_space
from ranker.train.checkpoint import FOLDER, Checkpoint
from ranker.train.fit import TooLittleTime
from ranker.train.fitted_source import FittedSource
from ranker.train.head_fit import HeadSettings
from ranker.train.learnt_knowledge import KnowledgeSettings, check_installed, fit_knowledge
from ranker.train.learnt_neighbours import fit_neighbours
from ranker.train.learnt_sources import ChosenGroups, choose, choose_without
from ranker.train.losses import softmax
from ranker.train.training_cases import training_cases
from streams.contracts import Item, Triple
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.offline.query_group_builder import QueryGroupBuilder
from streams.offline.sampling import EVENTS_PER_QUERY_GROUP, drawn, of_some_users
from streams.offline.source_fits import FitDeadlines, embeddings_of, fit_fatigue, fit_number, fit_signs, graph_of
from streams.offline.split_by_protocol import split_by_protocol
from streams.offline.training_run import TrainingRun
from streams.settings import Settings

MIN_QUERY_GROUPS = 50
READING_SHARE = 0.85
"""Of the time, where learnt sources are judged after it."""
ORDER_SEED = 1
"""The default with which `evaluate` orders events of the same time, so that both read the same log."""
LEFT_OUT = (
    "got too little time or memory or too few query groups to learn the model's {} again on this log, so the result "
    "has none; give it more --max-minutes or --query-groups to keep them"
)


@dataclass(frozen=True)
class TrainingData:
    """What to train on.

    Attributes
    ----------
    items : list of Item
    log : Interactions
        In order.
    cases : sequence of Case
        In order.
    triples : sequence of Triple
        Of the knowledge graph.
    """

    items: list[Item]
    log: Interactions
    cases: Sequence[Case]
    triples: Sequence[Triple] = ()

    def checkpoint(self, run: TrainingRun, settings: Settings) -> Checkpoint:
        """The checkpoint of this run on this data; files of any other run are removed."""
        relevant = (settings.encoder, settings.interest, settings.candidates, settings.ranker.max_candidates)
        digest = hashlib.sha256(repr((run.identity, relevant, self.triples, self.log.digest())).encode())
        for item in self.items:
            digest.update(repr(item).encode())
        return Checkpoint.open(run.out / FOLDER, digest.hexdigest())

    def learnt(
        self,
        settings: Settings,
        checkpoint: Checkpoint,
        deadlines: FitDeadlines,
        stage: StageProgress,
    ) -> list[FittedSource]:
        """The learnt sources of these types, from the checkpoint if it has them; without those that cannot be fitted.

        Parameters
        ----------
        settings : Settings
        checkpoint : Checkpoint
        deadlines : mapping of type of LearntSource to float
            When each must be fitted, in seconds of `time.monotonic()`; in the order of the fits.
        stage : StageProgress

        Raises
        ------
        ranker.evaluation.extra.PackageMissing
            There is a knowledge graph, and the package is missing that learns from it.
        """
        if LearntKnowledge in deadlines and (self.triples or any(item.entities for item in self.items)):
            check_installed()
        found = []
        for kind, deadline in deadlines.items():
            fitted = FittedSource.load(checkpoint.learnt(kind), kind)
            if fitted is None and (fitted := self._fitted(kind, settings, checkpoint, deadline, stage)) is not None:
                fitted.save(checkpoint.learnt(kind))
            if fitted is not None:
                found.append(fitted)
        return found

    def _fitted(
        self,
        kind: type[LearntSource],
        settings: Settings,
        checkpoint: Checkpoint,
        deadline: float,
        stage: StageProgress,
    ) -> FittedSource | None:
        if kind is LearntKnowledge:
            graph = graph_of(self.items, self.triples)
            return fit_knowledge(self.log, self.cases, graph, KnowledgeSettings(deadline, ORDER_SEED), stage)
        ids, texts_of = [item.item_id for item in self.items], partial(self._texts, settings, checkpoint, stage)
        how = AdapterSettings(settings.interest.weights["purchase"], deadline, ORDER_SEED)
        if issubclass(kind, EmbeddingSpace):
            ids, vectors = embeddings_of(self.items, kind.embedding)
            return fit_adapted_space(kind, self.log, self.cases, ids, vectors, how, stage)
        if issubclass(kind, NumberFeature):
            return fit_number(kind, self.items, self.log)
        if kind is UserSigns:
            return fit_signs(settings.candidates.context_features, self.log, texts_of)
        if kind is Fatigue:
            return fit_fatigue(self.log)
        if kind is not AdaptedText:
            return fit_neighbours(self.log, self.cases, ids, deadline, stage)
        return fit_adapted_space(AdaptedText, self.log, self.cases, ids, texts_of(ids), how, stage)

    def _texts(self, settings: Settings, checkpoint: Checkpoint, stage: StageProgress, ids: Sequence[str]) -> Vector:
        """The text vectors of items, (n, dim) float32; of an item that the catalogue lacks, that of no text."""
        stage("Encoding the items")(0, 1)
        texts = {item.item_id: describe_item(item) for item in self.items}
        with item_encoder(settings, checkpoint) as encoder:
            return encoder.encode([texts.get(item_id, "") for item_id in ids])

    def query_groups(
        self,
        settings: Settings,
        checkpoint: Checkpoint,
        deadline: float,
        stage: StageProgress,
        learnt: Sequence[FittedSource] = (),
        learn_merge: bool = True,
        keep: Collection[type[LearntSource]] = (),
    ) -> ChosenGroups:
        """The query groups, and what chose their candidates, from the checkpoint if it has them.

        Parameters
        ----------
        settings : Settings
        checkpoint : Checkpoint
        deadline : float
            In seconds of `time.monotonic()`. Where that is too early for all cases, some are passed over.
        stage : StageProgress
        learnt : sequence of FittedSource
            Each group reads the newest fit of each that does not know its events. The groups are without those that do
            not make lists or candidates better.
        learn_merge : bool
            Fit the merge, or keep the fixed weights.
        keep : collection of type of LearntSource
            Sources to keep however the groups judge them. Where that is impossible, stderr says so.

        Raises
        ------
        ranker.train.fit.TooLittleTime
            There was time for too few.
        """
        kept = checkpoint.query_groups()
        if kept is not None:
            check_count(kept.recalled, len(self.cases), "from the log")
            return kept
        trained = [
            (begin, TrainedRecall(tuple(fitted.sources[number] for fitted in learnt), needs_features=True))
            for number, begin in enumerate(learnt[0].begins if learnt else ())
        ]
        now = time.monotonic()
        until = now + READING_SHARE * (deadline - now) if learnt else deadline
        with item_encoder(settings, checkpoint) as encoder:
            builder = QueryGroupBuilder(settings, encoder, self.items, trained, self.triples)
            recalled = builder.build(self.log, self.cases, until, stage("The pipeline reads the log"))
        check_count(len(recalled), len(self.cases), "from the log")
        if not learnt:
            chosen = choose_without(recalled, builder.width, learn_merge, stage("Fitting the merge"))
        else:
            head = HeadSettings(softmax, ORDER_SEED, deadline=deadline)
            sources, progress = [type(fitted.final) for fitted in learnt], stage("Judging the learnt sources")
            chosen = choose(recalled, sources, builder.width, head, progress, keep)
        if missing := sorted(source.name for source in keep if source.name not in chosen.kept):
            sys.stderr.write(f"afterclick: {LEFT_OUT.format(' and '.join(missing))}\n")
        checkpoint.save_query_groups(chosen)
        return chosen


@contextmanager
def item_encoder(settings: Settings, checkpoint: Checkpoint) -> Iterator[StoredEncoder]:
    """Give an encoder of items' texts as a worker has it. The checkpoint keeps the vectors for later stages."""
    encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
    name = identity(settings.encoder.model, encoder.placement.dtype)
    with closing(StoredEncoder(encoder, name, checkpoint.vectors)) as stored:
        yield stored


def parts(checkpoint: Checkpoint, chosen: ChosenGroups) -> list[Path]:
    """The files of the learnt sources that the model of these groups needs."""
    return [file for name in chosen.kept for file in parts_of(checkpoint.folder / name)]


def sources_facts(learnt: Sequence[FittedSource], chosen: ChosenGroups) -> dict[str, Any]:
    """For `afterclick.json`: how each learnt source was fitted and judged, by its name."""
    return {
        fitted.final.name.replace("-", "_"): {**fitted.facts, **chosen.judged.get(fitted.final.name, {})}
        for fitted in learnt
    }


def gather(event_log: EventLog, settings: Settings, run: TrainingRun) -> TrainingData:
    """Order the log and make the cases: what users chose next, and what they chose from lists that were shown.

    Of a large log only some users have cases, drawn by the seed: enough that the query groups, which are drawn from
    their cases, are about as various as from all.

    Raises
    ------
    InputError
        There is no case.
    """
    log = ordered(event_log.events, ORDER_SEED)
    if run.hold_out in ("leave-one-out", "next-basket"):
        log = split_by_protocol(run.hold_out, log, event_log.shown_lists, None).training
    elif run.hold_out is not None:
        log = split_by_protocol("time-split", log, event_log.shown_lists, run.hold_out).training
    indices = of_some_users(log, run.max_query_groups * EVENTS_PER_QUERY_GROUP, run.seed)
    some = log[indices]
    cases = training_cases(list(some), settings.candidates.repeats, run.seed)
    cases = [case._replace(log_index=int(indices[case.log_index])) for case in cases]
    users = {some.names.users[code] for code in np.unique(some.user)}
    last_ms = int(log.time_ms[-1]) if len(log) else 0
    shown_lists = [shown for shown in event_log.shown_lists if shown.time_ms <= last_ms and shown.user in users]
    cases += [
        case._replace(log_index=bisect_left(log.time_ms, case.as_of_ms))
        for case in impressions(some, shown_lists, 0).cases
    ]
    if not cases:
        raise InputError("got no user with an event and a later one; expected some to learn from")
    cases.sort(key=lambda case: (case.log_index, case.user, case.shown_items))
    return TrainingData(event_log.items, log, drawn(cases, run.max_query_groups, run.seed), event_log.triples)


def check_count(count: int, expected: int, source: str) -> None:
    """Report on stderr that `--max-minutes` were over before all query groups were complete.

    Parameters
    ----------
    count, expected : int
        Query groups that are complete, and all of them.
    source : str
        What completes them, for the message.

    Raises
    ------
    ranker.train.fit.TooLittleTime
        There are too few to learn from.
    """
    if count == expected:
        return
    message = f"got {source} {count:,} of {expected:,} query groups before its share of --max-minutes was over"
    if count < MIN_QUERY_GROUPS:
        raise TooLittleTime(
            f"{message}, expected at least {MIN_QUERY_GROUPS}; give it more minutes, fewer --query-groups, or a "
            "smaller model or log"
        )
    sys.stderr.write(f"afterclick: {message}; the others are left out\n")
