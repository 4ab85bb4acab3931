"""Requests with the scores that a model gave when it was trained: it must give them again where it is served.

The check detects weights that were truncated or mixed up in copying, a head on another model than its own, and a dtype
that the model does not tolerate. Training writes the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from encoders.models.source import ModelUnsupported
from ranker.score import Scorer, ScoreRequest

FILE = "known-answers.json"
MIN_CORRELATION = 0.95
"""Pearson's correlation of a list's scores then and now. Chosen by us: with another dtype a trained model keeps its
order (Kendall's tau .96 and more), with other weights it does not."""


class KnownAnswer(msgspec.Struct, frozen=True):
    """A request and its scores.

    Attributes
    ----------
    context : str
    events : list of str, optional
    candidates : list of str
    features : bytes, optional
        Little-endian float16, a row for each candidate; base64 in the file.
    scores : list of float
        One per candidate.
    """

    context: str
    candidates: list[str]
    features: bytes | None
    scores: list[float]
    events: list[str] | None = None


def write(folder: Path, scorer: Scorer, requests: Sequence[ScoreRequest]) -> None:
    """Score the requests and write them with their scores into the folder."""
    answers = [
        KnownAnswer(
            request.context,
            list(request.candidates),
            None if request.features is None else request.features.astype("<f2").tobytes(),
            [round(float(score), 6) for score in scores],
            None if request.events is None else list(request.events),
        )
        for request, scores in zip(requests, scorer.score(requests), strict=True)
    ]
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(answers), indent=1) + b"\n")


def check(scorer: Scorer, folder: Path) -> bool:
    """Check the scorer against the folder's known answers; return whether there are any.

    Raises
    ------
    ModelUnsupported
        The scores do not agree, or the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return False
    try:
        answers = msgspec.json.decode(path.read_bytes(), type=list[KnownAnswer])
        requests = [_request(answer, scorer) for answer in answers]
    except (msgspec.DecodeError, ValueError) as error:
        raise ModelUnsupported(
            f"{path}: got no known answers ({error}), expected what `afterclick train` wrote; copy the folder again"
        ) from error
    for answer, scores in zip(answers, scorer.score(requests), strict=True):
        agreement = _agreement(np.array(answer.scores, np.float32), scores)
        if not agreement >= MIN_CORRELATION:
            raise ModelUnsupported(
                f"{path}: got scores that agree with the known answers by {agreement:.3f}, expected a correlation of "
                f"{MIN_CORRELATION:g} at least, from {scorer.name!r} in {scorer.placement.dtype}; copy the folder "
                "again, or choose another dtype"
            )
    return True


def _request(answer: KnownAnswer, scorer: Scorer) -> ScoreRequest:
    features = None
    if answer.features is not None and scorer.feature_set is not None:
        shape = len(answer.candidates), len(scorer.feature_set.names)
        features = np.frombuffer(answer.features, "<f2").reshape(shape)
    return ScoreRequest(answer.context, answer.candidates, features=features, events=answer.events)


def _agreement(expected: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Pearson's correlation; constant scores agree with constant scores only."""
    if not np.isfinite(scores).all():
        return float("nan")
    if np.ptp(expected) == 0 or np.ptp(scores) == 0:
        return float(np.ptp(expected) == np.ptp(scores))
    return float(np.corrcoef(expected, scores)[0, 1])
