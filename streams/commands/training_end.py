"""The end of every training run: the model scores the query groups, then there is a folder to serve, or a refusal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ranker.load import load_scorer
from ranker.progress import Progress
from ranker.score import Scorer
from ranker.scorers import known_answers
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.fit import FittedHead, ModelRefused, write
from ranker.train.query_groups import QueryGroups, ScoredGroups
from ranker.train.scoring import score
from streams.offline.training_data import check_count
from streams.settings import Settings

KNOWN_LISTS, KNOWN_CANDIDATES = 4, 16
"""Of the known answers: some seconds on a large model, and enough to tell a wrong one."""


@dataclass(frozen=True)
class TrainedModel:
    """The result of a training run.

    Attributes
    ----------
    groups : QueryGroups
        On which the head was fitted.
    base : str or None
        The model whose scores the head takes, `none` for no model; None if the checkpoint holds that model.
    fitted : FittedHead
    tuning_curve : list of Epoch
        Of the language model; empty if it stayed as it was.
    facts : mapping
        For `trained` in `afterclick.json`, the seed among them.
    """

    groups: QueryGroups
    base: str | None
    fitted: FittedHead
    tuning_curve: list[Epoch]
    facts: Mapping[str, Any]


def score_in_time(
    scorer: Scorer | None, groups: QueryGroups, seed: int, deadline: float, progress: Progress
) -> ScoredGroups:
    """Score as many groups as there is time for, drawn from the whole log, and keep the order of time.

    Parameters
    ----------
    scorer : Scorer or None
        None: every score is 0.
    groups : QueryGroups
    seed : int
        Of the draw.
    deadline : float
        On the clock of `time.monotonic()`, in seconds.
    progress : Progress
        In groups.

    Raises
    ------
    ModelRefused
        There was time for too few.
    """
    if scorer is None:
        return ScoredGroups.unscored(groups)
    order = np.random.default_rng(seed).permutation(len(groups))
    scored = score(scorer, groups[order], deadline, progress)
    check_count(len(scored), len(groups), f"scores of {scorer.name} for")
    return scored[np.argsort(order[: len(scored)])]


def finish(out: Path, checkpoint: Checkpoint, settings: Settings, trained: TrainedModel) -> None:
    """Write the model's folder, with the model of the checkpoint if there is one, and remove the checkpoint."""
    checkpoint.move_model(out)
    write(out, trained.base, trained.fitted, trained.tuning_curve, trained.facts)
    served = load_scorer(str(out), settings.ranker.device, settings.ranker.dtype, in_training=True)
    requests = trained.groups.synthetic_requests(KNOWN_LISTS, KNOWN_CANDIDATES, trained.facts["seed"])
    known_answers.write(out, served, requests)
    checkpoint.remove()


def refuse(refused: ModelRefused, checkpoint: Checkpoint) -> NoReturn:
    """Say why there is no model, and remove the checkpoint.

    Raises
    ------
    SystemExit
        Status 1.
    """
    checkpoint.remove()
    sys.stderr.write(f"afterclick: {refused}\n")
    raise SystemExit(1) from refused
