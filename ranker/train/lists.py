"""The lists to learn from: what was asked, which candidates there were, which of them the user then chose.

Compact, for there are many: candidates are numbers of texts, features half precision. Knows neither models nor where
lists come from; `streams.offline.training_material` builds them, the rest of this package learns from them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from ranker.evaluation.protocols import Case, Interaction, basket_numbers
from ranker.features import NAMES, Features
from ranker.score import ScoreRequest

NOBODY = -1
MADE_UP_LINES = 8
SHARPNESS = 2.0
"""Chosen by us: of 100 normal scores the softmax then gives about seven tenths to the ten best."""
K = 10
COUNTERS = ("co_visited", "popularity", "trend")
"""Features that are counters by themselves: a model must rank better than any of them."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists in the order of time.

    Attributes
    ----------
    texts : of all items.
    contexts : (lists,) what each user had done, as serving renders it.
    candidates : (lists, most) int32, places in `texts`; `NOBODY` where a list has fewer.
    chosen : (lists, most) bool.
    targets : (lists,) int32, all that the user chose, candidates or not; at least 1.
    priors : (lists, most) float32, the order in which recall gave them, higher is better.
    features : (lists, most, len(NAMES)) float16.
    """

    texts: list[str]
    contexts: list[str]
    candidates: npt.NDArray[np.int32]
    chosen: npt.NDArray[np.bool_]
    targets: npt.NDArray[np.int32]
    priors: Vector
    features: Features

    def __len__(self) -> int:
        return len(self.contexts)

    def __getitem__(self, which: npt.NDArray[np.intp]) -> Lists:
        return Lists(
            self.texts,
            [self.contexts[place] for place in which],
            self.candidates[which],
            self.chosen[which],
            self.targets[which],
            self.priors[which],
            self.features[which],
        )

    @property
    def learnable(self) -> npt.NDArray[np.intp]:
        """Places of the lists that teach something: with a chosen candidate, and one that was not."""
        some = self.chosen.any(axis=1) & ((self.candidates != NOBODY) & ~self.chosen).any(axis=1)
        return np.flatnonzero(some)

    def request(self, place: int) -> ScoreRequest:
        """What a scorer is asked for one list: as many scores come back as it has candidates, which stand first."""
        candidates = self.candidates[place]
        return ScoreRequest(self.contexts[place], [self.texts[item] for item in candidates[candidates != NOBODY]])

    def made_up(self, count: int, candidates: int, seed: int) -> list[ScoreRequest]:
        """Requests as these lists have them, but of nobody: each line, text and feature is drawn by itself."""
        random = np.random.default_rng(seed)
        lines = sorted({line for context in self.contexts for line in context.splitlines()})
        rows = self.features[self.candidates != NOBODY]
        return [
            ScoreRequest(
                "\n".join(lines[place] for place in random.integers(len(lines), size=MADE_UP_LINES)),
                [self.texts[place] for place in random.integers(len(self.texts), size=candidates)],
                features=np.stack([random.choice(column, candidates) for column in rows.T], axis=1),
            )
            for _ in range(count)
        ]

    def digest(self) -> str:
        """SHA-256 of everything in here: which data a model was trained on."""
        hashed = hashlib.sha256()
        for text in (*self.texts, *self.contexts):
            hashed.update(text.encode("utf-8", "surrogatepass") + b"\0")
        for array in (self.candidates, self.chosen, self.targets, self.priors, self.features):
            hashed.update(np.ascontiguousarray(array).tobytes())
        return hashed.hexdigest()

    def save(self, file: Path) -> None:
        """Write everything in here to a `.npz`; texts as JSON in it."""
        packed: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("texts", "contexts"):
            packed[name] = np.frombuffer(json.dumps(packed[name]).encode("ascii"), np.uint8)
        np.savez(file, **packed)

    @staticmethod
    def read(file: Path) -> Lists:
        """What `save` wrote: arrays, and nothing that could run."""
        with np.load(file, allow_pickle=False) as packed:
            values = {name: packed[name] for name in packed.files}
        return Lists(**values | {name: json.loads(values[name].tobytes()) for name in ("texts", "contexts")})


def ndcg(scores: Vector, lists: Lists) -> npt.NDArray[np.float64]:
    """NDCG@10 of each list ordered by scores, (lists, most); ties keep the candidates' order.

    `ranker.evaluation.measures.ndcg_at` for all lists at once; what recall did not find counts against it, as in an
    evaluation.
    """
    if not len(lists):
        return np.zeros(0)
    masked = np.where(lists.candidates == NOBODY, -np.inf, np.nan_to_num(scores, nan=-np.inf, neginf=-np.inf))
    best = np.argsort(-masked, axis=1, kind="stable")[:, :K]
    discount = 1 / np.log2(np.arange(2, K + 2))
    gain = np.take_along_axis(lists.chosen, best, axis=1) @ discount[: best.shape[1]]
    ideal: npt.NDArray[np.float64] = np.cumsum(discount)[np.minimum(lists.targets, K) - 1]
    return gain / ideal


def references(lists: Lists) -> dict[str, float]:
    """Mean NDCG@10 of what a model must not be worse than: the candidates as given, and each counter."""
    columns = {name: lists.features[:, :, NAMES.index(name)].astype(np.float32) for name in COUNTERS}
    return {
        "candidates as given": float(ndcg(lists.priors, lists).mean()),
        **{f"counter {name}": float(ndcg(column, lists).mean()) for name, column in columns.items()},
    }


def joined(several: Sequence[Lists]) -> Lists:
    """Lists of several shops as one, in the order of how far each shop's own were: the newest of all stand last."""
    most = max(lists.candidates.shape[1] for lists in several)
    begins = np.cumsum([0, *(len(lists.texts) for lists in several)])
    numbered = [
        replace(
            lists, candidates=np.where(lists.candidates == NOBODY, NOBODY, lists.candidates + begin).astype(np.int32)
        )
        for lists, begin in zip(several, begins, strict=False)
    ]

    def stacked(name: str) -> Any:
        arrays = [getattr(lists, name) for lists in numbered]
        empty = NOBODY if name == "candidates" else 0
        wide = [
            np.pad(one, [(0, 0), (0, most - one.shape[1]), *[(0, 0)] * (one.ndim - 2)], constant_values=empty)
            if one.ndim > 1
            else one
            for one in arrays
        ]
        return np.concatenate(wide)

    whole = Lists(
        texts=[text for lists in several for text in lists.texts],
        contexts=[context for lists in several for context in lists.contexts],
        **{name: stacked(name) for name in ("candidates", "chosen", "targets", "priors", "features")},
    )
    how_far = np.concatenate([np.arange(len(lists)) / len(lists) for lists in several])
    return whole[np.argsort(how_far, kind="stable")]


def taught(lists: Lists, scores: Vector) -> tuple[Lists, Vector]:
    """The same lists as a teacher sees them: its ten best of each are what was chosen.

    Returns
    -------
    The lists, and its scores, (lists, most), brought to a standard deviation within lists of `SHARPNESS`: cosines lie
    so near to each other that a softmax would teach nothing, a decoder's log-odds so far that it would teach one place.
    """
    there = lists.candidates != NOBODY
    count = there.sum(axis=1, keepdims=True).clip(min=1)
    centred = np.where(there, scores - np.where(there, scores, 0).sum(axis=1, keepdims=True) / count, 0)
    spread = float(np.sqrt((centred**2).sum() / max(1, there.sum())))
    scores = np.asarray(centred * (SHARPNESS / spread if spread else 0), np.float32)
    masked = np.where(lists.candidates == NOBODY, -np.inf, scores)
    best = np.argsort(-masked, axis=1, kind="stable")[:, :K]
    chosen = np.zeros_like(lists.chosen)
    np.put_along_axis(chosen, best, True, axis=1)
    chosen &= lists.candidates != NOBODY
    return replace(lists, chosen=chosen, targets=chosen.sum(axis=1, dtype=np.int32)), scores


def cases(log: Sequence[Interaction], repeat_purchases: bool, seed: int) -> list[Case]:
    """The questions to learn from: at each moment of a user, what else they chose in that basket or session.

    A moment is an event of a later time than the user's one before: the clicks of a session are one each, the lines of
    an invoice are one. It is asked before it, and once more from one of its later lines on, drawn by the seed: a list
    is looked at before a visit, and within it. The answer is not the next event alone, for it is looked at for longer.

    Parameters
    ----------
    repeat_purchases : what the user bought before is asked for, too; what they only looked at is in any case.
    """
    rng = random.Random(seed)
    numbers = basket_numbers(log)
    of_user: defaultdict[str, list[int]] = defaultdict(list)
    for place, event in enumerate(log):
        of_user[event.user].append(place)
    found = []
    for user, places in of_user.items():
        baskets: defaultdict[int, list[int]] = defaultdict(list)
        for place in places:
            baskets[numbers[place]].append(place)
        bought: set[str] = set()
        for time_ms, events in groupby(places, lambda place: log[place].time_ms):
            first, *later = events
            asked = {first} if first != places[0] else set()
            if later:
                asked.add(rng.choice(later))
            for place in (first, *later):
                if place in asked:
                    rest = {log[other].item for other in baskets[numbers[place]] if other >= place}
                    targets = rest if repeat_purchases else rest - bought
                    if targets:
                        found.append(Case(user, place, time_ms, frozenset(targets)))
                if log[place].kind == "purchase":
                    bought.add(log[place].item)
    return found
