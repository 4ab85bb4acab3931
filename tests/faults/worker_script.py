"""Start a worker whose clock and model can be broken while it runs.

`python -m tests.faults.worker_script CONTROL worker --role …`: the file CONTROL has JSON and is read a few times a
second. `clock_s` is added to the time of day. `model` makes the model `raise`, `hang` or return `nan`. The worker's own
code knows nothing of this.
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
from streams.models import child_models as models

READ_EVERY_S = 0.2
HANG_S = 6.0

real_time = time.time
real_score = models.ChildScorer.score


class Control:
    """The control file, read again at most every `READ_EVERY_S`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = float("-inf")
        self._values: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return a value of the file; None if the file or the value is missing."""
        if time.monotonic() - self._read_at > READ_EVERY_S:
            self._read_at = time.monotonic()
            try:
                self._values = json.loads(self._path.read_text())
            except (OSError, ValueError):
                self._values = {}
        return self._values.get(name)


def main() -> None:
    """Replace the clock and the scorer's call, then run the command line."""
    control = Control(Path(sys.argv.pop(1)))

    def wrong_time() -> float:
        return real_time() + (control.get("clock_s") or 0.0)

    def broken_score(scorer: models.ChildScorer, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        fault = control.get("model")
        if fault == "raise":
            raise RuntimeError("the model raises, as the control file says")
        if fault == "hang":
            time.sleep(HANG_S)
        scores = real_score(scorer, requests)
        return [np.full_like(array, np.nan) for array in scores] if fault == "nan" else scores

    time.time = wrong_time
    models.ChildScorer.score = broken_score  # type: ignore[method-assign,assignment]
    cli.main()


if __name__ == "__main__":
    main()
