"""`afterclick evaluate`: take a log apart by a protocol, ask every system, judge all alike, print one table.

Called by the command line.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from encoders.describe import describe_item
from encoders.event_time import milliseconds
from encoders.text.encoder import TextEncoder
from ranker.evaluation.baselines.compare import Asked, Numbers, Plan, Tuned, ask, tune
from ranker.evaluation.baselines.method import Shop
from ranker.evaluation.baselines.methods import METHODS, with_parts
from ranker.evaluation.judge import RARE, Questions, judge, questions_by_group
from ranker.evaluation.protocols import Split, ordered
from ranker.load import load_scorer
from streams.commands.evaluation_report import System, as_json, tables
from streams.datasets.messages import InputError
from streams.datasets.recorded import Recorded
from streams.offline.production import Production
from streams.offline.split import split_by
from streams.progress_bar import Bar, bars
from streams.settings import Settings

PEEKABLE = ("leave-one-out", "next-basket")
OURS, WITHOUT_MODEL = "afterclick", "afterclick-no-model"


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes
    ----------
    cut : where `time-split`, `prequential` and `impressions` begin to ask: a time, or the share of events before it.
    users : so many users are asked, drawn by the seed; None: all.
    systems : rows of the table.
    trials : settings tried for each traditional method.
    max_minutes : of a method that trains for long, tuning included.
    peek : every system first learns all that may be learned, other users' later events too.
    """

    protocol: str
    cut: str | None = None
    users: int | None = None
    systems: Sequence[str] = (OURS, WITHOUT_MODEL, *METHODS)
    trials: int = 8
    max_minutes: float = 20.0
    seed: int = 1
    line_order: bool = False
    peek: bool = False


def run(recorded: Recorded, settings: Settings, options: Options, to_json: bool) -> None:
    """Evaluate and print.

    Raises
    ------
    InputError
        The options or the data do not fit the protocol.
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    unknown = [name for name in options.systems if name not in (OURS, WITHOUT_MODEL, *METHODS)]
    if unknown:
        every = ", ".join((OURS, WITHOUT_MODEL, *METHODS))
        raise InputError(f"--systems: got {unknown[0]!r}, expected some of: {every}")
    if options.peek and options.protocol not in PEEKABLE:
        raise InputError(
            f"--leaky-split: got it with --protocol {options.protocol}, expected {' or '.join(PEEKABLE)}: elsewhere a "
            "system would learn the answers; leave it out"
        )
    # one BLAS thread, as in a worker: for small products more of them only wait for each other
    with bars(quiet=to_json) as bar, threadpool_limits(1, "blas"):
        split, validation = _splits(recorded, options)
        bar("Loading the encoder", 0, 1)
        encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
        vectors = encoder.encode([describe_item(item) for item in recorded.items])
        numbers = Numbers(
            {user: number for number, user in enumerate(sorted({event.user for event in split.log}))},
            {item.item_id: number for number, item in enumerate(recorded.items)},
        )
        asked = Asked(split, numbers)
        questions = _questions(asked, vectors, options.peek)
        systems: dict[str, System] = {}
        if OURS in options.systems or WITHOUT_MODEL in options.systems:
            systems |= _ours(recorded, settings, encoder, split, questions, options, bar)
        systems |= _theirs(recorded, asked, validation, questions, options, bar)
    sizes = questions_by_group(questions)
    facts = {
        "protocol": options.protocol,
        "users": len(set(questions.users.tolist())),
        "lists": len(split.cases),
        "items": len(recorded.items),
        "events_to_learn": len(split.learnable),
        "left_out": recorded.left_out,
        "peek": options.peek,
        "seed": options.seed,
        "trials": options.trials,
        "questions_by_group": sizes,
    }
    if to_json:
        sys.stdout.write(json.dumps(as_json(facts, systems)) + "\n")
        return
    title = f"{options.protocol}: {facts['users']:,} users, {facts['lists']:,} lists, {facts['items']:,} items"
    console = Console()
    for reason, count in recorded.left_out.items():
        console.print(f"left out, {reason}: {count:,}")
    console.print(tables(title + (", with a peek at later events" if options.peek else ""), systems, sizes))


def _splits(recorded: Recorded, options: Options) -> tuple[Split, Split]:
    """The test part, of the users drawn, and the validation part: the same protocol on the training part."""
    log = ordered(recorded.events, options.seed, options.line_order)
    split = split_by(options.protocol, log, recorded.shown, options.cut)
    if options.users is not None:
        everybody = sorted({case.user for case in split.cases})
        drawn = set(random.Random(options.seed).sample(everybody, min(options.users, len(everybody))))
        cases = [case for case in split.cases if case.user in drawn]
        split = Split(split.log, split.learnable, split.fit_until, cases)
    if not split.cases:
        raise InputError(
            f"--protocol {options.protocol}: got nobody to ask, expected users with an event before the question and a "
            "new item after it"
        )
    training = split.training
    until_ms = split.log[split.fit_until].time_ms if split.fit_until < len(split.log) else None
    before = [one for one in recorded.shown if until_ms is None or one.time_ms < until_ms]
    return split, split_by(options.protocol, training, before, None) if training else Split([], [], 0, [])


def _questions(asked: Asked, vectors: Any, peek: bool) -> Questions:
    """What is asked, in numbers; how often an item was met is counted as time passes."""
    split, numbers = asked.split, asked.numbers
    total = Counter(numbers.items[split.log[place].item] for place in split.learnable)
    met: Counter[int] = Counter(total) if peek else Counter()
    rare, fed = [], 0
    for case in split.cases:
        while not peek and fed < len(split.learnable) and split.learnable[fed] < case.place:
            met[numbers.items[split.log[split.learnable[fed]].item]] += 1
            fed += 1
        rare.append(frozenset(item for item in asked.targets(case) if met[item] < RARE))
    counts = np.array([total[item] for item in range(len(vectors))], np.float64) + 1
    return Questions(
        users=np.array([numbers.users[case.user] for case in split.cases], np.intp),
        targets=[asked.targets(case) for case in split.cases],
        rare=rare,
        known=np.array([len(split.known_places(case)) for case in split.cases], np.intp),
        shown=np.array([bool(case.shown) for case in split.cases]),
        information=-np.log2(counts / counts.sum()),
        vectors=vectors,
    )


def _ours(
    recorded: Recorded,
    settings: Settings,
    encoder: TextEncoder,
    split: Split,
    questions: Questions,
    options: Options,
    bar: Bar,
) -> dict[str, System]:
    production = Production(settings, encoder, recorded.items, split)
    requests = production.ask(options.peek, partial(bar, "The pipeline reads the log"))
    systems = {}
    for name, model in ((OURS, settings.ranker.model), (WITHOUT_MODEL, "none")):
        if name in options.systems:
            ranker = settings.ranker
            scorer = None if model == "none" else load_scorer(model, ranker.device, ranker.dtype)
            found = production.rank(requests, scorer, partial(bar, name))
            note = f"{found.degraded:,} lists without the model" if scorer and found.degraded else ""
            measures = judge(questions, found.answers, options.seed)
            systems[name] = System(measures, found.seconds, {"model": model}, note)
    return systems


def _theirs(
    recorded: Recorded, asked: Asked, validation: Split, questions: Questions, options: Options, bar: Bar
) -> dict[str, System]:
    names = [name for name in METHODS if name in options.systems]
    needed = with_parts(names)
    appeared = [0 if item.timestamp is None else milliseconds(item.timestamp) for item in recorded.items]
    shop = Shop(len(asked.numbers.users), questions.vectors, np.array(appeared, np.int64))
    plan = Plan(
        trials=options.trials,
        seconds=options.max_minutes * 60,
        seed=options.seed,
        peek=options.peek,
        available=np.array([item.available for item in recorded.items]),
    )
    tuned = tune(needed, Asked(validation, asked.numbers), shop, plan, bar)
    answered = ask(needed, tuned, asked, shop, plan, bar)
    return {
        name: System(
            judge(questions, answers, options.seed),
            seconds + tuned[name].seconds,
            tuned[name].setting,
            "; ".join(filter(None, [_validated(tuned[name]), account])),
        )
        for name, (answers, seconds, account) in answered.items()
        if name in names
    }


def _validated(tuned: Tuned) -> str:
    if tuned.ndcg is None:
        return ""
    return f"best of {tuned.trials} on the validation part, NDCG@10 {tuned.ndcg:.4f}"
