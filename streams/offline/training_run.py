"""The settings that every training run has: where it writes, how much it learns from, and how long it may take.

Knows no data and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from streams.datasets.messages import InputError


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Settings of one training run.

    Attributes
    ----------
    out : Path
        A new folder for the model.
    epochs : int
        Of the language model; 0: it stays as it is, and only the head learns.
    max_minutes : float
        For the whole run.
    hold_out : str or None
        A protocol of `evaluate` whose targets are left out, or a time; None: learn from the whole log.
    max_query_groups : int
        Drawn by the seed, if there are more.
    seed : int
    """

    out: Path
    epochs: int = 1
    max_minutes: float = 45.0
    hold_out: str | None = None
    max_query_groups: int = 20_000
    seed: int = 1

    @property
    def identity(self) -> TrainingRun:
        """The settings that determine the result. Two runs may share a checkpoint if these are equal."""
        return replace(self, out=Path(), max_minutes=0)

    def deadlines(self, started: float, shares: Mapping[str, float]) -> dict[str, float]:
        """When each stage must end, in seconds of `time.monotonic()`.

        Parameters
        ----------
        started : float
            The begin of the run, on the same clock.
        shares : mapping of str to float
            The share of `max_minutes` that may have passed at the end of each stage.
        """
        return {stage: started + share * self.max_minutes * 60 for stage, share in shares.items()}


def check_new_folder(out: Path) -> None:
    """Make sure that no model is overwritten.

    Raises
    ------
    InputError
        The folder holds a model.
    """
    if (out / "afterclick.json").exists():
        raise InputError(f"--out: got {out}, which holds a model; expected a new folder, or remove that one")
