"""The files that let a training run continue after it was stopped, even by kill -9. Knows neither data nor models.

| file | content |
|---|---|
| `fingerprint` | which run the other files belong to |
| `query_groups.npz` | the query groups, once all are built |
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

from ranker.train.curve import Epoch
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
        name = folder / "fingerprint"
        if not name.is_file() or name.read_text(encoding="utf-8") != fingerprint:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            name.write_text(fingerprint, encoding="utf-8")
        return Checkpoint(folder)

    @property
    def start(self) -> Path:
        """The folder of the untrained scorer."""
        return self.folder / "start"

    @property
    def model(self) -> Path:
        """The folder of the tuned model."""
        return self.folder / "model"

    def query_groups(self) -> QueryGroups | None:
        """The query groups; None before all of them are built."""
        file = self.folder / "query_groups.npz"
        return QueryGroups.load(file) if file.is_file() else None

    def save_query_groups(self, groups: QueryGroups) -> None:
        self._write("query_groups.npz", groups.save)

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
