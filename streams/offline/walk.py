"""Lists to learn from, built by the pipeline of production while it reads the log: test, then train.

At each question the state tier has taken in what came before it and nothing else; its own sources give the candidates,
so the negatives are those that the model will meet, what the user looked at before among them. Called by `material`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import numpy as np

from encoders.describe import describe_history, describe_item
from encoders.event_time import milliseconds
from encoders.text.encoder import TextEncoder
from ranker import features
from ranker.evaluation.protocols import Case, Interaction, Split
from ranker.train.lists import NOBODY, Lists
from streams.contracts import Item
from streams.offline.production import Production
from streams.settings import Settings

Progress = Callable[[int, int], None]


def build(
    settings: Settings,
    encoder: TextEncoder,
    items: Sequence[Item],
    log: Sequence[Interaction],
    asked: Sequence[Case],
    deadline: float,
    progress: Progress,
) -> Lists:
    """Ask the pipeline each question at its place of the log.

    Only the best `ranker.max_candidates` are kept, as the rank tier does. Once `time.monotonic()` is `deadline` it
    stops, with the lists of what was read until then, the older ones.
    """
    split = Split(log, list(range(len(log))), len(log), list(asked))
    number = {item.item_id: place for place, item in enumerate(items)}
    longest = max([settings.ranker.max_candidates, *(len(case.shown) for case in asked)])
    most = min(longest, max(settings.candidates.limit, *(len(case.shown) for case in asked), 1))
    candidates = np.full((len(asked), most), NOBODY, np.int32)
    chosen = np.zeros((len(asked), most), bool)
    priors = np.zeros((len(asked), most), np.float32)
    values = np.zeros((len(asked), most, len(features.NAMES)), np.float16)
    contexts: list[str] = []
    requests = Production(settings, encoder, items, split).requests(
        peek=False, progress=progress, leave_out_known=False
    )
    for place, (case, request) in enumerate(zip(split.cases, requests, strict=True)):
        contexts.append(describe_history(request.history, milliseconds(request.as_of)))
        given = request.features
        known = None if given is None else features.read(given.schema, given.values, len(request.candidates))
        if known is None:
            raise AssertionError("the state tier computes features for every candidate")
        retrieval_score = np.array([candidate.retrieval_score for candidate in request.candidates], np.float32)
        best = np.argsort(-retrieval_score, kind="stable")[:most]
        kept = slice(len(best))
        candidates[place, kept] = [number[request.candidates[one].item_id] for one in best]
        chosen[place, kept] = [request.candidates[one].item_id in case.targets for one in best]
        priors[place, kept], values[place, kept] = retrieval_score[best], known[best]
        if time.monotonic() > deadline:
            break
    made = len(contexts)
    return Lists(
        texts=[describe_item(item) for item in items],
        contexts=contexts,
        candidates=candidates[:made],
        chosen=chosen[:made],
        targets=np.array([len(case.targets) for case in split.cases[:made]], np.int32),
        priors=priors[:made],
        features=values[:made],
    )


def drawn(asked: Sequence[Case], most: int, seed: int) -> list[Case]:
    """At most so many questions, in their order."""
    places = range(len(asked))
    if len(asked) > most:
        places = sorted(random.Random(seed).sample(places, most))  # type: ignore[assignment]
    return [asked[place] for place in places]
