"""Checks of a decoder at load: whether its layers can be packed, and whether its packed scores are its plain ones.

A model may ignore the mask or the positions that it is given, scale its logits, or have a state of its own. Each of
these would make the scores wrong without an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.device import Placement
from ranker.score import ScoreRequest
from ranker.scorers import known_pairs
from ranker.scorers.packed.answers import RowScore, YesNo, YesNoHead
from ranker.scorers.packed.packing import NAME

ATTENTION = ("full_attention", "sliding_attention")
PLAIN_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05, "int8": 0.1}
"""Largest difference between packed and plain scores, as a share of the largest logit.

On random models of 2 and 8 layers, rounding moved a score by up to 1.7% in bfloat16, ignored positions by 7% and more,
and an ignored mask by only 2.5%: the mask therefore has a check of its own, `NEIGHBOUR_TOLERANCE`."""
NEIGHBOUR_TOLERANCE = 5e-3
"""Largest change of a score with other neighbours in the sequence, as a share of the largest logit."""
NEIGHBOURS = 64
"""Short candidates in that check. They come first: a model that counts positions by itself is off by their tokens."""
CHECK = ScoreRequest(
    "Clicked Wool hat\nClicked Coffee maker\nBought Camping stove\nClicked Umbrella\nBought Red rain jacket",
    ("Blue trail running shoes, size 42", "Umbrella"),
)
WINDOW_BEYOND = 4
"""Tokens by which the window in the check exceeds the longest candidate, so that it ends within the context."""
NO_WINDOW = 2**31


class CheckedDecoder(Protocol):
    """What the check asks of a decoder."""

    name: str
    placement: Placement
    model: Any

    def rows(self, request: ScoreRequest) -> tuple[list[int], list[list[int]]]: ...
    def score_alone(self, context: list[int], candidates: list[list[int]]) -> NDArray[np.float32]: ...
    def tensor(self, rows: list[list[int]]) -> torch.Tensor: ...


def check_layers(model: Any, name: str) -> None:
    """Make sure that a model takes positions, and that its layers attend.

    Raises
    ------
    ModelUnsupported
    """
    parameters = inspect.signature(model.forward).parameters
    lacking = [argument for argument in ("position_ids", "logits_to_keep") if argument not in parameters]
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ATTENTION[:1])
    if lacking or not layers <= set(ATTENTION):
        why = f"takes no {lacking[0]}" if lacking else f"has layers of {', '.join(sorted(layers - set(ATTENTION)))}"
        raise model_source.ModelUnsupported(
            f"model: got {name!r}, a {type(model).__name__} that {why}, expected a decoder of attention "
            "layers with position ids; choose another model"
        )


def window(model: Any) -> int:
    """Return how many tokens a token sees in the layers that see the fewest."""
    return min((int(holder.sliding_window) for holder in _with_windows(model)), default=NO_WINDOW)


def check_packing(decoder: CheckedDecoder, answer: RowScore) -> None:
    """Reduce the LM head to the rows that the answer needs, and make sure that packing changes no score.

    Sliding layers have a shorter window meanwhile, which ends within the context of the check.

    Raises
    ------
    ModelUnsupported
    """
    model, name, dtype = decoder.model, decoder.name, decoder.placement.dtype
    context, candidates = decoder.rows(CHECK)
    neighbours = [candidates[0][::-1], candidates[1], *[candidates[1][-3:]] * NEIGHBOURS]
    with _short_window(model, max(map(len, candidates)) + WINDOW_BEYOND):
        largest, expected = _plain(decoder, answer, context, candidates)
        if isinstance(answer, YesNo):
            model.set_output_embeddings(YesNoHead(model.get_output_embeddings(), answer.ids))
        try:
            model.set_attn_implementation(NAME)
            packed = decoder.score_alone(context, candidates)
            beside_others = decoder.score_alone(context, neighbours)
        except (TypeError, ValueError, RuntimeError) as problem:
            raise model_source.ModelUnsupported(
                f"model: got {name!r} ({type(model).__name__}), which cannot be packed ({problem}); choose "
                "another model"
            ) from problem
    known_pairs.check_finite(name, dtype, expected)
    moved = abs(float(packed[1] - beside_others[1])) / largest
    error = float(np.abs(packed - expected).max()) / largest
    tolerance = PLAIN_TOLERANCE[dtype]
    if not (moved <= NEIGHBOUR_TOLERANCE and error <= tolerance):
        raise model_source.ModelUnsupported(
            f"model: got {name!r} ({type(model).__name__}), whose packed scores are off by "
            f"{error:.1%} of its largest logit and move by {moved:.1%} with a neighbour, expected at "
            f"most {tolerance:.1%} and {NEIGHBOUR_TOLERANCE:.1%} in {dtype}; try float32, "
            "or another model"
        )


@torch.inference_mode()
def _plain(
    decoder: CheckedDecoder, answer: RowScore, context: list[int], candidates: list[list[int]]
) -> tuple[float, NDArray[np.float32]]:
    """The largest logit and the scores of the rows, each by a pass of its own with transformers' own attention."""
    model = decoder.model
    if model.config._attn_implementation == NAME:  # of an earlier check
        model.set_attn_implementation("sdpa")
    largest, scores = 0.0, []
    for row in candidates:
        logits = model(decoder.tensor([context + row]), use_cache=False, logits_to_keep=len(row)).logits[0]
        largest = max(largest, float(logits.abs().max()))
        scores.append(float(answer.plain(logits, row)))
    return largest, np.array(scores, np.float32)


def _with_windows(model: Any) -> Iterator[Any]:
    """The configuration and the layers of a model that say how many tokens a token sees."""
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None)
    if layers is not None and ATTENTION[1] not in layers:
        return
    for holder in (config, *model.modules()):
        if getattr(holder, "sliding_window", None):
            yield holder


@contextmanager
def _short_window(model: Any, tokens: int) -> Iterator[None]:
    """Let the layers with a window see only so many tokens."""
    before = [(holder, holder.sliding_window) for holder in _with_windows(model)]
    try:
        for holder, size in before:
            holder.sliding_window = min(size, tokens)
        yield
    finally:
        for holder, size in before:
            holder.sliding_window = size
