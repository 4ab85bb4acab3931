"""The first stage of a cascade: a head of the features alone chooses which candidates the language model reads.

A language model costs most of a list, and what stands far below by the features seldom comes into the top ten by its
words. The first stage's score stays an input of the head over the language model, which starts with the first stage's
order: with few scored groups, or a model that says nothing, the lists are those of the features. Knows no language
model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from ranker import processes
from ranker.fusion.head import FIRST_STAGE, FusionHead, load_head
from ranker.progress import Progress, StageProgress
from ranker.train.cold_items import fit_lift, lifted
from ranker.train.fit import train_validation_split
from ranker.train.head_fit import HeadSettings, best_epochs, fit_head, fused
from ranker.train.query_groups import NO_ITEM, QueryGroups, ScoredGroups

DECODER_DEPTH = 20
"""Candidates that a decoder reads unless told otherwise; chosen by us: twice the top ten that are measured."""
FIRST_STAGE_SHARE = 0.1
"""Of the time until the language model has scored: for its fits."""
VALIDATED_SHARE = 0.6
"""Of the time: for the fit that is validated."""
FILES = ("first-stage-validated.safetensors", "first-stage.safetensors")


@dataclass(frozen=True, eq=False)
class FirstStage:
    """A head of the features alone, twice, and how many candidates it lets through.

    Attributes
    ----------
    depth : int
    validated : FusionHead
        Fitted on the older groups: it chooses the candidates of training and validation.
    served : FusionHead
        Fitted on all groups.
    """

    depth: int
    validated: FusionHead
    served: FusionHead

    def narrowed(self, groups: QueryGroups) -> QueryGroups:
        """The groups with their best `depth` candidates, and their scores as a further feature."""
        scores = _scores(self.validated, groups)
        columns = groups.ranked(scores, self.depth)

        def kept(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            indices = columns if array.ndim == 2 else columns[:, :, None]
            return np.take_along_axis(array, indices, axis=1)

        values = {field.name: getattr(groups, field.name) for field in fields(groups)}
        of_candidates: Any = {name: kept(value) for name, value in values.items() if getattr(value, "ndim", 1) > 1}
        return _with_column(replace(groups, **of_candidates), kept(scores))

    def as_served(self, groups: QueryGroups) -> QueryGroups:
        """Narrowed groups with the scores of the head that is served."""
        without = replace(groups, features=groups.features[:, :, :-1], feature_names=groups.feature_names[:-1])
        return _with_column(without, _scores(self.served, without))

    def save(self, folder: Path) -> None:
        """Write both heads into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, head in zip(FILES, (self.validated, self.served), strict=True):
            head.save(folder, file)

    @staticmethod
    def load(folder: Path, depth: int) -> FirstStage | None:
        """Read what `save` wrote; None before that is complete."""
        if not (folder / FILES[-1]).is_file():
            return None
        return FirstStage(depth, *(load_head(folder / file) for file in FILES))


def fit_first_stage(groups: QueryGroups, depth: int, settings: HeadSettings, progress: Progress) -> FirstStage:
    """Fit a first stage.

    Parameters
    ----------
    groups : QueryGroups
        In the order of time. The newest validate.
    depth : int
        How many candidates of a group the language model will read.
    settings : HeadSettings
    progress : Progress
        In epochs of each fit.
    """
    scored = ScoredGroups.unscored(groups)
    older, newer = (scored[indices] for indices in train_validation_split(len(scored)))
    now = time.monotonic()
    validating = replace(settings, deadline=now + VALIDATED_SHARE * (settings.deadline - now))
    validated, curve = fit_head(older, newer, validating, progress)
    epochs, lift = best_epochs(curve, fused(validated, newer).ndcg()), fit_lift(validated, newer)
    served, _ = fit_head(scored, None, replace(settings, epochs=epochs), progress)
    return FirstStage(depth, *(lifted(head, groups, lift) for head in (validated, served)))


def first_stage(
    groups: QueryGroups, depth: int, settings: HeadSettings, folder: Path, stage: StageProgress
) -> FirstStage | None:
    """The first stage in a folder, fitted by the first process if it is not there; None without a depth.

    Parameters
    ----------
    groups : QueryGroups
    depth : int
        0: the language model reads all candidates.
    settings : HeadSettings
    folder : Path
    stage : StageProgress
    """
    if not depth:
        return None

    def fitted() -> None:
        if FirstStage.load(folder, depth) is None:
            fit_first_stage(groups, depth, settings, stage("Fitting the first stage")).save(folder)

    processes.by_first(fitted)
    return FirstStage.load(folder, depth)


def _scores(head: FusionHead, groups: QueryGroups) -> Vector:
    return fused(head, ScoredGroups.unscored(groups)).scores


def _with_column(groups: QueryGroups, scores: Vector) -> QueryGroups:
    column = np.where(groups.candidates == NO_ITEM, 0, scores).astype(np.float16)[:, :, None]
    features = np.concatenate([groups.features, column], axis=2)
    return replace(groups, features=features, feature_names=(*groups.feature_names, FIRST_STAGE))
