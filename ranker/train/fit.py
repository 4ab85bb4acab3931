"""From lists and a scorer to a fused model that is better than what is there already, or to a refusal.

Newer lists judge what older ones taught; once the settings are chosen, the last fit learns from all. Called by
`afterclick train`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders.errors import AfterclickError
from encoders.interest import Vector
from encoders.models import source as model_source
from ranker.fusion.head import FusionHead, describe
from ranker.scorers.template import FILE
from ranker.train import fusion_fit
from ranker.train.curve import svg
from ranker.train.fusion_fit import Epoch, Progress, fused
from ranker.train.lists import Lists, ndcg, references
from ranker.train.losses import LOSSES

VALIDATION_SHARE = 0.15
"""Of the lists, the newest; chosen by us: 1,000 of 7,000 lists tell NDCG@10 to about .004."""
HEAD_EPOCHS = 40
"""At most; it stops by itself far earlier."""
FITS = (0.4, 0.65, 1.0)
"""Of the time that there is: so much may have gone after the head, the one without a model, and the last."""
CURVE = "training.svg"


class ModelRefused(AfterclickError):
    """What was trained ranks worse than what is there without it; nothing was written that could be served."""


@dataclass(frozen=True)
class Trained:
    """A head, how it came about, and NDCG@10 on the validation part: `ours`, `parts` of it, and the `references`."""

    head: FusionHead
    curve: list[Epoch]
    ours: float
    parts: Mapping[str, float]
    references: Mapping[str, float]


def parted(lists: Lists) -> tuple[Lists, Lists]:
    """The older lists to learn from, the newer ones to judge by."""
    begin = round(len(lists) * (1 - VALIDATION_SHARE))
    return lists[np.arange(begin)], lists[np.arange(begin, len(lists))]


def fit(
    scores: Vector,
    lists: Lists,
    loss: str,
    seed: int,
    progress: Progress,
    dropout: float = 0.0,
    deadline: float = float("inf"),
) -> Trained:
    """Fit a head on a model's scores of all lists, judge it, and fit it again on everything.

    `dropout`, `deadline`: see `fusion_fit.fit`.

    Raises
    ------
    ModelRefused
        It ranks the validation part worse than the candidates as given, or than a counter.
    """
    older, newer = parted(lists)
    if not len(older.learnable) or not len(newer.learnable):
        raise ModelRefused(
            f"got {len(older.learnable)} lists to learn from and {len(newer.learnable)} to judge by in which a "
            "candidate was chosen, expected at least 1 of each; give it more events, or raise candidates.limit"
        )
    count, known = len(older), references(newer)
    parts = (scores[:count], older), (scores[count:], newer)
    begun = time.monotonic()
    ends = [begun + (deadline - begun) * share for share in FITS]
    head, curve = fusion_fit.fit(*parts[0], parts[1], LOSSES[loss], HEAD_EPOCHS, seed, progress, dropout, ends[0])
    ours = float(ndcg(fused(head, *parts[1]), newer).mean())
    nothing = np.zeros_like(scores)
    silent, _ = fusion_fit.fit(
        nothing[:count], older, (nothing[count:], newer), LOSSES[loss], HEAD_EPOCHS, seed, progress, dropout, ends[1]
    )
    ablated = {
        "behaviour alone": float(ndcg(fused(silent, nothing[count:], newer), newer).mean()),
        "language model alone": float(ndcg(scores[count:], newer).mean()),
    }
    best = max(known, key=lambda name: known[name])
    if not ours >= known[best]:
        raise ModelRefused(
            f"got NDCG@10 {ours:.4f} on {len(newer):,} newer lists, expected at least {known[best]:.4f}, which "
            f"'{best}' has ({_told(known | ablated)}); nothing was written: train on more events, or check that items "
            "and events belong together"
        )
    epochs = 1 + int(np.argmax([epoch.ndcg for epoch in curve]))
    last, _ = fusion_fit.fit(scores, lists, None, LOSSES[loss], epochs, seed, progress, dropout, ends[2])
    return Trained(last, curve, ours, ablated, known)


def write(folder: Path, base: str | None, trained: Trained, tuned: Sequence[Epoch], facts: Mapping[str, Any]) -> None:
    """Put the head and what is known of it into a model's folder.

    Parameters
    ----------
    base : the model whose scores it takes, `none` for no model; None if that model is in the folder.
    tuned : the curve of that model's own training, if there was any.
    facts : for `trained` in `afterclick.json`, beside the metrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained.head.save(folder)
    described = model_source.read_json(folder, FILE, dict) or {}
    described.pop("base", None)
    described |= {"fusion": describe()} | ({} if base is None else {"base": base})
    described["trained"] = {
        **facts,
        "validation_ndcg_at_10": {
            "fused": round(trained.ours, 6),
            **{name: round(value, 6) for name, value in {**trained.parts, **trained.references}.items()},
        },
        "fusion_curve": [[round(epoch.loss, 6), round(epoch.ndcg, 6)] for epoch in trained.curve],
        "model_curve": [[round(epoch.loss, 6), round(epoch.ndcg, 6)] for epoch in tuned],
    }
    (folder / FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    curve = list(tuned) or trained.curve
    best = int(np.argmax([epoch.ndcg for epoch in curve]))
    title = "The language model, by look" if tuned else "The fusion head, by epoch"
    (folder / CURVE).write_text(svg(title, curve, trained.references, best), encoding="utf-8")


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
