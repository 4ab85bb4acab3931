"""`afterclick train`: read a log, let production's pipeline build lists from it, learn, and write a model's folder.

What was done is kept in `OUT/checkpoint` until the model is written: a run that was stopped goes on from there if it is
asked for the same again. Knows no loss and no model; called by the command line.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table

from encoders.models import source as model_source
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.score import Scorer
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train.fit import ModelRefused, fit, parted
from ranker.train.fusion_fit import Epoch
from ranker.train.lists import Lists
from ranker.train.losses import LOSSES
from streams.commands.training_end import finish, refuse, scored
from streams.datasets.messages import InputError
from streams.datasets.recorded import Recorded
from streams.offline.training_material import gather, new_folder
from streams.progress_bar import Bar, bars
from streams.settings import Settings

READING_SHARE, TUNING_SHARE, SCORING_SHARE = 0.3, 0.6, 0.9
"""Of the minutes: so much may have gone when the log is read, the language model is tuned, and its scores are taken."""


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
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    started = time.monotonic()
    _check(options)
    material = gather(recorded, settings, options.hold_out, options.lists, options.seed)
    checkpoint = material.checkpoint(options.out, settings, replace(options, out=Path(), max_minutes=0))
    ends = [started + options.max_minutes * 60 * s for s in (READING_SHARE, TUNING_SHARE, SCORING_SHARE, 1)]
    seed = options.seed
    try:
        with bars(quiet=to_json) as bar:
            lists = material.lists(settings, checkpoint, ends[0], bar)
            scorer, tuned, base = _model(lists, settings, options, ends[1], checkpoint, bar)
            lists, scores = scored(scorer, lists, seed, ends[2], lambda d, a: bar("Scoring the lists", d, a))
            trained = fit(
                scores, lists, options.loss, seed, lambda d, a: bar("Fitting the head", d, a), deadline=ends[3]
            )
    except ModelRefused as refused:
        refuse(refused, checkpoint)
    facts = {
        "base": options.base,
        "hold_out": options.hold_out,
        "loss": options.loss,
        "seed": seed,
        "lists": len(lists),
        "events": len(material.log),
        "data_sha256": lists.digest(),
        "dtype": scorer.placement.dtype if scorer else "float32",
        "seconds": round(time.monotonic() - started, 1),
    }
    finish(options.out, checkpoint, settings, lists, base, trained, tuned, facts)
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


def _check(options: Options) -> None:
    if options.loss not in LOSSES:
        raise InputError(f"--loss: got {options.loss!r}, expected one of {', '.join(LOSSES)}")
    if options.form not in (None, "packed", "cross"):
        raise InputError(f"--as: got {options.form!r}, expected packed or cross, or leave it out")
    if options.form is not None and not options.epochs:
        raise InputError(
            f"--as: got {options.form!r} with --epochs 0, expected epochs to train it; leave out one of them"
        )
    new_folder(options.out)


def _model(
    lists: Lists, settings: Settings, options: Options, deadline: float, checkpoint: Path, bar: Bar
) -> tuple[Scorer | None, list[Epoch], str | None]:
    """The scorer, tuned if it can be; the curve; and its name for `afterclick.json`, None if it is in the folder."""
    if options.base == "none":
        return None, [], "none"
    device = settings.ranker.device
    tuned = checkpoint / "curve.json"
    if tuned.is_file():
        points = json.loads(tuned.read_text(encoding="utf-8"))
        scorer = load_scorer(str(checkpoint / "model"), device, settings.ranker.dtype, in_training=True)
        return scorer, [Epoch(*point) for point in points], None
    name = options.base
    if options.form is not None:
        from ranker.train.student import start

        name = str(checkpoint / "start")
        start(options.base, options.form, checkpoint / "start", options.seed)
    dtype = "float32" if options.epochs else settings.ranker.dtype
    scorer = load_scorer(name, device, dtype, in_training=bool(options.epochs))
    if isinstance(scorer, FusedScorer):
        raise InputError(f"--base: got {options.base!r}, which has a fusion head already; expected the model under it")
    if isinstance(scorer, BiEncoder) or not options.epochs:
        return scorer, [], str(model_source.resolve(name)) if Path(name).is_dir() else name
    from ranker.train.model_fit import Effort, Trainable, fine_tune, save

    trainable = cast(Trainable, scorer)
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
    return load_scorer(str(checkpoint / "model"), device, settings.ranker.dtype, in_training=True), curve, None
