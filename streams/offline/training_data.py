"""What a model is trained on: an ordered log, test cases from it, and the query groups that the pipeline makes of them.

Knows no loss and no model.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from encoders.text.encoder import TextEncoder
from ranker.evaluation.protocols import Case, Interaction, impressions, ordered
from ranker.progress import StageProgress
from ranker.train.checkpoint import FOLDER, Checkpoint
from ranker.train.fit import ModelRefused
from ranker.train.query_groups import QueryGroups
from ranker.train.training_cases import training_cases
from streams.contracts import Item
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.offline.query_group_builder import QueryGroupBuilder
from streams.offline.split_by_protocol import split_by_protocol
from streams.offline.training_run import TrainingRun
from streams.settings import Settings

MIN_QUERY_GROUPS = 50
ORDER_SEED = 1
"""The default with which `evaluate` orders events of the same time, so that both read the same log."""


@dataclass(frozen=True)
class TrainingData:
    """What to train on.

    Attributes
    ----------
    items : list of Item
    log : sequence of Interaction
        In order.
    cases : sequence of Case
        In order.
    """

    items: list[Item]
    log: Sequence[Interaction]
    cases: Sequence[Case]

    def checkpoint(self, run: TrainingRun, settings: Settings) -> Checkpoint:
        """The checkpoint of this run on this data; files of any other run are removed."""
        relevant = (settings.encoder, settings.interest, settings.candidates, settings.ranker.max_candidates)
        content = repr((run.identity, relevant, self.items, self.log))
        return Checkpoint.open(run.out / FOLDER, hashlib.sha256(content.encode()).hexdigest())

    def query_groups(
        self, settings: Settings, checkpoint: Checkpoint, deadline: float, stage: StageProgress
    ) -> QueryGroups:
        """The query groups, from the checkpoint if it has them.

        Parameters
        ----------
        settings : Settings
        checkpoint : Checkpoint
        deadline : float
            Once `time.monotonic()`, in seconds, has passed it, the newer cases are dropped.
        stage : StageProgress

        Raises
        ------
        ranker.train.fit.ModelRefused
            There was time for too few.
        """
        groups = checkpoint.query_groups()
        if groups is not None:
            check_count(len(groups), len(self.cases), "from the log")
            return groups
        encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
        builder = QueryGroupBuilder(settings, encoder, self.items)
        groups = builder.build(self.log, self.cases, deadline, stage("The pipeline reads the log"))
        check_count(len(groups), len(self.cases), "from the log")
        checkpoint.save_query_groups(groups)
        return groups


def gather(event_log: EventLog, settings: Settings, run: TrainingRun) -> TrainingData:
    """Order the log and make the cases: what users chose next, and what they chose from lists that were shown.

    Raises
    ------
    InputError
        There is no case.
    """
    log: Sequence[Interaction] = ordered(event_log.events, ORDER_SEED)
    if run.hold_out in ("leave-one-out", "next-basket"):
        log = split_by_protocol(run.hold_out, log, event_log.shown_lists, None).training
    elif run.hold_out is not None:
        log = split_by_protocol("time-split", log, event_log.shown_lists, run.hold_out).training
    cases = training_cases(log, settings.candidates.repeat_purchases, run.seed)
    last_ms = log[-1].time_ms if log else 0
    cases += impressions(log, [shown for shown in event_log.shown_lists if shown.time_ms <= last_ms], 0).cases
    if not cases:
        raise InputError("got no user with an event and a later one; expected some to learn from")
    cases.sort(key=lambda case: (case.log_index, case.user, case.shown_items))
    return TrainingData(event_log.items, log, _drawn(cases, run.max_query_groups, run.seed))


def check_count(count: int, expected: int, source: str) -> None:
    """Report on stderr that `--max-minutes` were over before all query groups were complete.

    Parameters
    ----------
    count, expected : int
        Query groups that are complete, and all of them.
    source : str
        What completes them, for the message.

    Raises
    ------
    ranker.train.fit.ModelRefused
        There are too few to learn from.
    """
    if count == expected:
        return
    message = f"got {source} {count:,} of {expected:,} query groups before its share of --max-minutes was over"
    if count < MIN_QUERY_GROUPS:
        raise ModelRefused(
            f"{message}, expected at least {MIN_QUERY_GROUPS}; give it more minutes, or a smaller model or log"
        )
    sys.stderr.write(f"afterclick: {message}; the others are left out\n")


def check_new_folder(out: Path) -> None:
    """Make sure that no model is overwritten.

    Raises
    ------
    InputError
        The folder holds a model.
    """
    if (out / "afterclick.json").exists():
        raise InputError(f"--out: got {out}, which holds a model; expected a new folder, or remove that one")


def _drawn(cases: Sequence[Case], limit: int, seed: int) -> list[Case]:
    """At most `limit` of the cases, in their order."""
    indices = range(len(cases))
    if len(cases) > limit:
        indices = sorted(random.Random(seed).sample(indices, limit))  # type: ignore[assignment]
    return [cases[index] for index in indices]
