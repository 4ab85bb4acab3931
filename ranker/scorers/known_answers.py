"""Questions to a model with the scores that it gave when it was trained: it must still give them where it is served.

What they catch: weights that were cut off or mixed up in copying, a head on another model than its own, a dtype that
the model cannot bear. Written by training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from encoders.models.source import ModelUnsupported
from ranker.features import NAMES
from ranker.score import Scorer, ScoreRequest

FILE = "known-answers.json"
LEAST_CORRELATION = 0.95
"""Pearson's, between the scores of a list then and now. Chosen by us: other formats keep a trained model's order
(Kendall's tau .96 and more), other weights do not."""


class Question(msgspec.Struct, frozen=True):
    """A request, and its scores. `features`: base64 of float16, little-endian, a row for each candidate; or None."""

    context: str
    candidates: list[str]
    features: bytes | None
    scores: list[float]


def write(folder: Path, scorer: Scorer, requests: Sequence[ScoreRequest]) -> None:
    """Ask the scorer, and keep its answers in the folder."""
    questions = [
        Question(
            request.context,
            list(request.candidates),
            None if request.features is None else request.features.astype("<f2").tobytes(),
            [round(float(score), 6) for score in scores],
        )
        for request, scores in zip(requests, scorer.score(requests), strict=True)
    ]
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(questions), indent=1) + b"\n")


def check(scorer: Scorer, folder: Path) -> bool:
    """Ask the scorer what the folder knows the answers to, and return whether it knows any.

    Raises
    ------
    ModelUnsupported
        It answers otherwise, or the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return False
    try:
        questions = msgspec.json.decode(path.read_bytes(), type=list[Question])
        requests = [_request(question) for question in questions]
    except (msgspec.DecodeError, ValueError) as error:
        raise ModelUnsupported(
            f"{path}: got no known answers ({error}), expected what `afterclick train` wrote; copy the folder again"
        ) from error
    for question, scores in zip(questions, scorer.score(requests), strict=True):
        agreement = _agreement(np.array(question.scores, np.float32), scores)
        if not agreement >= LEAST_CORRELATION:
            raise ModelUnsupported(
                f"{path}: got scores that agree with the known answers by {agreement:.3f}, expected a correlation of "
                f"{LEAST_CORRELATION:g} at least, from {scorer.name!r} in {scorer.placement.dtype}; copy the folder "
                "again, or choose another dtype"
            )
    return True


def _request(question: Question) -> ScoreRequest:
    shape = len(question.candidates), len(NAMES)
    features = None if question.features is None else np.frombuffer(question.features, "<f2").reshape(shape)
    return ScoreRequest(question.context, question.candidates, features=features)


def _agreement(known: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Pearson's correlation; scores that are all the same agree with others that are."""
    if not np.isfinite(got).all():
        return float("nan")
    if np.ptp(known) == 0 or np.ptp(got) == 0:
        return float(np.ptp(known) == np.ptp(got))
    return float(np.corrcoef(known, got)[0, 1])
