"""`afterclick evaluate --policy`: what other rankers would have got, estimated from the lists that were shown."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from encoders.text.encoder import TextEncoder
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.impressions import AnsweredList, answered
from ranker.evaluation.log_order import ordered
from ranker.evaluation.measures import K
from ranker.evaluation.off_policy import NO_ITEM, Interval, LoggedLists, PolicyEstimate, estimate, logged_value
from ranker.evaluation.protocols import Case, Split
from ranker.load import load_recall, load_scorer
from ranker.progress import StageProgress
from ranker.version import name
from streams.commands.evaluate import Evaluation
from streams.commands.evaluated_groups import table_of
from streams.commands.evaluated_models import PIPELINE, WITHOUT_MODEL
from streams.datasets.event_log import EventLog
from streams.datasets.messages import InputError
from streams.models.remote.servers import RerankServers
from streams.offline.split_by_protocol import cut_index
from streams.offline.split_pipeline import SplitPipeline
from streams.settings import Settings
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import SENTENCE, Field, Report, show

UNKNOWN_SHARE = 0.1
"""Of what a ranker would show: above it the table says what it means for the estimates. Chosen by us."""

Figures = dict[str, PolicyEstimate]


def run(event_log: EventLog, settings: Settings, evaluation: Evaluation, to_json: bool) -> None:
    """Estimate and print.

    Raises
    ------
    InputError
        No list was shown in the part of the log that is asked about.
    encoders.models.source.ModelNotFound, encoders.models.source.ModelUnsupported
    """
    with progress_bar(quiet=to_json) as stage, threadpool_limits(1, "blas"):
        log = ordered(event_log.events, evaluation.seed, evaluation.line_order)
        every = answered(log, event_log.shown_lists)
        index = cut_index(log, evaluation.cut)
        lists, facts = _usable([one for one in every if one.log_index >= index], evaluation)
        split = Split(log, np.arange(len(log)), index, [_case(one) for one in lists])
        logged = _logged(lists, index_by_id(item.item_id for item in event_log.items))
        figures = _figures(event_log, settings, evaluation, split, logged, stage)
    clicks = logged_value(logged, evaluation.seed)
    if to_json:
        sys.stdout.write(json.dumps(_as_json(facts, clicks, figures)) + "\n")
    else:
        show(_table(facts, clicks, figures, logged.shown.shape[1]))


def _usable(lists: Sequence[AnsweredList], evaluation: Evaluation) -> tuple[list[AnsweredList], dict[str, Any]]:
    """The lists to estimate from, in the order of a split, and what to say of them."""
    if evaluation.users is not None:
        users = sorted({one.shown.user for one in lists})
        drawn = set(random.Random(evaluation.seed).sample(users, min(evaluation.users, len(users))))
        lists = [one for one in lists if one.shown.user in drawn]
    lists = [one for one in lists if one.shown.items]
    with_propensities = [one for one in lists if one.shown.propensities]
    used = with_propensities or lists
    if not used:
        raise InputError("--policy: got no list that was shown, expected impressions after the cut; see --cut")
    used.sort(key=lambda one: (one.log_index, one.shown.user))
    facts = {
        "lists": len(used),
        "users": len({one.shown.user for one in used}),
        "lists_without_propensities": len(lists) - len(with_propensities),
        "seed": evaluation.seed,
    }
    return used, facts


def _case(one: AnsweredList) -> Case:
    return Case(one.shown.user, one.log_index, one.shown.time_ms, frozenset())


def _logged(lists: Sequence[AnsweredList], item_index: dict[str, int]) -> LoggedLists:
    """The first `K` places of the lists. Where no list has propensities, what was shown was certain."""
    places = min(K, max(len(one.shown.items) for one in lists))
    shown = np.full((len(lists), places), NO_ITEM, np.intp)
    clicks, propensities = np.zeros((len(lists), places)), np.ones((len(lists), places))
    for row, one in enumerate(lists):
        items = one.shown.items[:places]
        shown[row, : len(items)] = [item_index[item] for item in items]
        clicks[row, : len(items)] = [item in one.chosen for item in items]
        if one.shown.propensities:
            propensities[row, : len(items)] = one.shown.propensities[:places]
    users = index_by_id(sorted({one.shown.user for one in lists}))
    return LoggedLists(np.array([users[one.shown.user] for one in lists], np.intp), shown, clicks, propensities)


def _figures(
    event_log: EventLog,
    settings: Settings,
    evaluation: Evaluation,
    split: Split,
    logged: LoggedLists,
    stage: StageProgress,
) -> Figures:
    """The estimates of our lists with each model, and without one."""
    greedy = settings.ranker.model_copy(update={"explore": 0.0})
    settings = settings.model_copy(update={"ranker": greedy})
    encoder = TextEncoder(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
    models = list(evaluation.models or [greedy.model])
    rows = {PIPELINE if len(models) == 1 else f"{PIPELINE} {name(model)}": model for model in models}
    table = table_of(evaluation.rules or settings.rules, event_log.items)
    figures: Figures = {}
    asked = None
    asked_rows = rows if PIPELINE in evaluation.systems else {}
    for row, model in (asked_rows | ({WITHOUT_MODEL: "none"} if WITHOUT_MODEL in evaluation.systems else {})).items():
        trained = load_recall(models[0] if model == "none" else model)
        if asked is None or not trained.recalls_like(asked):
            asked = trained
            pipeline = SplitPipeline(settings, encoder, event_log.items, split, trained, event_log.triples)
            progress = stage(f"{row}: the pipeline reads the log")
            requests = [case.request for case in pipeline.asked(False, progress, exclude_history=False)]
        with closing(RerankServers(greedy.model_copy(update={"model": model}), must_answer=True)) as servers:
            scorer = None if model == "none" else load_scorer(model, greedy.device, greedy.dtype, connect=servers)
            ranked = pipeline.rank(requests, scorer, stage(row), table).lists
        target = np.full(logged.shown.shape, NO_ITEM, np.intp)
        for places, list_ in zip(target, ranked, strict=True):
            top = list_.ranked[: len(places)]
            places[: len(top)] = top
        figures[row] = estimate(logged, target, evaluation.seed)
    return figures


def _as_json(facts: dict[str, Any], clicks: Interval, figures: Figures) -> dict[str, Any]:
    def interval(one: Interval) -> list[float | None]:
        return [round(value, 6) if math.isfinite(value) else None for value in one]

    return {
        **facts,
        "logged": interval(clicks),
        "systems": {
            row: {
                **{name: interval(getattr(found, name)) for name in ("ips", "snips", "dr", "difference")},
                "effective_lists": round(found.effective_lists, 1),
                "overlap": round(found.overlap, 4),
                "refusal": found.refusal,
            }
            for row, found in figures.items()
        },
    }


def _table(facts: dict[str, Any], clicks: Interval, figures: Figures, places: int) -> Report:
    title = f"clicks per list in the first {places} places: {facts['users']:,} users, {facts['lists']:,} lists"
    caption = "below each value its 95% interval: bootstrap over users"
    if without := facts["lists_without_propensities"]:
        rest = "left out" if without < facts["lists"] else "what they showed counts as certain"
        caption += f". {without:,} lists without propensities: {rest}"
    numbers = [
        Field(heading, number=True) for heading in ("IPS", "SNIPS", "doubly robust", "effective lists", "overlap")
    ]
    report = Report((Field("system"), *numbers, Field("against what was logged", wrap=SENTENCE)), title, caption)
    report.add("as logged", *[_cell(clicks)] * 3, f"{facts['lists']:,}", "1.00", "")
    for row, found in figures.items():
        cells = ["-"] * 3 if found.refusal else [_cell(one) for one in (found.ips, found.snips, found.dr)]
        report.add(row, *cells, f"{found.effective_lists:,.0f}", f"{found.overlap:.2f}", _verdict(found))
    return report


def _verdict(found: PolicyEstimate) -> str:
    if found.refusal:
        return f"cannot be told: {found.refusal}"
    difference = found.difference
    word = "better" if difference.low > 0 else "worse" if difference.high < 0 else "no difference seen"
    words = f"{word}: {difference.value:+.4f} clicks per list ({difference.low:+.4f} to {difference.high:+.4f})"
    if found.overlap > 1 - UNKNOWN_SHARE:
        return words
    unknown = f"{1 - found.overlap:.0%} of what this ranker would show was never shown there"
    return f"{words}. {unknown}: IPS leaves it out, and the doubly robust estimate rests on the click model"


def _cell(one: Interval) -> str:
    return f"{one.value:.4f}\n{one.low:.4f} {one.high:.4f}" if math.isfinite(one.value) else "-"
