"""A model with a fusion head on top, which may go on learning while it serves.

In a cascade, a first stage ranks all candidates by their features, and the model reads only the best. Knows no data set
and no training.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cachetools import FIFOCache
from numpy.typing import NDArray

from encoders.models.device import Placement
from encoders.models.source import ModelUnsupported
from encoders.models.usage import Usage
from ranker.exploration.posterior import Posterior
from ranker.features import NEWNESS, Features
from ranker.fusion.head import CASCADE, FIRST_STAGE_FILE, FusionHead, read
from ranker.fusion.online import OnlineHead
from ranker.score import (
    MAX_LISTS,
    FeatureSet,
    LearningTotals,
    ListFeedback,
    NotScored,
    Scorer,
    ScoreRequest,
    Unscored,
)

Floats = NDArray[np.float32]


class HeadInputs(NamedTuple):
    """The inputs of the head for one list; `read` has the indices of the candidates that the model read."""

    user: str
    scores: Floats
    features: Features
    read: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class CascadeStage:
    """The first stage of a cascade: a head of the features alone, and how many candidates it lets through."""

    head: FusionHead
    depth: int

    def scores(self, features: Features) -> Floats:
        """Return the scores of all candidates, (n,) float32."""
        return self.head(np.zeros(len(features), np.float32), features)


def first_stage(folder: Path, description: Mapping[str, Any], names: Sequence[str]) -> CascadeStage | None:
    """Read the first stage of a model's folder; None if the model reads all candidates.

    Raises
    ------
    ModelUnsupported
        It is damaged, or reads other features than these names.
    """
    if CASCADE not in description:
        return None
    described = dict(description[CASCADE])
    depth = described.pop("depth", None)
    if not isinstance(depth, int) or depth < 1:
        raise ModelUnsupported(
            f"{folder / 'afterclick.json'}: cascade: got the depth {depth!r}, expected a number of candidates; train "
            "the model again with `afterclick train`"
        )
    return CascadeStage(read(folder, described, names, FIRST_STAGE_FILE), depth)


class FusedScorer:
    """A scorer's scores, fused with the requests' features; see `Scorer` for the contract.

    A request without features, as an upstream recommender sends it, keeps the model's own scores. Several threads may
    use it if they may use the base.

    In a cascade, the candidates that the model does not read come after those that it reads, in the order of the first
    stage. So a score there depends on which candidates the request has, but not on other requests.

    Parameters
    ----------
    name : str
        The model as it was named.
    base : Scorer, optional
        Reads the texts; None for features alone.
    head : FusionHead
    feature_set : FeatureSet
        What the head was trained on.
    first : CascadeStage, optional
        None: the base reads all candidates.
    """

    def __init__(
        self,
        name: str,
        base: Scorer | None,
        head: FusionHead,
        feature_set: FeatureSet,
        first: CascadeStage | None = None,
    ) -> None:
        self.name = name
        self.feature_set = feature_set
        self.base = base
        self.placement = base.placement if base else Placement("cpu", "float32", "it reads no texts")
        self.usage = base.usage if base else Usage()
        self.reads_events = base.reads_events if base else True  # it reads neither, and events cost less
        self._head: FusionHead | OnlineHead = head
        self.first = first
        self._inputs: FIFOCache[str, HeadInputs] = FIFOCache(MAX_LISTS)  # by list id, where the head learns
        self._posterior: Posterior | None = None
        self._draws: dict[str, Floats] = {}  # by list id, until they are taken
        self._lock = threading.Lock()  # of the head and its inputs

    def start(self, learning: bool, exploring: bool) -> None:
        """Start what the settings ask for."""
        if learning:
            self.start_learning()
        if exploring:
            self.start_exploring()

    def start_learning(self) -> None:
        """Let the head learn from feedback from now on."""
        if isinstance(self._head, FusionHead):
            self._head = OnlineHead(self._head)
            self._head.posterior = self._posterior

    def start_exploring(self) -> None:
        """Let lists that are scored with a seed have draws from now on."""
        if self._posterior is None:
            head = self._head.frozen if isinstance(self._head, OnlineHead) else self._head
            self._posterior = Posterior(len(head.linear), len(head.out))
        if isinstance(self._head, OnlineHead):
            self._head.posterior = self._posterior

    def take_draws(self, list_ids: Sequence[str]) -> list[Floats | None]:
        """See `Explorer.take_draws`."""
        with self._lock:
            return [self._draws.pop(list_id, None) for list_id in list_ids]

    @property
    def learning(self) -> LearningTotals | None:
        """The totals of learning so far; None if it does not learn."""
        return replace(self._head.learning) if isinstance(self._head, OnlineHead) else None

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        """See `Learner.learn`; feedback on a list that is forgotten or had no features is ignored."""
        if not isinstance(self._head, OnlineHead):
            return
        with self._lock:
            for choice in feedback:
                inputs = self._inputs.get(choice.list_id)
                if inputs is not None:
                    self._learn(self._head, inputs, choice)

    @staticmethod
    def _learn(head: OnlineHead, inputs: HeadInputs, choice: ListFeedback) -> None:
        """Learn from the shown candidates that the model read; from nothing if it did not read the chosen one."""
        row_of = {candidate: row for row, candidate in enumerate(inputs.read.tolist())}
        shown = [position for position, candidate in enumerate(choice.shown) if candidate in row_of]
        if choice.chosen in shown:
            rows = [row_of[choice.shown[position]] for position in shown]
            head.learn(inputs.scores[rows], inputs.features[rows], shown.index(choice.chosen))

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """See `Scorer.prepare`."""
        if self.base:
            self.base.prepare(texts, events)

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`."""
        if self.base:
            self.base.forget(users)
        with self._lock:
            if users is None:
                self._inputs.clear()
                return
            forgotten = set(users)
            for list_id in [list_id for list_id, inputs in self._inputs.items() if inputs.user in forgotten]:
                del self._inputs[list_id]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Floats]:
        """See `Scorer.score`."""
        read = [self._read(request) for request in requests]
        narrowed = [
            request
            if len(indices) == len(request.candidates)
            else replace(request, candidates=[request.candidates[index] for index in indices.tolist()])
            for request, indices in zip(requests, read, strict=True)
        ]
        try:
            results: Sequence[Floats | Unscored] = self._base_scores(narrowed)
        except NotScored as error:
            raise NotScored(str(error), self._fused(requests, read, error.results)) from error
        return [fused for fused in self._fused(requests, read, results) if not isinstance(fused, str)]

    def _read(self, request: ScoreRequest) -> NDArray[np.intp]:
        """Indices of the candidates that the model reads, ascending."""
        count = len(request.candidates)
        if self.first is None or request.features is None or count <= self.first.depth:
            return np.arange(count)
        order = np.argsort(-self.first.scores(request.features), kind="stable")
        return np.sort(order[: self.first.depth])

    def _base_scores(self, requests: Sequence[ScoreRequest]) -> list[Floats]:
        if self.base:
            return self.base.score(requests)
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        return [np.zeros(len(request.candidates), np.float32) for request in requests]

    def _fused(
        self,
        requests: Sequence[ScoreRequest],
        read: Sequence[NDArray[np.intp]],
        results: Sequence[Floats | Unscored],
    ) -> list[Floats | Unscored]:
        with self._lock:
            return list(map(self._fuse, requests, read, results))

    def _fuse(self, request: ScoreRequest, read: NDArray[np.intp], scores: Floats | Unscored) -> Floats | Unscored:
        if isinstance(scores, str) or request.features is None:
            return scores
        features = request.features
        if self.first is not None:
            by_features = self.first.scores(features)
            features = np.concatenate([features, by_features[:, None].astype(np.float16)], axis=1)
        if isinstance(self._head, OnlineHead) and request.list_id:
            self._inputs[request.list_id] = HeadInputs(request.user, scores, features[read], read)
        fused = whole = self._head(scores, features[read])
        if len(read) < len(request.candidates):
            whole = _below(by_features, read, fused)
        if self._posterior is not None and request.seed is not None:
            self._draws[request.list_id] = self._drawn(self._posterior, request.seed, whole, features, read, scores)
        return whole

    def _drawn(
        self, posterior: Posterior, seed: int, whole: Floats, features: Features, read: NDArray[np.intp], scores: Floats
    ) -> Floats:
        """Draws of all candidates; of those that the model did not read, only the items' own appeal is drawn."""
        phi = self._head.last_layer(self._head.inputs(scores, features[read]))
        of_all = np.zeros((len(whole), phi.shape[1]), np.float32)
        of_all[read] = phi
        newness = features[:, self.feature_set.names.index(NEWNESS)].astype(np.float32)
        return posterior.draws(whole, of_all, newness, seed)


def _below(by_features: Floats, read: NDArray[np.intp], fused: Floats) -> Floats:
    """The scores of all candidates: those that the model did not read are below the others, by their features."""
    left = np.delete(np.arange(len(by_features)), read)
    finite = fused[np.isfinite(fused)]
    floor = (finite.min() if len(finite) else 0.0) - 1.0
    scores = np.empty_like(by_features)
    scores[read], scores[left] = fused, floor - (by_features[left].max() - by_features[left])
    return scores
