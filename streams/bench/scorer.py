"""The scorers alone: the bi-encoder with nothing known and with nearly all known, a peer, and the limit; see `packed`.

Same texts, same number format, same threads for the peer, sentence-transformers, and in turns with it. It is given
each text once, as we compute it: its user would have to find that out. Called by `bench`; knows no Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from rich.progress import Progress

from encoders.describe import describe_history, describe_item
from encoders.models import source as model_source
from ranker.score import ScoreRequest
from ranker.scorers.bi_encoder import BiEncoder
from streams.bench import packed, peers
from streams.bench.rows import Row
from streams.bench.work import Shape, matmul_gflops, seconds
from streams.contracts import HistoryEvent, Item
from streams.datasets.shop import START_MS, SyntheticShop
from streams.settings import Settings

SEED, ITEMS, CANDIDATES, HISTORY = 7, 1_000, 100, 20
ROUNDS = 3
MATMUL_SIZE = 1024
DAY_MS = 86_400_000


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
        self._items = SyntheticShop(SEED, ITEMS, shoppers=1).items
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
    """Measure every case of the bi-encoder with its useful work, then the packed scorers."""
    with peers.quiet():
        return _bi_encoder(settings, progress) + packed.measure(settings, progress)


def _bi_encoder(settings: Settings, progress: Progress) -> list[Row]:
    model = settings.encoder.model
    cold = BiEncoder(model, settings.encoder.device, settings.encoder.dtype, cache_bytes=0)
    warm = BiEncoder(model, settings.encoder.device, settings.encoder.dtype)
    peer = peers.embedder(model, cold.placement)
    texts = Texts()
    texts_of = [texts.request() for _ in range(max(case.lists for case in CASES))]
    cold.score(texts_of[:1])
    warm.score(texts_of)
    if peer:
        peer(texts_of[0].candidates)
    note = f"{model} in {cold.placement.dtype}, {CANDIDATES} candidates, {HISTORY} events. " + (
        "" if peer else peers.NO_SENTENCES
    )
    work = Work(cold, model)
    rows = []
    for case in CASES:
        ours, theirs = [], []
        for _ in progress.track(range(ROUNDS), description=f"Bi-encoder: {case}"):
            calls = [_call(texts, texts_of, case) for _ in range(case.calls)]
            lists = case.lists * case.calls
            requests = [requests for requests, _ in calls]
            taken_s = seconds(warm.score, requests) if case.warm else work.seconds(requests, case)
            ours.append(lists / taken_s)
            if peer:
                theirs.append(lists / seconds(peer, [new for _, new in calls]))
        rows.append(Row(str(case), "lists/s", ours, peers.SENTENCES if peer else "", theirs, note=note))
    return [*rows, *work.rows()]


class Work:
    """Useful work of calls with nothing kept: 2 operations for each weight of the layers and each token.

    Beside each round, the rate of plain matrix products in the same format on the same threads.
    """

    def __init__(self, scorer: BiEncoder, model: str) -> None:
        self._weights = Shape.read(model_source.fetch(model)).weights
        self._scorer = scorer
        self._gflops: dict[Case, list[tuple[float, float]]] = {}

    def seconds(self, calls: Sequence[list[ScoreRequest]], case: Case) -> float:
        """Time the calls, and note what they computed."""
        usage = self._scorer.usage
        before = usage.context_tokens + usage.candidate_tokens
        taken_s = seconds(self._scorer.score, calls)
        tokens = usage.context_tokens + usage.candidate_tokens - before
        rate = 2 * self._weights * tokens / taken_s / 1e9
        self._gflops.setdefault(case, []).append((rate, matmul_gflops(self._scorer.placement, MATMUL_SIZE)))
        return taken_s

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
