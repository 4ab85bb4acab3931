"""Measure the packed scorers alone, beside peers that read each candidate together with its whole context again.

Useful work stands beside plain matrix products in the same format; a click on a cached context stands beside the same
with an empty cache. The models have random weights. Knows no Kafka.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from encoders.models.device import choose
from ranker.load import load_scorer
from ranker.progress import StageProgress
from ranker.score import Scorer, ScoreRequest
from streams.bench import peer_scorers, random_models
from streams.bench.flops import matmul_gflops
from streams.bench.machine import processor
from streams.bench.measurement import Measurement, Target
from streams.bench.random_models import ListSize, RandomModel, RandomRequests
from streams.bench.timing import seconds, seconds_of_each
from streams.settings import Settings
from streams.sizing.transformer import TransformerSizes
from streams.terminal.progress_bar import track

SIZE = ListSize(context=250, candidates=100, length=12)
CLICK = ListSize(context=1_000, candidates=20, length=12)
WARM_UP = ScoreRequest("warm", ["up"])
ROUNDS, FULL_PROMPT_ROUNDS = 3, 2
ENCODER_LISTS = 5  # in each round, because one list takes a fraction of a second
PEER_PROMPTS = 10  # of a list's prompts, because all take minutes on two cores
ENCODER_MATMUL, DECODER_MATMUL = 1024, 2048  # sides of the products, chosen by us: near the layers' own
ENCODER_USEFUL = {"float32": 0.70, "bfloat16": 0.40}
DECODER_USEFUL = 0.50
CROSS_ENCODER = f"{peer_scorers.SENTENCES} CrossEncoder, float32"
FULL_PROMPTS = "transformers, full prompts in one batch"
CACHED_IDS = "Items' token ids are cached, as a worker has them."


def measure(settings: Settings, stage: StageProgress) -> list[Measurement]:
    """Make the models, and measure each kind of packed scorer."""
    device = choose(settings.ranker.device).device
    with tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as name:
        folder, minilm = Path(name), random_models.MINILM
        encoder = random_models.encoder(folder / "encoder", "MiniLM", minilm)
        large = random_models.decoder(folder / "large", "Qwen3-0.6B", random_models.QWEN3_0_6B, minilm)
        small = random_models.decoder(folder / "small", "SmolLM-135M", random_models.SMOLLM_135M, minilm)
        return [
            *measure_encoder(encoder, SIZE, device, stage),
            *measure_decoder(large, SIZE, device, stage),
            measure_click(large, CLICK, device, stage),
            measure_click(small, CLICK, device, stage),
        ]


def measure_encoder(model: RandomModel, size: ListSize, device: str, stage: StageProgress) -> list[Measurement]:
    """Measure a packed encoder against a cross-encoder.

    The formats are the one that suits the machine, float32, bfloat16 and, on a CPU, int8.
    """
    best = choose(device).dtype
    peer = peer_scorers.cross_encoder(model.folder, device)
    source = RandomRequests(model, size)
    int8 = ("int8",) if device == "cpu" else ()
    dtypes = dict.fromkeys((best, *ENCODER_USEFUL, *int8))
    ours = {dtype: _ColdScorer(model, device, dtype, ENCODER_MATMUL) for dtype in dtypes}
    for cold in ours.values():
        cold.scorer.prepare(source.items)
        cold.scorer.score([source.request()])
    if peer:
        peer(WARM_UP)
    peers = []
    for _ in track(range(ROUNDS), f"{model.name}, packed: {size}", stage):
        requests = [source.request() for _ in range(ENCODER_LISTS)]
        for cold in ours.values():
            cold.round(requests)
        if peer:
            peers.append(1 / seconds(peer, requests[0]))
    amx = "amx_bf16" in processor().get("flags", "").split()
    bounds = (best, f"{best} (auto)", 60 if amx else 30), ("float32", "float32", 20)
    name = f"packed encoder of {model.name}'s shape, {size}"
    peer_name, note = (CROSS_ENCODER, CACHED_IDS) if peer else ("", peer_scorers.NO_SENTENCES)
    int8_note = "int8 ranks a little otherwise: README's Tune tells how much."
    float32_s = ours["float32"].per_s
    return [
        *(
            Measurement(
                f"{name}, {label}",
                "lists/s",
                ours[dtype].per_s,
                peer_name,
                peers,
                Target(bound, at_most=False, of="ratio"),
                note,
            )
            for dtype, label, bound in bounds
        ),
        *(
            Measurement(
                f"{name}, {dtype}", "lists/s", ours[dtype].per_s, "the same in float32", float32_s, note=int8_note
            )
            for dtype in int8
        ),
        *(ours[dtype].useful_work("encoder", bound) for dtype, bound in ENCODER_USEFUL.items()),
    ]


def measure_decoder(model: RandomModel, size: ListSize, device: str, stage: StageProgress) -> list[Measurement]:
    """Measure a packed decoder with an empty cache, in bfloat16, against whole prompts."""
    source = RandomRequests(model, size)
    ours = _ColdScorer(model, device, "bfloat16", DECODER_MATMUL)
    peer = peer_scorers.full_prompts(model.folder, ours.scorer.placement)
    prompts = min(PEER_PROMPTS, size.candidates)
    ours.scorer.prepare(source.items)
    ours.scorer.score([WARM_UP])
    peer(WARM_UP)
    peers = []
    for _ in track(range(FULL_PROMPT_ROUNDS), f"{model.name}, packed: {size}", stage):
        request = source.request()
        ours.round([request])
        part = ScoreRequest(request.context, request.candidates[:prompts])
        peers.append(prompts / size.candidates / seconds(peer, part))
    return [
        Measurement(
            f"packed decoder of {model.name}'s shape, {size}, bfloat16",
            "lists/s",
            ours.per_s,
            FULL_PROMPTS,
            peers,
            Target(18, at_most=False, of="ratio"),
            f"Full prompts: timed on a batch of {prompts} of the {size.candidates}, and scaled; with a vocabulary of "
            "30,522, where Qwen's has five times as many words to compute logits of.",
        ),
        ours.useful_work("decoder", DECODER_USEFUL),
    ]


def measure_click(model: RandomModel, size: ListSize, device: str, stage: StageProgress) -> Measurement:
    """Measure a click of a user whose context is cached, against the same click with an empty cache."""
    source = RandomRequests(model, size)
    warm = load_scorer(str(model.folder), device, "bfloat16")
    cold = load_scorer(str(model.folder), device, "bfloat16", cache_bytes=0)
    request = source.request()
    for scorer, first in ((cold, WARM_UP), (warm, request)):
        scorer.prepare(source.items)
        scorer.score([first])
    ours, peers = [], []
    for _ in track(range(ROUNDS), f"{model.name}, packed: a click", stage):
        request = source.after_click(request)
        ours.append(1 / _score_seconds(warm, [request]))
        peers.append(1 / _score_seconds(cold, [request]))
    return Measurement(
        f"a click on a cached context, packed decoder of {model.name}'s shape, {size}, bfloat16",
        "lists/s",
        ours,
        "nothing cached",
        peers,
        Target(4, at_most=False, of="ratio"),
        f"A click adds a line of {random_models.LINE_WORDS} tokens and brings other candidates.",
    )


@dataclass
class _ColdScorer:
    """A packed scorer with an empty cache: lists a second, and useful work beside the rate of matrix products.

    Attributes
    ----------
    matmul : int
        The side of those matrices.
    per_s, gflops, limits : list of float
        A figure of each round: lists a second, useful work and matrix products in 1e9 operations a second.
    """

    model: RandomModel
    device: str
    dtype: str
    matmul: int
    per_s: list[float] = field(default_factory=list)
    gflops: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scorer = load_scorer(str(self.model.folder), self.device, self.dtype, cache_bytes=0)
        self._sizes = TransformerSizes.read(self.model.folder)

    def round(self, requests: Sequence[ScoreRequest]) -> None:
        """Score requests of equal size in turn, then multiply matrices."""
        usage, lists = self.scorer.usage, len(requests)
        context, own = usage.context_tokens, usage.candidate_tokens
        score_s = _score_seconds(self.scorer, requests)
        context, own = usage.context_tokens - context, usage.candidate_tokens - own
        flops = self._sizes.flops(context / lists, own / lists, len(requests[0].candidates))
        self.per_s.append(lists / score_s)
        self.gflops.append(flops * lists / score_s / 1e9)
        self.limits.append(matmul_gflops(self.scorer.placement, self.matmul))

    def useful_work(self, kind: str, bound: float) -> Measurement:
        """Return the useful work of all rounds, with the lowest ratio to the limit that is good."""
        return Measurement(
            f"useful work, packed {kind} of {self.model.name}'s shape, {self.dtype}",
            "GFLOP/s",
            self.gflops,
            f"matrix products of {self.matmul} in {self.dtype}",
            self.limits,
            Target(bound, at_most=False, of="ratio"),
            "Useful work of packed scorers: linear layers and attention of the tokens that they computed.",
        )


def _score_seconds(scorer: Scorer, requests: Sequence[ScoreRequest]) -> float:
    """Score the requests in turn, each in a call of its own."""
    return seconds_of_each(lambda request: scorer.score([request]), requests)
