"""What there is to learn from: a log, the questions to it, and the lists that production's pipeline makes of them.

Lists are kept in a checkpoint, so that a run that was stopped goes on if it is asked for the same again. Knows no loss
and no model; called by the commands `train` and `compress`.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from encoders.text.encoder import TextEncoder
from ranker.evaluation.protocols import Case, Interaction, impressions, ordered
from ranker.train.fit import ModelRefused
from ranker.train.lists import Lists, cases
from streams.datasets.messages import InputError
from streams.datasets.recorded import Recorded
from streams.offline.split import split_by
from streams.offline.walk import build, drawn
from streams.progress_bar import Bar
from streams.settings import Settings

LEAST_LISTS = 50
ORDER_SEED = 1
"""As `evaluate` orders events of one time by default, so that both mean the same log."""


@dataclass(frozen=True)
class Material:
    """What to learn from.

    Attributes
    ----------
    log : events in order.
    asked : questions about it, in order.
    """

    recorded: Recorded
    log: Sequence[Interaction]
    asked: Sequence[Case]

    def checkpoint(self, out: Path, settings: Settings, asked_for: object) -> Path:
        """The folder for what is done on the way; empty, unless a run that was asked for the same left it."""
        used = (settings.encoder, settings.interest, settings.candidates, settings.ranker.max_candidates)
        fingerprint = hashlib.sha256(repr((asked_for, used, self.recorded.items, self.log)).encode()).hexdigest()
        folder = out / "checkpoint"
        named = folder / "fingerprint"
        if not named.is_file() or named.read_text(encoding="utf-8") != fingerprint:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            named.write_text(fingerprint, encoding="utf-8")
        return folder

    def lists(self, settings: Settings, checkpoint: Path, deadline: float, bar: Bar) -> Lists:
        """The lists, from the checkpoint if they are there; fewer, the older ones, if time is up before the log's end.

        Raises
        ------
        ranker.train.fit.ModelRefused
            There was time for too few.
        """
        kept = checkpoint / "lists.npz"
        if kept.is_file():
            lists = Lists.read(kept)
            in_time(len(lists), len(self.asked), "from the log")
            return lists
        encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
        read = "The pipeline reads the log"
        lists = build(
            settings, encoder, self.recorded.items, self.log, self.asked, deadline, lambda d, a: bar(read, d, a)
        )
        in_time(len(lists), len(self.asked), "from the log")
        lists.save(checkpoint / "new.npz")
        (checkpoint / "new.npz").replace(kept)
        return lists


def gather(recorded: Recorded, settings: Settings, hold_out: str | None, most: int, seed: int) -> Material:
    """Put the log in order, and draw the questions: what users did next, and what they chose of what they were shown.

    Parameters
    ----------
    hold_out : a protocol of `evaluate` whose answers are left out, or a time; None: learn from everything.
    most : lists.

    Raises
    ------
    InputError
        There is nothing to ask.
    """
    log: Sequence[Interaction] = ordered(recorded.events, ORDER_SEED)
    if hold_out in ("leave-one-out", "next-basket"):
        log = split_by(hold_out, log, recorded.shown, None).training
    elif hold_out is not None:
        log = split_by("time-split", log, recorded.shown, hold_out).training
    asked = cases(log, settings.candidates.repeat_purchases, seed)
    last_ms = log[-1].time_ms if log else 0
    shown = [one for one in recorded.shown if one.time_ms <= last_ms]
    asked += impressions(log, shown, 0).cases
    if not asked:
        raise InputError("got no user with an event and a later one; expected some to learn from")
    in_order = sorted(asked, key=lambda case: (case.place, case.user, case.shown))
    return Material(recorded, log, drawn(in_order, most, seed))


def in_time(got: int, asked: int, what: str) -> None:
    """Say that `--max-minutes` were over before all lists were there.

    Raises
    ------
    ranker.train.fit.ModelRefused
        There are too few to learn from.
    """
    if got == asked:
        return
    told = f"got {what} {got:,} of {asked:,} lists before its share of --max-minutes was over"
    if got < LEAST_LISTS:
        raise ModelRefused(f"{told}, expected at least {LEAST_LISTS}; give it more minutes, or a smaller model or log")
    sys.stderr.write(f"afterclick: {told}; the others are left out\n")


def new_folder(out: Path) -> None:
    """Make sure that nothing is written over.

    Raises
    ------
    InputError
    """
    if (out / "afterclick.json").exists():
        raise InputError(f"--out: got {out}, which holds a model; expected a new folder, or remove that one")
