"""Build query groups with the production pipeline, while it reads the log.

At each test case the state tier has taken in the events before it and nothing else. The candidates come from its own
sources, so the irrelevant ones are those that the model will meet in production, items that the user has viewed among
them. Knows no loss and no model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from encoders.describe import describe_history, describe_item
from encoders.event_time import milliseconds
from encoders.text.encoder import TextEncoder
from ranker import features
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.protocols import Case, Interaction, Split
from ranker.progress import Progress
from ranker.train.query_groups import NO_ITEM, QueryGroups
from streams.contracts import Item, RankRequest
from streams.offline.split_pipeline import SplitPipeline
from streams.settings import Settings


class QueryGroupBuilder:
    """Builds the query groups of one catalogue.

    Parameters
    ----------
    settings : Settings
        Of production.
    encoder : TextEncoder
    items : sequence of Item
    """

    def __init__(self, settings: Settings, encoder: TextEncoder, items: Sequence[Item]) -> None:
        self._settings, self._encoder, self._items = settings, encoder, items
        self._index = index_by_id(item.item_id for item in items)

    def build(
        self, log: Sequence[Interaction], cases: Sequence[Case], deadline: float, progress: Progress
    ) -> QueryGroups:
        """Build a group for each case.

        A group keeps the best `ranker.max_candidates` candidates only, as the rank tier does.

        Parameters
        ----------
        log : sequence of Interaction
            In order.
        cases : sequence of Case
            In order.
        deadline : float
            Once `time.monotonic()`, in seconds, has passed it, the later cases are dropped.
        progress : Progress
            In events.
        """
        split = Split(log, list(range(len(log))), len(log), list(cases))
        groups = self._empty(split.cases)
        pipeline = SplitPipeline(self._settings, self._encoder, self._items, split)
        requests = pipeline.requests(leaky=False, progress=progress, exclude_history=False)
        for index, (case, request) in enumerate(zip(split.cases, requests, strict=True)):
            groups.contexts.append(describe_history(request.history, milliseconds(request.as_of)))
            self._fill(groups, index, case, request)
            if time.monotonic() > deadline:
                break
        return groups[np.arange(len(groups.contexts))]

    def _empty(self, cases: Sequence[Case]) -> QueryGroups:
        """Room for a group of each case, without contexts."""
        longest = max([self._settings.ranker.max_candidates, *(len(case.shown_items) for case in cases)])
        width = min(longest, max(self._settings.candidates.limit, *(len(case.shown_items) for case in cases), 1))
        shape = len(cases), width
        return QueryGroups(
            texts=[describe_item(item) for item in self._items],
            contexts=[],
            candidates=np.full(shape, NO_ITEM, np.int32),
            labels=np.zeros(shape, bool),
            relevant_counts=np.array([len(case.targets) for case in cases], np.int32),
            retrieval_scores=np.zeros(shape, np.float32),
            features=np.zeros((*shape, len(features.NAMES)), np.float16),
        )

    def _fill(self, groups: QueryGroups, index: int, case: Case, request: RankRequest) -> None:
        """Write the best candidates of a request into a group."""
        sent = request.features
        values = None if sent is None else features.read(sent.schema, sent.values, len(request.candidates))
        if values is None:
            raise AssertionError("the state tier computes features for every candidate")
        retrieval_scores = np.array([candidate.retrieval_score for candidate in request.candidates], np.float32)
        best = np.argsort(-retrieval_scores, kind="stable")[: groups.candidates.shape[1]]
        item_ids = [request.candidates[position].item_id for position in best]
        columns = slice(len(best))
        groups.candidates[index, columns] = [self._index[item_id] for item_id in item_ids]
        groups.labels[index, columns] = [item_id in case.targets for item_id in item_ids]
        groups.retrieval_scores[index, columns] = retrieval_scores[best]
        groups.features[index, columns] = values[best]
