"""`afterclick evaluate`: split a log by a protocol, let all systems rank its cases, judge them, print one table."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.models.source import fetch
from encoders.text.encoder import TextEncoder
from ranker.evaluation.baselines.compare import IndexedSplit, Plan, Tuned, rank_all, tune
from ranker.evaluation.baselines.method import Corpus
from ranker.evaluation.baselines.methods import METHODS, with_parts
from ranker.evaluation.groups import judge_groups
from ranker.evaluation.ids import IdIndex, index_by_id
from ranker.evaluation.judge import GroundTruth, cases_by_group, judge
from ranker.evaluation.log_order import ordered
from ranker.evaluation.protocols import Split
from ranker.evaluation.recall import SourceRecall
from ranker.progress import StageProgress
from ranker.version import folder_of, name
from streams.commands.evaluated_groups import check_groups, grouped, table_of
from streams.commands.evaluated_models import PIPELINE, WITHOUT_MODEL, EvaluatedModels
from streams.commands.evaluation_report import System, as_json, recall_as_json, recall_table, tables
from streams.commands.ground_truth import ground_truth
from streams.commands.group_report import GroupReport
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.offline.split_by_protocol import PROTOCOLS, split_by_protocol
from streams.settings import Settings
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import show

LEAKY_PROTOCOLS = ("leave-one-out", "next-basket")
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
    models : sequence of str
        The models that rank the lists of `afterclick`, a row each; none: the model of the settings.
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
    ablate : bool
        Add a row without each learnt source of each model.
    policy : bool
        Estimate from the impressions, without a protocol (`streams.commands.policy_evaluation`).
    by : str or None
        Judge the lists of groups too: `events`, of users; or a field of items, whose values are the groups.
    rules : Path or None
        A file of rules: a row more with the lists under them, for each row of ours.
    plot : Path or None
        Where the plot of the groups goes.
    """

    protocol: str
    cut: str | None = None
    users: int | None = None
    models: Sequence[str] = ()
    systems: Sequence[str] = SYSTEMS
    trials: int = 8
    max_minutes: float = 20.0
    seed: int = 1
    line_order: bool = False
    leaky: bool = False
    ablate: bool = False
    policy: bool = False
    by: str | None = None
    rules: Path | None = None
    plot: Path | None = None


def run(event_log: EventLog, settings: Settings, evaluation: Evaluation, to_json: bool) -> None:
    """Evaluate and print.

    Raises
    ------
    InputError
        The data do not fit the protocol. What `check` looks at is right.
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    # one BLAS thread, as in a worker: for small products more threads only wait for each other
    with progress_bar(quiet=to_json) as stage, threadpool_limits(1, "blas"):
        split, validation = _splits(event_log, evaluation)
        stage("Loading the encoder")(0, 1)
        encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
        vectors = encoder.encode([describe_item(item) for item in event_log.items])
        ids = IdIndex(
            index_by_id(sorted({split.log.names.users[code] for code in np.unique(split.log.user)})),
            index_by_id(item.item_id for item in event_log.items),
        )
        indexed = IndexedSplit(split, ids)
        truth = ground_truth(indexed, vectors, evaluation.leaky, settings.interest.weights)
        truth = replace(truth, groups=grouped(evaluation.by, event_log.items, truth))
        systems: dict[str, System] = {}
        recall: dict[str, dict[int, SourceRecall]] = {}
        if PIPELINE in evaluation.systems or WITHOUT_MODEL in evaluation.systems:
            table = table_of(evaluation.rules, event_log.items)
            ours = EvaluatedModels(settings, encoder, event_log, split, evaluation.leaky, stage, table)
            models = evaluation.models or [settings.ranker.model]
            systems |= ours.judged(models, evaluation.systems, truth, evaluation.seed, evaluation.ablate)
            recall = ours.recall
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
    by = GroupReport(evaluation.by, truth.groups, systems) if evaluation.by and truth.groups else None
    if to_json:
        found = {"recall": recall_as_json(recall)} | ({"by": by.as_object()} if by else {})
        sys.stdout.write(json.dumps(as_json(facts | found, systems)) + "\n")
    else:
        _print(facts, systems)
        if recall:
            show(recall_table(recall, settings.candidates.limit))
        if by:
            show(*by.tables())
    if by and evaluation.plot:
        by.draw(evaluation.plot)


def check(evaluation: Evaluation, settings: Settings) -> None:
    """Refuse what can be refused before minutes are spent on the files.

    Raises
    ------
    InputError
        There is no such protocol or system, or the split does not fit the protocol.
    encoders.models.source.ModelNotFound
    """
    if evaluation.policy:
        _check_policy(evaluation)
    elif evaluation.protocol not in PROTOCOLS:
        got = repr(evaluation.protocol) if evaluation.protocol else "none"
        raise InputError(f"--protocol: got {got}, expected one of {', '.join(PROTOCOLS)}, or --policy in its place")
    unknown = [name for name in evaluation.systems if name not in SYSTEMS]
    if unknown:
        raise InputError(f"--systems: got {unknown[0]!r}, expected some of: {', '.join(SYSTEMS)}")
    if evaluation.leaky and evaluation.protocol not in LEAKY_PROTOCOLS:
        raise InputError(
            f"--leaky-split: got it with --protocol {evaluation.protocol}, expected {' or '.join(LEAKY_PROTOCOLS)}: "
            "in other protocols a system would learn the targets; leave it out"
        )
    check_groups(evaluation.by, evaluation.rules, evaluation.plot)
    names = [name(model) for model in evaluation.models]
    if len(set(names)) < len(names):
        raise InputError(f"--model: got {', '.join(names)}, expected models of different names; rename a folder")
    for model in evaluation.models or [settings.ranker.model]:
        ranker = settings.ranker.model_copy(update={"model": model})
        if PIPELINE in evaluation.systems and ranker.is_loaded and not folder_of(model).is_dir():
            fetch(model)


def _check_policy(evaluation: Evaluation) -> None:
    """Refuse options that estimates from impressions do not have."""
    given = {"--protocol": bool(evaluation.protocol), "--ablate": evaluation.ablate}
    given["--systems"] = evaluation.systems != SYSTEMS and not {PIPELINE, WITHOUT_MODEL}.issuperset(evaluation.systems)
    for option in filter(given.get, given):
        raise InputError(
            f"{option}: got it with --policy, expected none: the lists of {PIPELINE} and {WITHOUT_MODEL} are compared "
            "with those that were shown; leave it out"
        )


def _print(facts: dict[str, Any], systems: dict[str, System]) -> None:
    title = f"{facts['protocol']}: {facts['users']:,} users, {facts['lists']:,} lists, {facts['items']:,} items"
    if facts["leaky_split"]:
        title += ", leaky split: later events of other users were learnt"
    for reason, count in facts["left_out"].items():
        sys.stdout.write(f"left out, {reason}: {count:,}\n")
    show(*tables(title, systems, facts["cases_by_group"], facts["lists"]))


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
    until_ms = int(split.log.time_ms[split.fit_until]) if split.fit_until < len(split.log) else None
    before = [shown for shown in event_log.shown_lists if until_ms is None or shown.time_ms < until_ms]
    if not len(training):
        return split, Split([], [], 0, [])
    return split, split_by_protocol(evaluation.protocol, training, before, None)


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
            by_group=judge_groups(truth, result.lists, evaluation.seed),
        )
        for name, result in results.items()
        if name in names
    }


def _tuning_note(tuned: Tuned) -> str:
    if tuned.ndcg is None:
        return ""
    return f"best of {tuned.trials} on the validation part, NDCG@10 {tuned.ndcg:.4f}"
