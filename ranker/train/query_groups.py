"""Query groups: what a ranker is trained on, each one user's context, the candidates, and which of them are relevant.

The arrays are compact, for there are many groups: candidates are indices of texts, features have half precision. Knows
neither models nor the place where groups come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.describe import is_about_an_item
from encoders.interest import Vector
from ranker.evaluation import measures
from ranker.evaluation.measures import K
from ranker.features import NAMES, Features
from ranker.score import ScoreRequest

NO_ITEM = -1
SYNTHETIC_LINES = 8
_LISTS = ("texts", "event_texts", "contexts", "feature_names")
COUNTERS = ("co_visited", "popularity", "trend")
"""Features that are counters by themselves: a model must rank better than any of them."""


@dataclass(frozen=True, eq=False)
class QueryGroups:
    """Query groups in the order of time.

    Attributes
    ----------
    texts : list of str
        Of all items.
    event_texts : list of str
        The texts of the same items in events.
    contexts : list of str, one a group
        The user's history, as serving renders it.
    users : (groups,) int32
        A number for each user, the same in all groups of the user.
    events : list of ndarray of int32, one a group
        The same history as indices in `event_texts`, newest last.
    candidates : (groups, width) int32
        Indices in `texts`, the candidates first; `NO_ITEM` where a group has fewer than `width`.
    labels : (groups, width) bool
        The relevance labels: whether the user chose the candidate.
    relevant_counts : (groups,) int32
        How many items the user chose, candidates or not; at least 1.
    is_cold : (groups, width) bool
        Whether a candidate had fewer than `COLD_EVENTS` events when the user was asked.
    cold_counts : (groups,) int32
        How many of the items that the user chose had so few.
    retrieval_scores : (groups, width) float32
        What recall ordered the candidates by, higher is better.
    features : (groups, width, len(feature_names)) float16
    feature_names : tuple of str
        `NAMES`, then the columns of learnt sources.
    """

    texts: list[str]
    event_texts: list[str]
    contexts: list[str]
    users: npt.NDArray[np.int32]
    events: list[npt.NDArray[np.int32]]
    candidates: npt.NDArray[np.int32]
    labels: npt.NDArray[np.bool_]
    relevant_counts: npt.NDArray[np.int32]
    is_cold: npt.NDArray[np.bool_]
    cold_counts: npt.NDArray[np.int32]
    retrieval_scores: Vector
    features: Features
    feature_names: tuple[str, ...] = NAMES

    def __len__(self) -> int:
        return len(self.contexts)

    def __getitem__(self, indices: npt.NDArray[np.intp]) -> QueryGroups:
        return QueryGroups(
            self.texts,
            self.event_texts,
            [self.contexts[index] for index in indices],
            self.users[indices],
            [self.events[index] for index in indices],
            self.candidates[indices],
            self.labels[indices],
            self.relevant_counts[indices],
            self.is_cold[indices],
            self.cold_counts[indices],
            self.retrieval_scores[indices],
            self.features[indices],
            self.feature_names,
        )

    @property
    def is_candidate(self) -> npt.NDArray[np.bool_]:
        """(groups, width) bool: false where a group has no candidate."""
        mask: npt.NDArray[np.bool_] = self.candidates != NO_ITEM
        return mask

    @property
    def learnable(self) -> npt.NDArray[np.intp]:
        """Indices of the groups with at least one relevant and one irrelevant candidate: only they teach something."""
        has_both = self.labels.any(axis=1) & (self.is_candidate & ~self.labels).any(axis=1)
        return np.flatnonzero(has_both)

    def request(self, index: int) -> ScoreRequest:
        """The request to a scorer for one group. Its scores belong to the first columns, which hold the candidates."""
        candidates = self.candidates[index]
        return ScoreRequest(
            self.contexts[index],
            [self.texts[item] for item in candidates[candidates != NO_ITEM]],
            events=[self.event_texts[item] for item in self.events[index].tolist()],
        )

    def ranked(self, scores: Vector, limit: int = K) -> npt.NDArray[np.intp]:
        """The columns of each group's `limit` best candidates by scores, (groups, min(limit, width)), best first.

        Ties keep the order of the columns. NaN counts as the lowest score.
        """
        comparable = np.where(self.is_candidate, np.nan_to_num(scores, nan=-np.inf, neginf=-np.inf), -np.inf)
        return np.argsort(-comparable, axis=1, kind="stable")[:, :limit]

    def ndcg(self, scores: Vector) -> npt.NDArray[np.float64]:
        """NDCG@10 of each group ordered by scores, (groups, width); (groups,) float64.

        A relevant item that recall missed counts against it, as in an evaluation.
        """
        labels = np.take_along_axis(self.labels, self.ranked(scores), axis=1)
        return measures.ndcg(labels, self.relevant_counts, K)

    def synthetic_requests(self, count: int, candidates: int, seed: int) -> list[ScoreRequest]:
        """Requests that resemble these groups and belong to no user: each line, text and feature is drawn by itself.

        Events are not those of the lines. No line is a user's own words, or says where a user was.
        """
        random = np.random.default_rng(seed)
        lines = sorted({line for text in self.contexts for line in text.splitlines() if is_about_an_item(line)})
        rows, events = self.features[self.is_candidate], np.concatenate(self.events)
        return [
            ScoreRequest(
                "\n".join(lines[index] for index in random.integers(len(lines), size=SYNTHETIC_LINES)),
                [self.texts[index] for index in random.integers(len(self.texts), size=candidates)],
                features=np.stack([random.choice(column, candidates) for column in rows.T], axis=1),
                events=[self.event_texts[item] for item in random.choice(events, SYNTHETIC_LINES).tolist()],
            )
            for _ in range(count)
        ]

    def digest(self) -> str:
        """SHA-256 of the whole content: tells which data a model was trained on."""
        hashed = hashlib.sha256()
        for text in (*self.texts, *self.event_texts, *self.contexts):
            hashed.update(text.encode("utf-8", "surrogatepass") + b"\0")
        arrays = (self.candidates, self.labels, self.relevant_counts, self.retrieval_scores, self.features)
        for array in (*self.events, *arrays):
            hashed.update(np.ascontiguousarray(array).tobytes())
        return hashed.hexdigest()

    def save(self, file: Path) -> None:
        """Write the whole content to a `.npz`, with the texts as JSON in it."""
        packed: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _LISTS:
            packed[name] = np.frombuffer(json.dumps(packed[name]).encode("ascii"), np.uint8)
        packed["events"] = np.concatenate([np.empty(0, np.int32), *self.events])
        np.savez(file, event_counts=[len(events) for events in self.events], **packed)

    @staticmethod
    def load(file: Path) -> QueryGroups:
        """Read what `save` wrote. The file holds arrays only, nothing that could be executed."""
        with np.load(file, allow_pickle=False) as packed:
            values = {name: packed[name] for name in packed.files}
        counts = values.pop("event_counts")
        values["events"] = np.split(values["events"], np.cumsum(counts)[:-1])[: len(counts)]
        lists = {name: json.loads(values[name].tobytes()) for name in _LISTS}
        return QueryGroups(**values | lists | {"feature_names": tuple(lists["feature_names"])})


@dataclass(frozen=True, eq=False)
class ScoredGroups:
    """Query groups and a model's scores of their candidates.

    Attributes
    ----------
    groups : QueryGroups
    scores : (groups, width) float32
        0 where a group has no candidate.
    """

    groups: QueryGroups
    scores: Vector

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, indices: npt.NDArray[np.intp]) -> ScoredGroups:
        return ScoredGroups(self.groups[indices], self.scores[indices])

    @staticmethod
    def unscored(groups: QueryGroups) -> ScoredGroups:
        """The groups with a score of 0 for each candidate: a model without an opinion."""
        return ScoredGroups(groups, np.zeros(groups.candidates.shape, np.float32))

    def ndcg(self) -> float:
        """Mean NDCG@10 of the groups ordered by the scores."""
        return float(self.groups.ndcg(self.scores).mean())


def reference_ndcg(groups: QueryGroups) -> dict[str, float]:
    """Mean NDCG@10 of the orders that a model must not rank worse than: recall's own, and each counter's."""
    columns = {name: groups.features[:, :, NAMES.index(name)].astype(np.float32) for name in COUNTERS}
    return {
        "candidates as given": float(groups.ndcg(groups.retrieval_scores).mean()),
        **{f"counter {name}": float(groups.ndcg(column).mean()) for name, column in columns.items()},
    }


def merge(shops: Sequence[QueryGroups]) -> QueryGroups:
    """Merge the query groups of several shops, ordered by their position within their own shop.

    So the newest groups of all shops stand last.
    """
    width = max(groups.candidates.shape[1] for groups in shops)
    offsets = np.cumsum([0, *(len(groups.texts) for groups in shops)])
    users = np.cumsum([0, *(int(groups.users.max(initial=-1)) + 1 for groups in shops)])
    renumbered = [
        replace(
            groups,
            users=(groups.users + first_user).astype(np.int32),
            candidates=np.where(groups.is_candidate, groups.candidates + offset, NO_ITEM).astype(np.int32),
            events=[(events + offset).astype(np.int32) for events in groups.events],
        )
        for groups, offset, first_user in zip(shops, offsets, users, strict=False)
    ]

    def stacked(name: str) -> Any:
        arrays = [getattr(groups, name) for groups in renumbered]
        return np.concatenate([_padded(array, width, NO_ITEM if name == "candidates" else 0) for array in arrays])

    merged = QueryGroups(
        texts=[text for groups in shops for text in groups.texts],
        event_texts=[text for groups in shops for text in groups.event_texts],
        contexts=[context for groups in shops for context in groups.contexts],
        users=stacked("users"),
        events=[events for groups in renumbered for events in groups.events],
        candidates=stacked("candidates"),
        labels=stacked("labels"),
        relevant_counts=stacked("relevant_counts"),
        is_cold=stacked("is_cold"),
        cold_counts=stacked("cold_counts"),
        retrieval_scores=stacked("retrieval_scores"),
        features=stacked("features"),
        feature_names=shops[0].feature_names,
    )
    relative_position = np.concatenate([np.arange(len(groups)) / len(groups) for groups in shops])
    return merged[np.argsort(relative_position, kind="stable")]


def _padded(array: npt.NDArray[Any], width: int, fill: int) -> npt.NDArray[Any]:
    """The array with `width` columns, if it has columns at all."""
    if array.ndim == 1:
        return array
    padding = [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(array, padding, constant_values=fill)
