"""A learnt source of a training run: fitted on growing parts of the log, and once on the whole log.

A source must not know the events that a query group asks for. So the log is cut, and the groups between two cuts read
the source of the events before the first of them: as stale as in production. The groups before the first cut have none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.evaluation.interactions import Interactions
from ranker.evaluation.protocols import index_of_share
from ranker.recall.trained import LearntSource

CUTS = (0.4, 0.6, 0.8)
"""Shares of the log before each cut. The newest 15% of the groups, which validate, are at most 20% of the log stale."""
MAX_EVENTS = 4_000_000
"""A fit reads so many, the newest: what a half-life of 90 days leaves of older ones changes little."""
MIN_CASES = 30
"""With fewer cases to judge by, nothing is learnt: whether it helps could not be told either."""
COMPLETE = "complete.json"
"""The file that is written last."""


@dataclass(frozen=True)
class FittedSource:
    """The fits of one source.

    Attributes
    ----------
    begins : list of int
        For each of `sources`, the index of the log from which on it may be read; ascending.
    sources : list of LearntSource
        Each fitted on the events before.
    final : LearntSource
        Fitted on the whole log.
    facts : mapping
        For `afterclick.json`.
    """

    begins: list[int]
    sources: list[LearntSource]
    final: LearntSource
    facts: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write all fits into a folder; its file `COMPLETE` comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, source in enumerate(self.sources):
            source.save(folder / str(number))
        self.final.save(folder / self.final.file)
        content = json.dumps({"begins": self.begins, "facts": dict(self.facts)})
        (folder / f"new-{COMPLETE}").write_text(content, encoding="utf-8")
        (folder / f"new-{COMPLETE}").replace(folder / COMPLETE)

    @staticmethod
    def load(folder: Path, kind: type[LearntSource]) -> FittedSource | None:
        """Read what `save` wrote; None if it did not come to its end."""
        if not (folder / COMPLETE).is_file():
            return None
        content = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        sources = [kind.read(folder / str(number)) for number in range(len(content["begins"]))]
        return FittedSource(content["begins"], sources, kind.read(folder / kind.file), content["facts"])


def learnt_from(end: int) -> int:
    """Return the index of the first event that a fit on the events before `end` reads."""
    return max(0, end - MAX_EVENTS)


def cuts_of(log: Interactions) -> list[int]:
    """Return the indices of the log at which a source is fitted."""
    return [index_of_share(log, share) for share in CUTS]
