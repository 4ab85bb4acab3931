"""The files that let a training run continue after it was stopped, even by kill -9. Knows neither data nor models.

| file | content |
|---|---|
| `fingerprint` | which run the other files belong to |
| `learnt-neighbours/`, `adapted-text/` | the learnt sources |
| `vectors.sqlite` | the vectors of the items' texts |
| `chosen.json`, `query_groups.npz` | the merge of the candidates, what learnt sources bring, and the query groups |
| `first-stage/` | the head that chooses which candidates the language model reads |
| `start/` | the untrained scorer that fine-tuning starts from |
| `tuning.pt` | weights, optimiser and curve of the last validation during fine-tuning |
| `model/`, `curve.json` | the tuned model; it is complete once its learning curve exists |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ranker import processes
from ranker.processes import ProcessesFailed
from ranker.recall.trained import LearntSource
from ranker.train.curve import Epoch
from ranker.train.learnt_sources import ChosenGroups
from ranker.train.merge_fit import FittedMerge
from ranker.train.query_groups import QueryGroups

FOLDER = "checkpoint"
"""Name of the folder, within that of the model to be written."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the files above. Each file is written under another name and then renamed, so none is ever partial.

    Attributes
    ----------
    folder : Path
        Need not exist.
    """

    folder: Path

    @staticmethod
    def open(folder: Path, fingerprint: str) -> Checkpoint:
        """The checkpoint of the run with this fingerprint; the files of any other run are removed.

        Parameters
        ----------
        folder : Path
        fingerprint : str
            Differs between any two runs that must not share files.
        """
        if Checkpoint(folder).fingerprint != fingerprint:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "fingerprint").write_text(fingerprint, encoding="utf-8")
        return Checkpoint(folder)

    @property
    def fingerprint(self) -> str | None:
        """Of the run that the files belong to; None if there is no such folder."""
        file = self.folder / "fingerprint"
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def check_shared(self) -> None:
        """Wait until the first process has come as far as this one, and make sure that both see the same files.

        Raises
        ------
        ProcessesFailed
            This process sees other files, or none.
        """
        if processes.by_first(lambda: self.fingerprint) != self.fingerprint:
            raise ProcessesFailed(
                f"--out: process {processes.rank()} got {self.folder} without the files of process 0, expected a "
                "folder that all processes share; name one on a file system that all machines have mounted"
            )

    @property
    def vectors(self) -> Path:
        """The file of the texts' vectors."""
        return self.folder / "vectors.sqlite"

    def learnt(self, source: type[LearntSource]) -> Path:
        """The folder of a learnt source."""
        return self.folder / source.name

    @property
    def first_stage(self) -> Path:
        """The folder of the first stage of a cascade."""
        return self.folder / "first-stage"

    @property
    def start(self) -> Path:
        """The folder of the untrained scorer."""
        return self.folder / "start"

    @property
    def model(self) -> Path:
        """The folder of the tuned model."""
        return self.folder / "model"

    def query_groups(self) -> ChosenGroups | None:
        """The query groups, and what chose their candidates; None before all of them are built."""
        file, chosen = self.folder / "query_groups.npz", self.folder / "chosen.json"
        if not file.is_file():
            return None
        described = json.loads(chosen.read_text(encoding="utf-8"))
        merge = FittedMerge.of(described["merge"])
        return ChosenGroups(QueryGroups.load(file), merge, described["recalled"], described["judged"])

    def save_query_groups(self, chosen: ChosenGroups) -> None:
        """Declare the query groups complete."""
        described = json.dumps(
            {"merge": chosen.merge.describe(), "recalled": chosen.recalled, "judged": dict(chosen.judged)}
        )
        self._write("chosen.json", lambda file: file.write_text(described, encoding="utf-8"))
        self._write("query_groups.npz", chosen.groups.save)

    def tuning(self) -> dict[str, Any] | None:
        """What `save_tuning` saved last; None before the first time."""
        file = self.folder / "tuning.pt"
        return torch.load(file, weights_only=True) if file.is_file() else None

    def save_tuning(self, state: Mapping[str, Any]) -> None:
        """Keep tensors, numbers and containers of them."""
        self._write("tuning.pt", lambda file: torch.save(dict(state), file))

    def curve(self) -> list[Epoch] | None:
        """The learning curve of the tuned model; None before `model` is complete."""
        file = self.folder / "curve.json"
        if not file.is_file():
            return None
        return [Epoch(*point) for point in json.loads(file.read_text(encoding="utf-8"))]

    def save_curve(self, curve: Sequence[Epoch]) -> None:
        """Declare `model` complete."""
        points = json.dumps([[epoch.loss, epoch.ndcg] for epoch in curve])
        self._write("curve.json", lambda file: file.write_text(points, encoding="utf-8"))

    def move_model(self, out: Path) -> None:
        """Move the files of `model`, if there are any, into the folder `out`."""
        if self.model.is_dir():
            for file in self.model.iterdir():
                shutil.move(file, out / file.name)

    def remove(self) -> None:
        """Remove the folder, and every file of the run with it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"new-{name}"
        write(partial)
        partial.replace(self.folder / name)
