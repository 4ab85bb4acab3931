"""The bi-encoder alone: lists a second with nothing known and with nearly all known, a peer, and the limit.

Same texts, same number format, same threads for the peer, sentence-transformers, and in turns with it. It is given
each text once, as we compute it: its user would have to find that out. Called by `bench`; knows no Kafka.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
from rich.progress import Progress

from encoders import model_source
from encoders.describe import describe_history, describe_item
from encoders.device import Placement
from ranker import ScoreRequest
from ranker.bi_encoder import BiEncoder
from streams.bench.rows import Row
from streams.contracts import HistoryEvent, Item
from streams.demo.shop import START_MS, Shop
from streams.settings import Settings

SEED, ITEMS, CANDIDATES, HISTORY = 7, 1_000, 100, 20
ROUNDS = 3
MATMUL_SIZE, MATMULS = 1024, 8
PEER = "sentence-transformers"
NO_PEER = f"{PEER} is not installed: no row compares with it (pip install {PEER})."
DAY_MS = 86_400_000

T = TypeVar("T")
Encode = Callable[[Sequence[str]], object]


@dataclass(frozen=True)
class Case:
    """`lists` in each call, `calls` in each round; `warm`: all is known but each user's newest event."""

    lists: int
    calls: int
    warm: bool

    def __str__(self) -> str:
        lists = "1 list" if self.lists == 1 else f"{self.lists} lists"
        known = "all kept but each newest event" if self.warm else "nothing kept"
        return f"{lists} a call, {known}"


CASES = (Case(1, 2, warm=False), Case(32, 1, warm=False), Case(1, 40, warm=True), Case(32, 5, warm=True))


class Texts:
    """Score requests over the generated shop, of `CANDIDATES` items and `HISTORY` events each."""

    def __init__(self) -> None:
        self._items = Shop(SEED, ITEMS, shoppers=1).items
        self._random = np.random.default_rng(SEED)
        self._numbers = count(1)

    def request(self) -> ScoreRequest:
        """Draw items for the history and the candidates, all as likely."""
        places = self._random.permutation(ITEMS)
        events = [
            _event(self._items[place], START_MS - age * DAY_MS) for age, place in enumerate(places[:HISTORY].tolist())
        ]
        candidates = [describe_item(self._items[place]) for place in places[HISTORY : HISTORY + CANDIDATES].tolist()]
        return ScoreRequest(describe_history(events[::-1], START_MS), candidates)

    def with_new_event(self, request: ScoreRequest) -> tuple[ScoreRequest, str]:
        """Let the user click something at a price that nobody ever saw, so that nobody kept the line."""
        item = self._items[int(self._random.integers(ITEMS))]
        line = describe_history([_event(item, START_MS, price=next(self._numbers) / 100)], START_MS)
        _, _, rest = request.context.partition("\n")
        return ScoreRequest(f"{rest}\n{line}", request.candidates), line


def measure(settings: Settings, progress: Progress) -> list[Row]:
    """Measure every case, and useful work against the rate of plain matrix products."""
    model = settings.encoder.model
    cold = BiEncoder(model, settings.encoder.device, settings.encoder.dtype, cache_bytes=0)
    warm = BiEncoder(model, settings.encoder.device, settings.encoder.dtype)
    peer = _peer(model, cold.placement)
    texts = Texts()
    texts_of = [texts.request() for _ in range(max(case.lists for case in CASES))]
    cold.score(texts_of[:1])
    warm.score(texts_of)
    if peer:
        peer(texts_of[0].candidates)
    note = f"{model} in {cold.placement.dtype}, {CANDIDATES} candidates, {HISTORY} events. " + ("" if peer else NO_PEER)
    work = Work(cold, model)
    rows = []
    for case in CASES:
        ours, theirs = [], []
        for _ in progress.track(range(ROUNDS), description=f"Bi-encoder: {case}"):
            calls = [_call(texts, texts_of, case) for _ in range(case.calls)]
            lists = case.lists * case.calls
            requests = [requests for requests, _ in calls]
            seconds = _seconds(warm.score, requests) if case.warm else work.seconds(requests, case)
            ours.append(lists / seconds)
            if peer:
                theirs.append(lists / _seconds(peer, [new for _, new in calls]))
        rows.append(Row(str(case), "lists/s", ours, PEER if peer else "", theirs, note=note))
    return [*rows, *work.rows()]


class Work:
    """Useful work of calls with nothing kept: 2 operations for each weight of the layers and each token.

    Beside each round, the rate of plain matrix products in the same format on the same threads.
    """

    def __init__(self, scorer: BiEncoder, model: str) -> None:
        config = model_source.read_json(model_source.fetch(model), "config.json", dict) or {}
        hidden, layers, inner = (int(config[key]) for key in ("hidden_size", "num_hidden_layers", "intermediate_size"))
        self._weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
        self._scorer = scorer
        self._gflops: dict[Case, list[tuple[float, float]]] = {}

    def seconds(self, calls: Sequence[list[ScoreRequest]], case: Case) -> float:
        """Time the calls, and note what they computed."""
        usage = self._scorer.usage
        before = usage.context_tokens + usage.candidate_tokens
        seconds = _seconds(self._scorer.score, calls)
        tokens = usage.context_tokens + usage.candidate_tokens - before
        rate = 2 * self._weights * tokens / seconds / 1e9
        self._gflops.setdefault(case, []).append((rate, _matmul_gflops(self._scorer.placement)))
        return seconds

    def rows(self) -> list[Row]:
        """One for each case that was timed."""
        return [
            Row(
                f"useful work, {case}",
                "GFLOP/s",
                [rate for rate, _ in rounds],
                f"matrix products of {MATMUL_SIZE} in {self._scorer.placement.dtype}",
                [limit for _, limit in rounds],
                note="Useful work leaves out attention (about 1% at these lengths), tokenising and padding.",
            )
            for case, rounds in self._gflops.items()
        ]


def _call(texts: Texts, known: Sequence[ScoreRequest], case: Case) -> tuple[list[ScoreRequest], list[str]]:
    """The requests of one call, and the distinct texts that have to be computed for them."""
    if case.warm:
        fresh = [texts.with_new_event(request) for request in known[: case.lists]]
        return [request for request, _ in fresh], [line for _, line in fresh]
    requests = [texts.request() for _ in range(case.lists)]
    events = dict.fromkeys(line for request in requests for line in request.context.splitlines())
    items = dict.fromkeys(text for request in requests for text in request.candidates)
    return requests, [*events, *items]


def _matmul_gflops(placement: Placement) -> float:
    dtype = getattr(torch, placement.dtype)
    left, right = (torch.ones(MATMUL_SIZE, MATMUL_SIZE, dtype=dtype, device=placement.device) for _ in range(2))

    def multiply(times: int) -> float:
        for _ in range(times):
            product = left @ right
        return float(product[0, 0])  # waits for a GPU

    _seconds(multiply, [1])  # what the first call does once
    return 2 * MATMUL_SIZE**3 * MATMULS / _seconds(multiply, [MATMULS]) / 1e9


def _peer(model: str, placement: Placement) -> Encode | None:
    """The same model in the same format in sentence-transformers, if that is installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    logging: Any = importlib.import_module("transformers.utils.logging")
    logging.disable_progress_bar()  # of loading weights; ours is enough
    loaded: Any = importlib.import_module("sentence_transformers").SentenceTransformer(
        str(model_source.fetch(model)),
        device=placement.device,
        model_kwargs={"dtype": getattr(torch, placement.dtype)},
    )

    def encode(texts: Sequence[str]) -> object:
        return loaded.encode(list(texts), show_progress_bar=False)

    return encode


def _event(item: Item, time_ms: int, price: float | None = None) -> HistoryEvent:
    return HistoryEvent(
        item_id=item.item_id,
        type="click",
        timestamp=time_ms,
        title=item.title,
        brand=item.brand,
        categories=item.categories,
        price=item.price if price is None else price,
        currency=item.currency,
    )


def _seconds(action: Callable[[T], object], inputs: Sequence[T]) -> float:
    begin = time.perf_counter()
    for given in inputs:
        action(given)
    return time.perf_counter() - begin
