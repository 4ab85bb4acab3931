"""`afterclick train`: read a log, let production's pipeline build lists from it, learn, and write a model's folder.

What was done is kept in `OUT/checkpoint` until the model is written: a run that was stopped goes on from there if it is
asked for the same again. Knows no loss and no model; called by the command line.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from encoders import model_source
from encoders.text import TextEncoder
from ranker import Scorer, known_answers, load_scorer
from ranker.bi_encoder import BiEncoder
from ranker.fusion import FusedScorer
from ranker.protocols import Case, Interaction, impressions, ordered
from ranker.train.fit import ModelRefused, Trained, fit, parted, write
from ranker.train.fusion_fit import Epoch
from ranker.train.lists import Lists, cases
from ranker.train.losses import LOSSES
from streams.evaluate.parts import split_by
from streams.evaluate.recorded import Recorded
from streams.replay.messages import InputError
from streams.settings import Settings
from streams.train.walk import build, drawn

ORDER_SEED = 1
"""As `evaluate` orders events of one time by default, so that both mean the same log."""
TUNING_SHARE, SCORING_SHARE = 0.6, 0.9
"""Of the minutes: so much may have gone when the language model is tuned, and when its scores are taken."""
LEAST_SCORED = 50
KNOWN_LISTS, KNOWN_CANDIDATES = 4, 16
"""Of the known answers: some seconds on a large model, and enough to tell a wrong one."""

Bar = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """What to learn and how.

    Attributes
    ----------
    base : a model as `load_scorer` takes it; `none`: behaviour alone.
    form : what an embedding model becomes: None: a bi-encoder, as it is; `packed` or `cross`: trained to be that.
    epochs : of the language model; 0: it stays as it is and only the head learns.
    hold_out : a protocol of `evaluate` whose answers are left out, or a time; None: learn from everything.
    lists : at most, drawn by the seed.
    """

    base: str
    out: Path
    form: str | None = None
    lora: bool = False
    epochs: int = 1
    max_minutes: float = 45.0
    hold_out: str | None = None
    loss: str = "softmax"
    lists: int = 20_000
    seed: int = 1


def run(recorded: Recorded, settings: Settings, options: Options, to_json: bool) -> None:
    """Train, write the folder and print what came of it.

    Raises
    ------
    SystemExit
        Status 1: the model was refused.
    InputError
        Options or data that nothing can be learnt from.
    encoders.model_source.ModelNotFound, encoders.model_source.ModelUnsupported
    """
    started = time.monotonic()
    _check(options)
    log = _log(recorded, options.hold_out)
    asked = _asked(log, recorded, settings, options)
    fingerprint = _fingerprint(recorded, log, settings, options)
    checkpoint = _checkpoint(options.out, fingerprint)
    try:
        with _bars(quiet=to_json) as bar:
            lists = _lists(recorded, settings, log, asked, checkpoint, bar)
            scorer, tuned, base = _model(lists, settings, options, started, checkpoint, bar)
            lists, scores = _scores(scorer, lists, options, started, bar)
            trained = fit(scores, lists, options.loss, options.seed, lambda d, a: bar("Fitting the head", d, a))
    except ModelRefused as refused:
        shutil.rmtree(checkpoint, ignore_errors=True)
        sys.stderr.write(f"afterclick: {refused}\n")
        raise SystemExit(1) from refused
    facts = {
        "base": options.base,
        "hold_out": options.hold_out,
        "loss": options.loss,
        "seed": options.seed,
        "lists": len(lists),
        "events": len(log),
        "data_sha256": lists.digest(),
        "dtype": scorer.placement.dtype if scorer else "float32",
        "seconds": round(time.monotonic() - started, 1),
    }
    if (checkpoint / "model").is_dir():
        for file in (checkpoint / "model").iterdir():
            shutil.move(file, options.out / file.name)
    write(options.out, base, trained, tuned, facts)
    served = load_scorer(str(options.out), settings.ranker.device, settings.ranker.dtype)
    known_answers.write(options.out, served, lists.made_up(KNOWN_LISTS, KNOWN_CANDIDATES, options.seed))
    shutil.rmtree(checkpoint)
    _print(trained, facts, options, to_json)


def _check(options: Options) -> None:
    if options.loss not in LOSSES:
        raise InputError(f"--loss: got {options.loss!r}, expected one of {', '.join(LOSSES)}")
    if options.form not in (None, "packed", "cross"):
        raise InputError(f"--as: got {options.form!r}, expected packed or cross, or leave it out")
    if (options.out / "afterclick.json").exists():
        raise InputError(f"--out: got {options.out}, which holds a model; expected a new folder, or remove that one")


def _log(recorded: Recorded, hold_out: str | None) -> list[Interaction]:
    """What may be learnt from, in order."""
    log = ordered(recorded.events, ORDER_SEED)
    if hold_out is None:
        return log
    if hold_out in ("leave-one-out", "next-basket"):
        return split_by(hold_out, log, recorded.shown, None).training
    return split_by("time-split", log, recorded.shown, hold_out).training


def _asked(log: list[Interaction], recorded: Recorded, settings: Settings, options: Options) -> list[Case]:
    """The questions: what users did next, and what they chose of the lists that they were shown."""
    asked = cases(log, first_time=not settings.candidates.repeat_purchases)
    last_ms = log[-1].time_ms if log else 0
    shown = [one for one in recorded.shown if one.time_ms <= last_ms]
    asked += impressions(log, shown, 0).cases
    if not asked:
        raise InputError("got no user with an event and a later one; expected some to learn from")
    return drawn(sorted(asked, key=lambda case: (case.place, case.user, case.shown)), options.lists, options.seed)


def _lists(
    recorded: Recorded,
    settings: Settings,
    log: Sequence[Interaction],
    asked: Sequence[Case],
    checkpoint: Path,
    bar: Bar,
) -> Lists:
    kept = checkpoint / "lists.pickle"
    if kept.is_file():
        with kept.open("rb") as file:
            return cast(Lists, pickle.load(file))  # ours: the folder's fingerprint says so
    encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
    lists = build(settings, encoder, recorded.items, log, asked, lambda d, a: bar("The pipeline reads the log", d, a))
    with (checkpoint / "new.pickle").open("wb") as file:
        pickle.dump(lists, file)
    (checkpoint / "new.pickle").replace(kept)
    return lists


def _model(
    lists: Lists, settings: Settings, options: Options, started: float, checkpoint: Path, bar: Bar
) -> tuple[Scorer | None, list[Epoch], str | None]:
    """The scorer, tuned if it can be; the curve; and its name for `afterclick.json`, None if it is in the folder."""
    if options.base == "none":
        return None, [], "none"
    device = settings.ranker.device
    tuned = checkpoint / "curve.json"
    if tuned.is_file():
        points = json.loads(tuned.read_text(encoding="utf-8"))
        return load_scorer(str(checkpoint / "model"), device, settings.ranker.dtype), [Epoch(*p) for p in points], None
    name = options.base
    if options.form is not None:
        from ranker.train.model_fit import start

        name = str(checkpoint / "start")
        start(options.base, options.form, checkpoint / "start", options.seed)
    scorer = load_scorer(name, device, "float32" if options.epochs else settings.ranker.dtype)
    if isinstance(scorer, FusedScorer):
        raise InputError(f"--base: got {options.base!r}, which has a fusion head already; expected the model under it")
    if isinstance(scorer, BiEncoder) or not options.epochs:
        return scorer, [], str(model_source.resolve(name)) if Path(name).is_dir() else name
    from ranker.train.model_fit import Effort, Trainable, fine_tune, save

    trainable = cast(Trainable, scorer)
    deadline = started + options.max_minutes * 60 * TUNING_SHARE
    effort = Effort(options.epochs, deadline, options.seed, options.lora)
    older, newer = parted(lists)
    curve = fine_tune(
        trainable,
        older,
        newer,
        LOSSES[options.loss],
        effort,
        checkpoint / "tuning",
        lambda d, a: bar("Tuning the language model", d, a),
    )
    save(trainable, name, checkpoint / "model")
    tuned.write_text(json.dumps([[epoch.loss, epoch.ndcg] for epoch in curve]), encoding="utf-8")
    return load_scorer(str(checkpoint / "model"), device, settings.ranker.dtype), curve, None


def _scores(
    scorer: Scorer | None, lists: Lists, options: Options, started: float, bar: Bar
) -> tuple[Lists, np.ndarray[Any, np.dtype[np.float32]]]:
    """The scorer's scores, of as many lists as there is time for; newer and older ones alike."""
    if scorer is None:
        return lists, np.zeros(lists.candidates.shape, np.float32)
    from ranker.train.model_fit import score

    order = np.random.default_rng(options.seed).permutation(len(lists))
    deadline = started + options.max_minutes * 60 * SCORING_SHARE
    scores = score(scorer, lists[order], deadline, lambda d, a: bar("Scoring the lists", d, a))
    if len(scores) < min(LEAST_SCORED, len(lists)):
        raise ModelRefused(
            f"train: got the scores of {len(scores)} lists in --max-minutes {options.max_minutes:g}, expected at least "
            f"{LEAST_SCORED}; give it more time, or a smaller --base"
        )
    in_time = np.argsort(order[: len(scores)])
    return lists[order[: len(scores)][in_time]], scores[in_time]


def _fingerprint(recorded: Recorded, log: Sequence[Interaction], settings: Settings, options: Options) -> str:
    """Whatever changes what a checkpoint holds, but for the time that there is."""
    asked = {name: str(value) for name, value in asdict(options).items() if name not in ("out", "max_minutes")}
    hashed = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    used = (settings.encoder, settings.interest, settings.candidates, settings.ranker.best, recorded.items, log)
    hashed.update(repr(used).encode())
    return hashed.hexdigest()


def _checkpoint(out: Path, fingerprint: str) -> Path:
    folder = out / "checkpoint"
    named = folder / "fingerprint"
    if not named.is_file() or named.read_text(encoding="utf-8") != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        named.write_text(fingerprint, encoding="utf-8")
    return folder


def _print(trained: Trained, facts: dict[str, Any], options: Options, to_json: bool) -> None:
    figures = {"fused": trained.ours, **trained.parts, **trained.references}
    if to_json:
        rounded = {name: round(value, 6) for name, value in figures.items()}
        sys.stdout.write(json.dumps({"out": str(options.out), "validation_ndcg_at_10": rounded, **facts}) + "\n")
        return
    table = Table(title=f"{options.out}: {facts['lists']:,} lists in {facts['seconds']:.0f} s")
    table.add_column("on the newer lists")
    table.add_column("NDCG@10", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


@contextmanager
def _bars(quiet: bool) -> Iterator[Bar]:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        task = bars.add_task("Reading", total=None)
        yield lambda text, done, total: bars.update(task, description=text, completed=done, total=total)
