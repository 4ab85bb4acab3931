"""The packed scorers alone: lists a second beside a peer that reads each candidate with its whole context again.

Useful work stands beside plain matrix products in the same format, and a click on a kept context beside one on a
context that nobody kept. The models are made on the fly. Called by `scorer`; knows no Kafka.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from encoders.models.device import choose
from ranker.load import load_scorer
from ranker.score import Scorer, ScoreRequest
from streams.bench import peers, shapes
from streams.bench.rows import Row, Target
from streams.bench.shapes import Lists, Made, Size
from streams.bench.work import Shape, matmul_gflops, processor, seconds
from streams.settings import Settings

SIZE = Size(context=250, candidates=100, length=12)
CLICK = Size(context=1_000, candidates=20, length=12)
ROUNDS, FULL_PROMPT_ROUNDS = 3, 2
ENCODER_LISTS = 5  # in each round: one takes a fraction of a second
PEER_PROMPTS = 10  # of a list's: all take minutes on two cores
ENCODER_MATMUL, DECODER_MATMUL = 1024, 2048  # sides of the products, chosen by us: near the layers' own
ENCODER_USEFUL = {"float32": 0.70, "bfloat16": 0.40}
DECODER_USEFUL = 0.50
CROSS_ENCODER, FULL_PROMPTS = f"{peers.SENTENCES} CrossEncoder, float32", "transformers, full prompts in one batch"
KEPT_IDS = "Items' token ids are kept, as a worker has them."


def measure(settings: Settings, progress: Progress) -> list[Row]:
    """Make the models, and measure each kind of packed scorer."""
    device = choose(settings.ranker.device).device
    with tempfile.TemporaryDirectory(prefix="afterclick-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        minilm = shapes.encoder(folder / "encoder", "MiniLM", shapes.MINILM)
        large = shapes.decoder(folder / "large", "Qwen3-0.6B", shapes.QWEN3_0_6B, shapes.MINILM)
        small = shapes.decoder(folder / "small", "SmolLM-135M", shapes.SMOLLM_135M, shapes.MINILM)
        return [
            *encoder_rows(minilm, SIZE, device, progress),
            *decoder_rows(large, SIZE, device, progress),
            click_row(large, CLICK, device, progress),
            click_row(small, CLICK, device, progress),
        ]


def encoder_rows(made: Made, size: Size, device: str, progress: Progress) -> list[Row]:
    """A packed encoder in the format that suits the machine, in float32, bfloat16 and int8; against a cross-encoder."""
    best = choose(device).dtype
    peer = peers.cross_encoder(made.folder, device)
    lists = Lists(made, size)
    int8 = ("int8",) if device == "cpu" else ()
    dtypes = dict.fromkeys((best, *ENCODER_USEFUL, *int8))
    timed = {dtype: _Timed(made, device, dtype, ENCODER_MATMUL) for dtype in dtypes}
    for ours in timed.values():
        ours.scorer.prepare(lists.items)
        ours.scorer.score([lists.request()])
    if peer:
        peer(ScoreRequest("warm", ["up"]))
    theirs = []
    for _ in progress.track(range(ROUNDS), description=f"{made.name}, packed: {size}"):
        requests = [lists.request() for _ in range(ENCODER_LISTS)]
        for ours in timed.values():
            ours.round(requests)
        if peer:
            theirs.append(1 / seconds(peer, requests[:1]))
    amx = "amx_bf16" in processor().get("flags", "").split()
    bounds = (best, f"{best} (auto)", 60 if amx else 30), ("float32", "float32", 20)
    note = KEPT_IDS if peer else peers.NO_SENTENCES
    return [
        *(
            Row(
                f"packed encoder of {made.name}'s shape, {size}, {label}",
                "lists/s",
                timed[dtype].per_s,
                CROSS_ENCODER if peer else "",
                theirs,
                Target(bound, at_most=False, of="ratio"),
                note,
            )
            for dtype, label, bound in bounds
        ),
        *(
            Row(
                f"packed encoder of {made.name}'s shape, {size}, {dtype}",
                "lists/s",
                timed[dtype].per_s,
                "the same in float32",
                timed["float32"].per_s,
                note="int8 ranks a little otherwise: README's Tune tells how much.",
            )
            for dtype in int8
        ),
        *(timed[dtype].row("encoder", bound) for dtype, bound in ENCODER_USEFUL.items()),
    ]


def decoder_rows(made: Made, size: Size, device: str, progress: Progress) -> list[Row]:
    """A packed decoder with nothing kept, in bfloat16; against whole prompts."""
    lists = Lists(made, size)
    ours = _Timed(made, device, "bfloat16", DECODER_MATMUL)
    peer = peers.full_prompts(made.folder, ours.scorer.placement)
    some = min(PEER_PROMPTS, size.candidates)
    ours.scorer.prepare(lists.items)
    ours.scorer.score([ScoreRequest("warm", ["up"])])
    peer(ScoreRequest("warm", ["up"]))
    theirs = []
    for _ in progress.track(range(FULL_PROMPT_ROUNDS), description=f"{made.name}, packed: {size}"):
        request = lists.request()
        ours.round([request])
        part = ScoreRequest(request.context, request.candidates[:some])
        theirs.append(some / size.candidates / seconds(peer, [part]))
    return [
        Row(
            f"packed decoder of {made.name}'s shape, {size}, bfloat16",
            "lists/s",
            ours.per_s,
            FULL_PROMPTS,
            theirs,
            Target(18, at_most=False, of="ratio"),
            f"Full prompts: timed on a batch of {some} of the {size.candidates}, and scaled; with a vocabulary of "
            "30,522, where Qwen's has five times as many words to compute logits of.",
        ),
        ours.row("decoder", DECODER_USEFUL),
    ]


def click_row(made: Made, size: Size, device: str, progress: Progress) -> Row:
    """A click of a user whose context is kept, against the same where nothing is kept."""
    lists = Lists(made, size)
    warm = load_scorer(str(made.folder), device, "bfloat16")
    cold = load_scorer(str(made.folder), device, "bfloat16", cache_bytes=0)
    request = lists.request()
    for scorer, first in ((cold, ScoreRequest("warm", ["up"])), (warm, request)):
        scorer.prepare(lists.items)
        scorer.score([first])
    ours, theirs = [], []
    for _ in progress.track(range(ROUNDS), description=f"{made.name}, packed: a click"):
        request = lists.clicked(request)
        ours.append(1 / _score_seconds(warm, [request]))
        theirs.append(1 / _score_seconds(cold, [request]))
    return Row(
        f"a click on a kept context, packed decoder of {made.name}'s shape, {size}, bfloat16",
        "lists/s",
        ours,
        "nothing kept",
        theirs,
        Target(4, at_most=False, of="ratio"),
        f"A click adds a line of {shapes.LINE_WORDS} tokens and brings other candidates.",
    )


@dataclass
class _Timed:
    """A packed scorer with nothing kept: lists a second, and useful work beside the rate of matrix products.

    Attributes
    ----------
    matmul : the side of those matrices.
    per_s, gflops, limits : a figure of each round.
    """

    made: Made
    device: str
    dtype: str
    matmul: int
    per_s: list[float] = field(default_factory=list)
    gflops: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scorer = load_scorer(str(self.made.folder), self.device, self.dtype, cache_bytes=0)
        self._shape = Shape.read(self.made.folder)

    def round(self, requests: Sequence[ScoreRequest]) -> None:
        """Score requests of equal size, one after the other, then multiply matrices."""
        usage, lists = self.scorer.usage, len(requests)
        context, own = usage.context_tokens, usage.candidate_tokens
        taken_s = _score_seconds(self.scorer, requests)
        context, own = usage.context_tokens - context, usage.candidate_tokens - own
        flops = self._shape.flops(context / lists, own / lists, len(requests[0].candidates))
        self.per_s.append(lists / taken_s)
        self.gflops.append(flops * lists / taken_s / 1e9)
        self.limits.append(matmul_gflops(self.scorer.placement, self.matmul))

    def row(self, kind: str, bound: float) -> Row:
        """The row of useful work."""
        return Row(
            f"useful work, packed {kind} of {self.made.name}'s shape, {self.dtype}",
            "GFLOP/s",
            self.gflops,
            f"matrix products of {self.matmul} in {self.dtype}",
            self.limits,
            Target(bound, at_most=False, of="ratio"),
            "Useful work of packed scorers: linear layers and attention of the tokens that they computed.",
        )


def _score_seconds(scorer: Scorer, requests: Sequence[ScoreRequest]) -> float:
    return seconds(lambda request: scorer.score([request]), requests)
