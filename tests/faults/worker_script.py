"""Start a worker that can be given a wrong clock and a broken model while it runs.

`python -m tests.faults.worker_script CONTROL worker --role …`: the file CONTROL holds JSON, looked at a few times a
second: `clock_s` is added to the time of day, `model` is `raise`, `hang` or `nan` while the model shall. The program
itself knows nothing of this.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.score import ScoreRequest
from streams import cli
from streams.models import client as models

LOOK_EVERY_S = 0.2
HANG_S = 6.0

real_time = time.time
real_score = models.RemoteScorer.score


class Control:
    """What the file says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = float("-inf")
        self._said: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        if time.monotonic() - self._read_at > LOOK_EVERY_S:
            self._read_at = time.monotonic()
            try:
                self._said = json.loads(self._path.read_text())
            except (OSError, ValueError):
                self._said = {}
        return self._said.get(name)


def main() -> None:
    control = Control(Path(sys.argv.pop(1)))

    def wrong_time() -> float:
        return real_time() + (control.get("clock_s") or 0.0)

    def broken_score(scorer: models.RemoteScorer, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        how = control.get("model")
        if how == "raise":
            raise RuntimeError("the model raises, as it was told to")
        if how == "hang":
            time.sleep(HANG_S)
        scores = real_score(scorer, requests)
        return [np.full_like(one, np.nan) for one in scores] if how == "nan" else scores

    time.time = wrong_time
    models.RemoteScorer.score = broken_score  # type: ignore[method-assign,assignment]
    cli.main()


if __name__ == "__main__":
    main()
