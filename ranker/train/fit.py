"""From scored query groups to a fused model that ranks better than the references, or to a refusal.

The newer groups validate what was fitted on the older ones; once the settings are chosen, the last fit learns from all.
Knows no language model and no log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from encoders.errors import AfterclickError
from encoders.models import source as model_source
from ranker.fusion.head import CASCADE, FIRST_STAGE_FILE, FusionHead, cascade, describe
from ranker.progress import Progress
from ranker.recall.merge import FIXED, Merge
from ranker.recall.trained import MERGE
from ranker.scorers.template import FILE
from ranker.train.cold_items import ColdItems, cold_items, fit_lift, lifted
from ranker.train.curve import Epoch, svg
from ranker.train.head_fit import HeadSettings, best_epochs, fit_head, fused
from ranker.train.query_groups import ScoredGroups, reference_ndcg

if TYPE_CHECKING:
    from ranker.train.first_stage import FirstStage

VALIDATION_SHARE = 0.15
"""Share of the groups, the newest; chosen by us: 1,000 of 7,000 groups tell NDCG@10 to about .004."""
HEAD_SHARE, FEATURES_SHARE = 0.4, 0.65
"""Shares of the time that may have passed after the fit of the head, and of the head without a model."""
CURVE = "training.svg"


class ModelRefused(AfterclickError):
    """What was trained ranks worse than what is there without it; nothing was written that could be served."""


class TooLittleTime(ModelRefused):
    """There was no time to learn from enough query groups. More time would help: what is complete is kept."""


@dataclass(frozen=True)
class FittedHead:
    """A head, and how good it is.

    Attributes
    ----------
    head : FusionHead
        Fitted on all groups.
    features : tuple of str
        What it reads beside the model's score.
    curve : list of Epoch
        Of the fit on the older groups.
    ndcg : float
        NDCG@10 on the newer groups, of a head fitted on the older ones.
    parts : mapping of str to float
        The same without the model, and of the model without a head.
    references : mapping of str to float
        The same of the orders that the head must not rank worse than.
    cold_items : ColdItems
        NDCG@10 on the newer groups where cold items alone, or warm ones alone, are relevant.
    first : FirstStage, optional
        What chooses the candidates that the model reads; None if it reads all.
    """

    head: FusionHead
    features: tuple[str, ...]
    curve: list[Epoch]
    ndcg: float
    parts: Mapping[str, float]
    references: Mapping[str, float]
    cold_items: ColdItems
    first: FirstStage | None = None

    def all_ndcg(self) -> dict[str, float]:
        """NDCG@10 on the newer groups by name, the head's own first."""
        return {"fused": self.ndcg, **self.parts, **self.references}


def train_validation_split(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices of the older groups, to train on, and of the newer ones, to validate on."""
    begin = round(count * (1 - VALIDATION_SHARE))
    return np.arange(begin), np.arange(begin, count)


def fit(
    scored: ScoredGroups, settings: HeadSettings, progress: Progress, first: FirstStage | None = None
) -> FittedHead:
    """Fit a head on a model's scores, validate it, and fit it again on all groups.

    Parameters
    ----------
    scored : ScoredGroups
        In the order of time.
    settings : HeadSettings
        `deadline` is for all three fits together.
    progress : Progress
        In epochs of each fit.
    first : FirstStage, optional
        What narrowed the groups. The head then begins with its order.

    Raises
    ------
    ModelRefused
        There are too few groups, or the head ranks the newer groups worse than a reference.
    """
    older, newer = (scored[indices] for indices in train_validation_split(len(scored)))
    if not len(older.groups.learnable) or not len(newer.groups.learnable):
        raise ModelRefused(
            f"got {len(older.groups.learnable)} query groups to train on and {len(newer.groups.learnable)} to validate "
            "on in which a candidate was chosen, expected at least 1 of each; give it more events, or raise "
            "candidates.limit"
        )
    begun = time.monotonic()
    settings = replace(settings, starts_with_last=first is not None)

    def until(share: float) -> HeadSettings:
        return replace(settings, deadline=begun + (settings.deadline - begun) * share)

    head, curve = fit_head(older, newer, until(HEAD_SHARE), progress)
    unlifted = fused(head, newer).ndcg()
    lift = fit_lift(head, newer)
    ndcg = fused(lifted(head, newer.groups, lift), newer).ndcg()
    if first is None:
        unscored_older, unscored_newer = (ScoredGroups.unscored(part.groups) for part in (older, newer))
        features_head, _ = fit_head(unscored_older, unscored_newer, until(FEATURES_SHARE), progress)
        of_features = fused(features_head, unscored_newer).ndcg()
    else:
        of_features = ScoredGroups(newer.groups, newer.groups.features[:, :, -1].astype(np.float32)).ndcg()
    parts = {"features alone": of_features, "language model alone": newer.ndcg()}
    references = reference_ndcg(newer.groups)
    best = max(references, key=lambda name: references[name])
    if not ndcg >= references[best]:
        measured = ", ".join(f"{name} {value:.4f}" for name, value in (references | parts).items())
        raise ModelRefused(
            f"got NDCG@10 {ndcg:.4f} on {len(newer):,} newer query groups, expected at least {references[best]:.4f}, "
            f"which '{best}' has ({measured}); nothing was written: train on more events or query groups, or check "
            "that items and events belong together"
        )
    cold = cold_items(head, newer, lift, settings.seed)
    if first is not None:
        scored = ScoredGroups(first.as_served(scored.groups), scored.scores)
    final, _ = fit_head(scored, None, replace(settings, epochs=best_epochs(curve, unlifted)), progress)
    final = lifted(final, scored.groups, lift)
    return FittedHead(final, scored.groups.feature_names, curve, ndcg, parts, references, cold, first)


def write(
    folder: Path,
    base: str | None,
    fitted: FittedHead,
    tuning_curve: Sequence[Epoch],
    facts: Mapping[str, Any],
    merge: Merge,
) -> None:
    """Write the head, the merge, their description and the learning curve into a model's folder.

    Parameters
    ----------
    folder : Path
    base : str or None
        The model whose scores the head takes, `none` for no model; None if that model is in the folder.
    fitted : FittedHead
    tuning_curve : sequence of Epoch
        Of that model's own training, if there was any.
    facts : mapping
        For `trained` in `afterclick.json`, beside the figures.
    merge : Merge
        The merge that chose the candidates on which the head was fitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fitted.head.save(folder)
    description = model_source.read_json(folder, FILE, dict) or {}
    description.pop("base", None)
    description |= {"fusion": describe(fitted.features)} | ({} if base is None else {"base": base})
    if fitted.first is not None:
        fitted.first.served.save(folder, FIRST_STAGE_FILE)
        description[CASCADE] = cascade(fitted.features[:-1], fitted.first.depth)
    if merge != FIXED:
        description[MERGE] = merge.describe()
    description["trained"] = {
        **facts,
        "validation_ndcg_at_10": {name: round(value, 6) for name, value in fitted.all_ndcg().items()},
        "cold_items": fitted.cold_items.facts(),
        "fusion_curve": [[round(epoch.loss, 6), round(epoch.ndcg, 6)] for epoch in fitted.curve],
        "model_curve": [[round(epoch.loss, 6), round(epoch.ndcg, 6)] for epoch in tuning_curve],
    }
    (folder / FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    curve = list(tuning_curve) or fitted.curve
    best = int(np.argmax([epoch.ndcg for epoch in curve]))
    title = "The language model, by validation" if tuning_curve else "The fusion head, by epoch"
    (folder / CURVE).write_text(svg(title, curve, fitted.references, best), encoding="utf-8")
