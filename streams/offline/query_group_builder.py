"""Build query groups with the production pipeline, while it reads the log.

At each test case the state tier has taken in the events before it and nothing else. The candidates come from its own
sources, so the irrelevant ones are those that the model will meet in production, items that the user has viewed among
them. Knows no loss and no model.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.describe import describe_event, describe_item
from encoders.text.vector_store import Encoder
from ranker import features
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.interactions import Interactions
from ranker.evaluation.measures import COLD_EVENTS
from ranker.evaluation.protocols import Case, Split
from ranker.progress import Progress
from ranker.recall.merge import NOT_PROPOSED, first
from ranker.recall.trained import NOTHING, TrainedRecall
from ranker.score import FeatureSet
from ranker.train.query_groups import NO_ITEM, QueryGroups
from ranker.train.recalled import RecalledGroups
from streams.contracts import Item, Triple
from streams.offline.case_pace import CasePace
from streams.offline.split_pipeline import AskedCase, SplitPipeline
from streams.rank.ranking import Reading
from streams.settings import Settings


class QueryGroupBuilder:
    """Builds the query groups of one catalogue.

    Parameters
    ----------
    settings : Settings
        Of production.
    encoder : Encoder
    items : sequence of Item
    trained : sequence of (int, TrainedRecall)
        What the model to be trained will bring along for the recall, all of the same sources: from which index of the
        log on, ascending, and what. Before the first index there is nothing.
    triples : sequence of Triple
        What the knowledge graph has from the beginning on.
    """

    def __init__(
        self,
        settings: Settings,
        encoder: Encoder,
        items: Sequence[Item],
        trained: Sequence[tuple[int, TrainedRecall]] = (),
        triples: Sequence[Triple] = (),
    ) -> None:
        self._settings, self._encoder, self._items, self._triples = settings, encoder, items, triples
        self._reading = Reading(settings.interest.weights, settings.ranker.context_keys)
        self._trained = [(0, NOTHING), *trained]
        self._names = features.names(self._trained[-1][1].learnt)
        self._index = index_by_id(item.item_id for item in items)

    def build(self, log: Interactions, cases: Sequence[Case], deadline: float, progress: Progress) -> RecalledGroups:
        """Build a group for each case, with all that the sources propose for it and a merge might choose.

        Parameters
        ----------
        log : Interactions
            In order.
        cases : sequence of Case
            In order.
        deadline : float
            In seconds of `time.monotonic()`; see `CasePace`.
        progress : Progress
            In events.
        """
        split = Split(log, np.arange(len(log)), len(log), cases)
        pipeline = SplitPipeline(self._settings, self._encoder, self._items, split, NOTHING, self._triples)
        pace = CasePace(split.cases, deadline)
        built: list[_Group] = []
        asked_cases: list[Case] = []
        learnt = [source.name for source in self._trained[-1][1].learnt]
        sources: dict[str, None] = {}
        chosen = self._each_with_sources(pace, pipeline)
        for asked in pipeline.asked(leaky=False, progress=progress, exclude_history=False, whole=True, cases=chosen):
            started = time.perf_counter()
            built.append(self._group(asked))
            asked_cases.append(asked.case)
            sources = dict.fromkeys([*asked.proposals.sources, *learnt])  # the learnt ones come last in both
            pace.note(asked.seconds + time.perf_counter() - started)
        return self._together(built, split.log, asked_cases, list(sources))

    def _each_with_sources(self, cases: Iterable[Case], pipeline: SplitPipeline) -> Iterator[Case]:
        """Give each case, and let the pipeline ask it with what was learnt before it."""
        for case in cases:
            pipeline.use(self._trained_at(case.log_index))
            yield case

    def _trained_at(self, index: int) -> TrainedRecall:
        return self._trained[bisect_right(self._trained, index, key=lambda one: one[0]) - 1][1]

    def _group(self, asked: AskedCase) -> _Group:
        request, sent = asked.request, asked.request.features
        trained = self._trained_at(asked.case.log_index)
        if sent is None:
            raise AssertionError("the state tier computes features for every candidate")
        count = len(request.candidates)
        expected = FeatureSet(features.names(trained.learnt), trained.version)
        values = features.read(sent.schema, sent.version, sent.values, count, expected)
        if values is None:
            raise AssertionError("the state tier computes the features of the same sources")
        ranks = np.array([asked.ranks(candidate) for candidate in asked.candidates], np.int16)
        ranks = ranks.reshape(count, len(asked.proposals.sources))
        kept = np.arange(count)
        if not asked.case.shown_items:
            kept = np.flatnonzero(_may_be_chosen(ranks, self.width))
        items = np.array([self._index[candidate.item_id] for candidate in request.candidates], np.int32)
        context = self._reading.context(request)
        events = np.array([self._index[event.item_id] for event in request.history], np.int32)
        return _Group(context, events, items[kept], ranks[kept], values[kept])

    @property
    def width(self) -> int:
        """How many candidates a model scores."""
        return min(self._settings.ranker.max_candidates, self._settings.recalled)

    def _together(
        self, built: Sequence[_Group], log: Interactions, cases: Sequence[Case], sources: Sequence[str]
    ) -> RecalledGroups:
        """Pad the groups of these cases to the same width."""
        shape = len(built), max([1, *(len(group.items) for group in built)])
        candidates = np.full(shape, NO_ITEM, np.int32)
        labels = np.zeros(shape, bool)
        ranks = np.full((*shape, len(sources)), NOT_PROPOSED, np.int16)
        values = np.zeros((*shape, len(self._names)), np.float16)
        is_cold = np.zeros(shape, bool)
        cold_counts = np.zeros(len(built), np.int32)
        events = self._events_before(log, cases)
        for index, (group, case) in enumerate(zip(built, cases, strict=True)):
            columns = slice(len(group.items))
            cold = next(events) < COLD_EVENTS
            is_cold[index, columns] = cold[group.items]
            cold_counts[index] = sum(
                bool(cold[item]) for item in map(self._index.get, case.targets) if item is not None
            )
            candidates[index, columns] = group.items
            labels[index, columns] = [self._items[item].item_id in case.targets for item in group.items]
            ranks[index, columns, : group.ranks.shape[1]] = group.ranks
            values[index, columns, : group.features.shape[1]] = group.features
        groups = QueryGroups(
            texts=[describe_item(item) for item in self._items],
            event_texts=[describe_event(item) for item in self._items],
            contexts=[group.context for group in built],
            users=np.unique([case.user for case in cases], return_inverse=True)[1].astype(np.int32),
            events=[group.events for group in built],
            candidates=candidates,
            labels=labels,
            relevant_counts=np.array([len(case.targets) for case in cases], np.int32),
            is_cold=is_cold,
            cold_counts=cold_counts,
            retrieval_scores=np.zeros(shape, np.float32),
            features=values,
            feature_names=self._names,
        )
        return RecalledGroups(groups, tuple(sources), ranks)

    def _events_before(self, log: Interactions, cases: Sequence[Case]) -> Iterator[npt.NDArray[np.intp]]:
        """Yield the number of events of each item before each case, in the same array."""
        items = np.array([self._index.get(item, len(self._items)) for item in log.names.items], np.intp)[log.item]
        events, counted = np.zeros(len(self._items) + 1, np.intp), 0
        for case in cases:
            np.add.at(events, items[counted : case.log_index], 1)
            counted = case.log_index
            yield events


def _may_be_chosen(ranks: npt.NDArray[np.int16], limit: int) -> npt.NDArray[np.bool_]:
    """Which proposals a merge might choose: a single source's proposal behind `limit` others of it never wins."""
    may: npt.NDArray[np.bool_] = (ranks != NOT_PROPOSED).sum(axis=1) > 1
    for number in range(ranks.shape[1]):
        may[first(ranks[:, number], limit)] = True
    return may


class _Group(NamedTuple):
    """One group: its context, its events' items, and for each proposal the item's index, its ranks and its features."""

    context: str
    events: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    ranks: npt.NDArray[np.int16]
    features: features.Features
