"""`afterclick evaluate`: split a log by a protocol, let all systems rank its cases, judge them, print one table."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from threadpoolctl import threadpool_limits

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.text.encoder import TextEncoder
from ranker.evaluation.baselines.compare import IndexedSplit, Plan, Tuned, rank_all, tune
from ranker.evaluation.baselines.method import Corpus
from ranker.evaluation.baselines.methods import METHODS, with_parts
from ranker.evaluation.ids import IdIndex, index_by_id
from ranker.evaluation.judge import COLD_EVENTS, GroundTruth, cases_by_group, judge
from ranker.evaluation.protocols import Split, ordered
from ranker.load import load_scorer
from ranker.progress import StageProgress
from streams.commands.evaluation_report import System, as_json, tables
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.offline.split_by_protocol import split_by_protocol
from streams.offline.split_pipeline import SplitPipeline
from streams.progress_bar import progress_bar
from streams.settings import Settings

LEAKY_PROTOCOLS = ("leave-one-out", "next-basket")
PIPELINE, WITHOUT_MODEL = "afterclick", "afterclick-no-model"
SYSTEMS = (PIPELINE, WITHOUT_MODEL, *METHODS)


@dataclass(frozen=True)
class Evaluation:
    """Settings of `afterclick evaluate`.

    Attributes
    ----------
    protocol : str
    cut : str or None
        Where the cases of `time-split`, `prequential` and `impressions` begin: a time, or the share of events before.
    users : int or None
        How many users have cases, drawn by the seed; None: all.
    systems : sequence of str
        Rows of the table.
    trials : int
        Settings tried for each baseline.
    max_minutes : float
        For each baseline that trains for long, its tuning included.
    seed : int
        Of all random draws, and of the order of events of the same time.
    line_order : bool
        Keep events of the same time in the order of the file.
    leaky : bool
        Use a leaky (non-chronological) split: every system first learns all learnable events, later events of other
        users too.
    """

    protocol: str
    cut: str | None = None
    users: int | None = None
    systems: Sequence[str] = SYSTEMS
    trials: int = 8
    max_minutes: float = 20.0
    seed: int = 1
    line_order: bool = False
    leaky: bool = False


def run(event_log: EventLog, settings: Settings, evaluation: Evaluation, to_json: bool) -> None:
    """Evaluate and print.

    Raises
    ------
    InputError
        The settings or the data do not fit the protocol.
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    _check(evaluation)
    # one BLAS thread, as in a worker: for small products more threads only wait for each other
    with progress_bar(quiet=to_json) as stage, threadpool_limits(1, "blas"):
        split, validation = _splits(event_log, evaluation)
        stage("Loading the encoder")(0, 1)
        encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
        vectors = encoder.encode([describe_item(item) for item in event_log.items])
        ids = IdIndex(
            index_by_id(sorted({event.user for event in split.log})),
            index_by_id(item.item_id for item in event_log.items),
        )
        indexed = IndexedSplit(split, ids)
        truth = _ground_truth(indexed, vectors, evaluation.leaky)
        systems: dict[str, System] = {}
        if PIPELINE in evaluation.systems or WITHOUT_MODEL in evaluation.systems:
            pipeline = SplitPipeline(settings, encoder, event_log.items, split)
            systems |= _judge_pipeline(pipeline, settings, truth, evaluation, stage)
        systems |= _judge_baselines(event_log, indexed, validation, truth, evaluation, stage)
    facts = {
        "protocol": evaluation.protocol,
        "users": len(set(truth.users.tolist())),
        "lists": len(split.cases),
        "items": len(event_log.items),
        "events_to_learn": len(split.learnable),
        "left_out": event_log.left_out,
        "leaky_split": evaluation.leaky,
        "seed": evaluation.seed,
        "trials": evaluation.trials,
        "cases_by_group": cases_by_group(truth),
    }
    if to_json:
        sys.stdout.write(json.dumps(as_json(facts, systems)) + "\n")
    else:
        _print(facts, systems)


def _check(evaluation: Evaluation) -> None:
    unknown = [name for name in evaluation.systems if name not in SYSTEMS]
    if unknown:
        raise InputError(f"--systems: got {unknown[0]!r}, expected some of: {', '.join(SYSTEMS)}")
    if evaluation.leaky and evaluation.protocol not in LEAKY_PROTOCOLS:
        raise InputError(
            f"--leaky-split: got it with --protocol {evaluation.protocol}, expected {' or '.join(LEAKY_PROTOCOLS)}: "
            "in other protocols a system would learn the targets; leave it out"
        )


def _print(facts: dict[str, Any], systems: dict[str, System]) -> None:
    title = f"{facts['protocol']}: {facts['users']:,} users, {facts['lists']:,} lists, {facts['items']:,} items"
    if facts["leaky_split"]:
        title += ", leaky split: later events of other users were learnt"
    console = Console()
    for reason, count in facts["left_out"].items():
        console.print(f"left out, {reason}: {count:,}")
    console.print(tables(title, systems, facts["cases_by_group"]))


def _splits(event_log: EventLog, evaluation: Evaluation) -> tuple[Split, Split]:
    """The test part, with the cases of the drawn users, and the validation part: the protocol on the training part."""
    log = ordered(event_log.events, evaluation.seed, evaluation.line_order)
    split = split_by_protocol(evaluation.protocol, log, event_log.shown_lists, evaluation.cut)
    if evaluation.users is not None:
        users = sorted({case.user for case in split.cases})
        drawn = set(random.Random(evaluation.seed).sample(users, min(evaluation.users, len(users))))
        cases = [case for case in split.cases if case.user in drawn]
        split = Split(split.log, split.learnable, split.fit_until, cases)
    if not split.cases:
        raise InputError(
            f"--protocol {evaluation.protocol}: got no test case, expected users with an event before the case and a "
            "new item after it"
        )
    training = split.training
    until_ms = split.log[split.fit_until].time_ms if split.fit_until < len(split.log) else None
    before = [shown for shown in event_log.shown_lists if until_ms is None or shown.time_ms < until_ms]
    if not training:
        return split, Split([], [], 0, [])
    return split, split_by_protocol(evaluation.protocol, training, before, None)


def _ground_truth(indexed: IndexedSplit, vectors: npt.NDArray[np.float32], leaky: bool) -> GroundTruth:
    """The cases in arrays; an item's events are counted up to each case, or all of them in a leaky split."""
    split, ids = indexed.split, indexed.ids
    total = Counter(ids.items[split.log[index].item] for index in split.learnable)
    counted: Counter[int] = Counter(total) if leaky else Counter()
    cold_targets, fed = [], 0
    for case in split.cases:
        while not leaky and fed < len(split.learnable) and split.learnable[fed] < case.log_index:
            counted[ids.items[split.log[split.learnable[fed]].item]] += 1
            fed += 1
        cold_targets.append(frozenset(item for item in indexed.targets(case) if counted[item] < COLD_EVENTS))
    counts = np.array([total[item] for item in range(len(vectors))], np.float64) + 1
    return GroundTruth(
        users=np.array([ids.users[case.user] for case in split.cases], np.intp),
        targets=[indexed.targets(case) for case in split.cases],
        cold_targets=cold_targets,
        history_lengths=np.array([len(split.history_indices(case)) for case in split.cases], np.intp),
        shown=np.array([bool(case.shown_items) for case in split.cases]),
        information_bits=-np.log2(counts / counts.sum()),
        vectors=vectors,
    )


def _judge_pipeline(
    pipeline: SplitPipeline, settings: Settings, truth: GroundTruth, evaluation: Evaluation, stage: StageProgress
) -> dict[str, System]:
    """The pipeline with its model and without, on the same requests."""
    requests = pipeline.all_requests(evaluation.leaky, stage("The pipeline reads the log"))
    systems = {}
    for name, model in ((PIPELINE, settings.ranker.model), (WITHOUT_MODEL, "none")):
        if name in evaluation.systems:
            ranker = settings.ranker
            scorer = None if model == "none" else load_scorer(model, ranker.device, ranker.dtype)
            result = pipeline.rank(requests, scorer, stage(name))
            note = f"{result.degraded:,} lists without the model" if scorer and result.degraded else ""
            measures = judge(truth, result.lists, evaluation.seed)
            systems[name] = System(measures, result.seconds, {"model": model}, note)
    return systems


def _judge_baselines(
    event_log: EventLog,
    test: IndexedSplit,
    validation: Split,
    truth: GroundTruth,
    evaluation: Evaluation,
    stage: StageProgress,
) -> dict[str, System]:
    names = [name for name in METHODS if name in evaluation.systems]
    appeared = [0 if item.timestamp is None else milliseconds(item.timestamp) for item in event_log.items]
    corpus = Corpus(len(test.ids.users), truth.vectors, np.array(appeared, np.int64))
    plan = Plan(
        trials=evaluation.trials,
        seconds=evaluation.max_minutes * 60,
        seed=evaluation.seed,
        leaky=evaluation.leaky,
        available=np.array([item.available for item in event_log.items]),
    )
    tuned = tune(with_parts(names), IndexedSplit(validation, test.ids), corpus, plan, stage)
    results = rank_all(tuned, test, corpus, plan, stage)
    return {
        name: System(
            judge(truth, result.lists, evaluation.seed),
            result.seconds + tuned[name].seconds,
            tuned[name].setting,
            "; ".join(filter(None, [_tuning_note(tuned[name]), result.account])),
        )
        for name, result in results.items()
        if name in names
    }


def _tuning_note(tuned: Tuned) -> str:
    if tuned.ndcg is None:
        return ""
    return f"best of {tuned.trials} on the validation part, NDCG@10 {tuned.ndcg:.4f}"
