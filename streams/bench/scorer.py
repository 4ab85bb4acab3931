"""Measure the scorers alone: the bi-encoder with an empty cache and with a warm one; then the packed scorers.

The bi-encoder's peer is sentence-transformers, with the same texts, number format and threads, in turns with ours. The
peer reads each distinct text once, as our scorer does; its user would have to find those texts. Knows no Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from encoders.describe import describe_history, describe_item
from encoders.models import source as model_source
from ranker.progress import StageProgress
from ranker.score import ScoreRequest
from ranker.scorers.bi_encoder import BiEncoder
from streams.bench import packed, peer_scorers
from streams.bench.flops import TransformerSizes, matmul_gflops
from streams.bench.measurement import Measurement
from streams.bench.timing import seconds_of_each
from streams.contracts import HistoryEvent, Item
from streams.datasets.shop import START_MS, SyntheticShop
from streams.progress_bar import track
from streams.settings import Settings

SEED, ITEMS, CANDIDATES, HISTORY = 7, 1_000, 100, 20
ROUNDS = 3
MATMUL_SIZE = 1024
DAY_MS = 86_400_000


@dataclass(frozen=True)
class CallPattern:
    """How the scorer is called in a round.

    Attributes
    ----------
    lists : int
        Lists in each call.
    calls : int
        Calls in each round.
    warm : bool
        Whether the cache has all texts except each user's newest event.
    """

    lists: int
    calls: int
    warm: bool

    def __str__(self) -> str:
        lists = "1 list" if self.lists == 1 else f"{self.lists} lists"
        cached = "all cached but each newest event" if self.warm else "nothing cached"
        return f"{lists} a call, {cached}"


PATTERNS = (
    CallPattern(1, 2, warm=False),
    CallPattern(32, 1, warm=False),
    CallPattern(1, 40, warm=True),
    CallPattern(32, 5, warm=True),
)


class ShopRequests:
    """Score requests about the generated shop, of `CANDIDATES` items and `HISTORY` events each."""

    def __init__(self) -> None:
        self._items = SyntheticShop(SEED, ITEMS, shoppers=1).items
        self._random = np.random.default_rng(SEED)
        self._numbers = count(1)

    def request(self) -> ScoreRequest:
        """Draw distinct items for the history and the candidates, all with the same probability."""
        items = [self._items[number] for number in self._random.permutation(ITEMS)[: HISTORY + CANDIDATES].tolist()]
        events = [_event(item, START_MS - age_days * DAY_MS) for age_days, item in enumerate(items[:HISTORY])]
        candidates = [describe_item(item) for item in items[HISTORY:]]
        return ScoreRequest(describe_history(events[::-1], START_MS), candidates)

    def with_new_event(self, request: ScoreRequest) -> tuple[ScoreRequest, str]:
        """Add a click to the history and drop its oldest event; return the request and the line of the click.

        The click's price is unique, so no cache has its line.
        """
        item = self._items[int(self._random.integers(ITEMS))]
        line = describe_history([_event(item, START_MS, price=next(self._numbers) / 100)], START_MS)
        _, _, rest = request.context.partition("\n")
        return ScoreRequest(f"{rest}\n{line}", request.candidates), line


def measure(settings: Settings, stage: StageProgress) -> list[Measurement]:
    """Measure the bi-encoder in each of `PATTERNS` with its useful work, then the packed scorers."""
    with peer_scorers.quiet_transformers():
        return _bi_encoder(settings, stage) + packed.measure(settings, stage)


def _bi_encoder(settings: Settings, stage: StageProgress) -> list[Measurement]:
    model = settings.encoder.model
    cold = BiEncoder(model, settings.encoder.device, settings.encoder.dtype, cache_bytes=0)
    warm = BiEncoder(model, settings.encoder.device, settings.encoder.dtype)
    peer = peer_scorers.embedder(model, cold.placement)
    shop = ShopRequests()
    cached = [shop.request() for _ in range(max(pattern.lists for pattern in PATTERNS))]
    cold.score(cached[:1])
    warm.score(cached)
    if peer:
        peer(cached[0].candidates)
    note = f"{model} in {cold.placement.dtype}, {CANDIDATES} candidates, {HISTORY} events. " + (
        "" if peer else peer_scorers.NO_SENTENCES
    )
    work = UsefulWork(cold, model)
    measurements = []
    for pattern in PATTERNS:
        ours, peers = [], []
        for _ in track(range(ROUNDS), f"Bi-encoder: {pattern}", stage):
            calls = [_call(shop, cached, pattern) for _ in range(pattern.calls)]
            lists = pattern.lists * pattern.calls
            requests = [requests for requests, _ in calls]
            ours_s = seconds_of_each(warm.score, requests) if pattern.warm else work.seconds(requests, pattern)
            ours.append(lists / ours_s)
            if peer:
                peers.append(lists / seconds_of_each(peer, [texts for _, texts in calls]))
        peer_name = peer_scorers.SENTENCES if peer else ""
        measurements.append(Measurement(str(pattern), "lists/s", ours, peer_name, peers, note=note))
    return [*measurements, *work.measurements()]


class UsefulWork:
    """Useful work of calls with an empty cache: 2 operations for each weight of the layers and each token.

    Each round also measures the rate of plain matrix products in the same format on the same threads.
    """

    def __init__(self, scorer: BiEncoder, model: str) -> None:
        self._weights = TransformerSizes.read(model_source.fetch(model)).weights
        self._scorer = scorer
        self._gflops: dict[CallPattern, list[tuple[float, float]]] = {}

    def seconds(self, calls: Sequence[list[ScoreRequest]], pattern: CallPattern) -> float:
        """Make the calls, record their useful work, and return the seconds that they took."""
        usage = self._scorer.usage
        before = usage.context_tokens + usage.candidate_tokens
        calls_s = seconds_of_each(self._scorer.score, calls)
        tokens = usage.context_tokens + usage.candidate_tokens - before
        rate = 2 * self._weights * tokens / calls_s / 1e9
        self._gflops.setdefault(pattern, []).append((rate, matmul_gflops(self._scorer.placement, MATMUL_SIZE)))
        return calls_s

    def measurements(self) -> list[Measurement]:
        """Return a measurement for each pattern that was timed."""
        return [
            Measurement(
                f"useful work, {pattern}",
                "GFLOP/s",
                [rate for rate, _ in rounds],
                f"matrix products of {MATMUL_SIZE} in {self._scorer.placement.dtype}",
                [limit for _, limit in rounds],
                note="Useful work leaves out attention (about 1% at these lengths), tokenising and padding.",
            )
            for pattern, rounds in self._gflops.items()
        ]


def _call(
    shop: ShopRequests, cached: Sequence[ScoreRequest], pattern: CallPattern
) -> tuple[list[ScoreRequest], list[str]]:
    """Return the requests of one call, and the distinct texts that must be computed for them."""
    if pattern.warm:
        changed = [shop.with_new_event(request) for request in cached[: pattern.lists]]
        return [request for request, _ in changed], [line for _, line in changed]
    requests = [shop.request() for _ in range(pattern.lists)]
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
