"""Measure the scorers alone: the bi-encoder with an empty cache and with a warm one; then the packed scorers.

With an empty cache the bi-encoder's peer is sentence-transformers, with the same texts, number format and threads, in
turns with ours. The peer reads each distinct text once, as our scorer does; its user would have to find those texts.
With a warm cache nothing is read, and the scorer is the user's own model, such as `default`, if it caches vectors.
Knows no Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.describe import describe_event, describe_item
from encoders.models import source as model_source
from ranker.features import NAMES
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import Scorer, ScoreRequest
from ranker.scorers.bi_encoder import BiEncoder
from streams.bench import packed, peer_scorers
from streams.bench.flops import matmul_gflops
from streams.bench.measurement import Measurement, Target
from streams.bench.timing import seconds_of_each
from streams.datasets.shop import SyntheticShop
from streams.settings import Settings
from streams.sizing.transformer import TransformerSizes
from streams.terminal.progress_bar import track

SEED, ITEMS, CANDIDATES, HISTORY = 7, 1_000, 100, 20
ROUNDS = 3
MATMUL_SIZE = 1024


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
        Whether the cache has all texts, as once the catalogue is read.
    """

    lists: int
    calls: int
    warm: bool

    def __str__(self) -> str:
        lists = "1 list" if self.lists == 1 else f"{self.lists} lists"
        cached = "all cached" if self.warm else "nothing cached"
        return f"{lists} a call, {cached}"


PATTERNS = (
    CallPattern(1, 2, warm=False),
    CallPattern(32, 1, warm=False),
    CallPattern(1, 500, warm=True),
    CallPattern(32, 50, warm=True),
)
WARM_TARGET = Target(500, at_most=False)


class ShopRequests:
    """Score requests about the generated shop: `CANDIDATES` items with `columns` features, and `HISTORY` events."""

    def __init__(self, columns: int = len(NAMES)) -> None:
        self._columns = columns
        self._items = SyntheticShop(SEED, ITEMS, shoppers=1).items
        self._random = np.random.default_rng(SEED)

    def request(self) -> ScoreRequest:
        """Draw distinct items for the history and the candidates, all with the same probability; and features."""
        items = [self._items[number] for number in self._random.permutation(ITEMS)[: HISTORY + CANDIDATES].tolist()]
        features = self._random.normal(size=(CANDIDATES, self._columns)).astype(np.float16)
        texts, events = list(map(describe_item, items[HISTORY:])), list(map(describe_event, items[:HISTORY]))
        return ScoreRequest("", texts, features=features, events=events)

    def with_new_event(self, request: ScoreRequest) -> ScoreRequest:
        """Add a click on an item of the shop to the history, and drop the oldest event."""
        item = self._items[int(self._random.integers(ITEMS))]
        return replace(request, events=[*request.event_texts()[1:], describe_event(item)])

    def prepare(self, scorer: Scorer) -> None:
        """Let a scorer read the whole shop."""
        scorer.prepare(list(map(describe_item, self._items)), list(map(describe_event, self._items)))


def measure(settings: Settings, stage: StageProgress) -> list[Measurement]:
    """Measure the bi-encoder in each of `PATTERNS` with its useful work, then the packed scorers."""
    with peer_scorers.quiet_transformers():
        return _bi_encoder(settings, stage) + packed.measure(settings, stage)


def _bi_encoder(settings: Settings, stage: StageProgress) -> list[Measurement]:
    model = settings.encoder.model
    cold = BiEncoder(model, settings.encoder.device, settings.encoder.dtype, cache_bytes=0)
    peer = peer_scorers.embedder(model, cold.placement)
    shop = ShopRequests()
    first = shop.request()
    cold.score([first])
    if peer:
        peer(first.candidates)
    note = f"{model} in {cold.placement.dtype}, {CANDIDATES} candidates, {HISTORY} events. " + (
        "" if peer else peer_scorers.NO_SENTENCES
    )
    work = UsefulWork(cold, model)
    measurements = []
    for pattern in (pattern for pattern in PATTERNS if not pattern.warm):
        ours, peers = [], []
        for _ in track(range(ROUNDS), f"Bi-encoder: {pattern}", stage):
            calls = [[shop.request() for _ in range(pattern.lists)] for _ in range(pattern.calls)]
            lists = pattern.lists * pattern.calls
            ours.append(lists / work.seconds(calls, pattern))
            if peer:
                peers.append(lists / seconds_of_each(peer, list(map(_distinct_texts, calls))))
        peer_name = peer_scorers.SENTENCES if peer else ""
        measurements.append(Measurement(str(pattern), "lists/s", ours, peer_name, peers, note=note))
    return [*measurements, *_warm(settings, stage), *work.measurements()]


def _warm(settings: Settings, stage: StageProgress) -> list[Measurement]:
    """Measure the user's own model, or the items' encoder where that model reads contexts, with all texts cached."""
    ranker = settings.ranker
    scorer = None if ranker.model == "none" else load_scorer(ranker.model, ranker.device, ranker.dtype)
    if scorer is None or not scorer.reads_events:
        scorer = load_scorer(settings.encoder.model, settings.encoder.device, settings.encoder.dtype)
    shop = ShopRequests(len(scorer.feature_set.names) if scorer.feature_set else 0)
    shop.prepare(scorer)
    requests = [shop.request() for _ in range(max(pattern.lists for pattern in PATTERNS))]
    measurements = []
    for pattern in (pattern for pattern in PATTERNS if pattern.warm):
        rounds = []
        for _ in track(range(ROUNDS), f"Bi-encoder: {pattern}", stage):
            calls = [
                [shop.with_new_event(request) for request in requests[: pattern.lists]] for _ in range(pattern.calls)
            ]
            rounds.append(pattern.lists * pattern.calls / seconds_of_each(scorer.score, calls))
        note = f"{pattern}: {scorer.name}, {CANDIDATES} candidates, {HISTORY} events, on one thread."
        measurements.append(Measurement(str(pattern), "lists/s", rounds, target=WARM_TARGET, note=note))
    return measurements


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


def _distinct_texts(requests: Sequence[ScoreRequest]) -> list[str]:
    events = (text for request in requests for text in request.event_texts())
    return list(dict.fromkeys([*events, *(text for request in requests for text in request.candidates)]))
