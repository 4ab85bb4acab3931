"""The end of every training run: the model scores the query groups, then there is a folder to serve, or a refusal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ranker.load import load_scorer
from ranker.progress import Progress
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.learnt_knowledge import LearntKnowledge
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.recall.merge import Merge
from ranker.score import Scorer
from ranker.scorers import known_answers
from ranker.train.checkpoint import FOLDER, Checkpoint
from ranker.train.curve import Epoch
from ranker.train.fit import FittedHead, ModelRefused, TooLittleTime, write
from ranker.train.fitted_source import COMPLETE
from ranker.train.query_groups import QueryGroups, ScoredGroups
from ranker.train.scoring import score
from streams.models.remote.servers import RerankServers
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
    merge : Merge
        The merge that chose the candidates of the groups.
    parts : sequence of Path
        Files of the learnt sources, which go into the folder.
    """

    groups: QueryGroups
    base: str | None
    fitted: FittedHead
    tuning_curve: list[Epoch]
    facts: Mapping[str, Any]
    merge: Merge
    parts: Sequence[Path] = ()


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
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.move_model(out)
    for part in trained.parts:
        shutil.copy(part, out / part.name)
    write(out, trained.base, trained.fitted, trained.tuning_curve, trained.facts, trained.merge)
    ranker = settings.ranker
    with closing(RerankServers(ranker, trained.base or "", must_answer=True)) as servers:
        served = load_scorer(str(out), ranker.device, ranker.dtype, in_training=True, connect=servers)
        requests = trained.groups.synthetic_requests(KNOWN_LISTS, KNOWN_CANDIDATES, trained.facts["seed"])
        known_answers.write(out, served, requests)
    checkpoint.remove()


def kept(out: Path) -> str:
    """Say what a run that was interrupted has kept, and how to go on."""
    checkpoint = Checkpoint(out / FOLDER)
    parts = {
        "the learnt neighbours": checkpoint.learnt(LearntNeighbours) / COMPLETE,
        "the adapted texts": checkpoint.learnt(AdaptedText) / COMPLETE,
        "what was learnt of the knowledge graph": checkpoint.learnt(LearntKnowledge) / COMPLETE,
        "the query groups": checkpoint.folder / "query_groups.npz",
        "the tuning up to its last validation": checkpoint.folder / "tuning.pt",
        "the tuned model": checkpoint.folder / "curve.json",
    }
    done = [name for name, file in parts.items() if file.is_file()]
    if not done:
        return "no stage was complete yet, so nothing is kept; the same command begins again"
    return f"{checkpoint.folder} keeps {', '.join(done)}; the same command goes on from there"


def refuse(refused: ModelRefused, checkpoint: Checkpoint) -> NoReturn:
    """Say why there is no model, and remove the checkpoint, or say how to go on if only time was lacking.

    Raises
    ------
    SystemExit
        Status 1.
    """
    if isinstance(refused, TooLittleTime):
        sys.stderr.write(f"afterclick: {refused}; {kept(checkpoint.folder.parent)}\n")
    else:
        checkpoint.remove()
        sys.stderr.write(f"afterclick: {refused}\n")
    raise SystemExit(1) from refused
