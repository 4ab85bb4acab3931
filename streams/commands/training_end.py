"""How every training ends: the model scores the lists, then there is a folder to serve, or a refusal.

Called by the commands `train` and `compress`, and by `default`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from encoders.interest import Vector
from ranker.load import load_scorer
from ranker.score import Scorer
from ranker.scorers import known_answers
from ranker.train.fit import ModelRefused, Trained, write
from ranker.train.fusion_fit import Epoch
from ranker.train.lists import Lists
from streams.offline.training_material import in_time
from streams.settings import Settings

KNOWN_LISTS, KNOWN_CANDIDATES = 4, 16
"""Of the known answers: some seconds on a large model, and enough to tell a wrong one."""


def scored(
    scorer: Scorer | None, lists: Lists, seed: int, deadline: float, progress: Callable[[int, int], None]
) -> tuple[Lists, Vector]:
    """The scorer's scores, of as many lists as there is time for; newer and older ones alike.

    Raises
    ------
    ModelRefused
        There was time for too few.
    """
    if scorer is None:
        return lists, np.zeros(lists.candidates.shape, np.float32)
    from ranker.train.model_fit import score

    order = np.random.default_rng(seed).permutation(len(lists))
    scores = score(scorer, lists[order], deadline, progress)
    in_time(len(scores), len(lists), f"scores of {scorer.name} for")
    by_time = np.argsort(order[: len(scores)])
    return lists[order[: len(scores)][by_time]], scores[by_time]


def finish(
    out: Path,
    checkpoint: Path,
    settings: Settings,
    lists: Lists,
    base: str | None,
    trained: Trained,
    tuned: list[Epoch],
    facts: Mapping[str, Any],
) -> None:
    """Write the model's folder, the model in `checkpoint/model` if there is one, and remove the checkpoint."""
    if (checkpoint / "model").is_dir():
        for file in (checkpoint / "model").iterdir():
            shutil.move(file, out / file.name)
    write(out, base, trained, tuned, facts)
    served = load_scorer(str(out), settings.ranker.device, settings.ranker.dtype, in_training=True)
    known_answers.write(out, served, lists.made_up(KNOWN_LISTS, KNOWN_CANDIDATES, facts["seed"]))
    shutil.rmtree(checkpoint)


def refuse(refused: ModelRefused, checkpoint: Path) -> NoReturn:
    """Say why there is no model.

    Raises
    ------
    SystemExit
        Status 1.
    """
    shutil.rmtree(checkpoint, ignore_errors=True)
    sys.stderr.write(f"afterclick: {refused}\n")
    raise SystemExit(1) from refused
