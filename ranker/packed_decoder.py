"""Scores by a decoder LLM that answers yes or no, the context read once for all candidates.

One sequence per user, `[context | c1 | c2 | ...]`: a block mask lets each candidate see the context and
itself, and its positions go on from the context's end as if it stood alone. So the work is `P + N c` tokens
instead of `N (P + c)`. Knows no architecture: any `AutoModelForCausalLM` folder that takes position ids, and
each is checked at load against plain forward passes. Loaded by `load_scorer`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from encoders import model_source
from encoders.device import choose
from encoders.fit import fit_contexts, fit_items, longest_input
from encoders.tokens import PlainTokens
from encoders.usage import Usage
from ranker import template
from ranker.score import ScoreRequest

LONGEST_INPUT = 8192  # as on Qwen3-Reranker's model card
LONGEST_CANDIDATE = 512
GROUP_TOKENS = 1024  # chosen by us: the mask grows with its square
ATTENTION = ("full_attention", "sliding_attention")
# Shares of the largest logit. On random models of 2 and 8 layers, rounding moved a score by up to 1.7% in
# bfloat16, positions that are ignored by 7% and more, and a mask that is ignored by only 2.5%: so that one
# has a check of its own.
PLAIN_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}
NEIGHBOUR_TOLERANCE = 5e-3
CHECK = ScoreRequest("Clicked Wool hat\nBought Red rain jacket", ("Blue trail running shoes, size 42", "Umbrella"))


class PackedDecoder:
    """Log-odds of 'yes' over 'no'; see `Scorer` for the contract.

    The score is `logit(yes) - logit(no)` at the last token; its sigmoid is the probability of
    Qwen3-Reranker's model card. Template and answers: see `ranker.template`.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    group_tokens : int
        Candidates' tokens in one forward pass; a longer candidate has one for itself.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for a model without position ids or with layers other than attention, and one that scores packed
        candidates otherwise than plain ones.
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", group_tokens: int = GROUP_TOKENS) -> None:
        folder = model_source.fetch(model)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        self._group_tokens = group_tokens
        tokenizer = model_source.load_tokenizer(model, folder)
        self._template = template.read(folder, tokenizer)
        self._tokens = PlainTokens(tokenizer, {*self._template.prefix, *self._template.middle, *self._template.suffix})
        self._model = model_source.load_weights("AutoModelForCausalLM", model, folder, self.placement)
        window = _window(self._model, model)
        framing = len(self._template.prefix) + len(self._template.middle) + len(self._template.suffix)
        room = longest_input(self._model, tokenizer, min(LONGEST_INPUT, window)) - framing
        self._candidate_limit = min(LONGEST_CANDIDATE, room // 4)
        self._context_limit = room - self._candidate_limit
        if self._candidate_limit < 1:
            raise model_source.ModelUnsupported(
                f"model: got {model!r}, whose template takes {framing} tokens, expected room for context and "
                "candidate in its positions or sliding window; shorten afterclick.json or choose another "
                "model"
            )
        self._check_packing()
        self.usage = Usage()  # the check is nobody's request

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`: nothing of an item can be computed without its context."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        scores = []
        for request in requests:
            if not request.candidates:
                scores.append(np.empty(0, dtype=np.float32))
                continue
            shared, own = self._rows(request)
            self.usage.context_tokens += len(shared)
            self.usage.candidate_tokens += sum(map(len, own))
            with self.usage.timing("inference_seconds"):
                scores.append(self._log_odds(shared, own))
        return scores

    def _rows(self, request: ScoreRequest) -> tuple[list[int], list[list[int]]]:
        """Return the ids that all candidates share, and each candidate's own."""
        parts = self._template
        context = parts.context_lead + request.context
        candidates = [parts.candidate_lead + text for text in request.candidates]
        context_ids = fit_contexts([context], self._tokens, self._context_limit, self.usage)[0]
        own = fit_items(candidates, self._tokens, self._candidate_limit, self.usage)
        return parts.prefix + context_ids + parts.middle, [ids + parts.suffix for ids in own]

    @torch.inference_mode()
    def _log_odds(self, shared: list[int], own: list[list[int]]) -> NDArray[np.float32]:
        """Prefill the cache with `shared`, then score the candidates' rows in groups."""
        cache = DynamicCache()
        self._model(input_ids=self._tensor([shared]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        scores = []
        for group in _groups(own, self._group_tokens):
            ids = [token for row in group for token in row]
            mask, positions, last = _layout([len(row) for row in group], len(shared), self._model.dtype)
            logits = self._model(
                input_ids=self._tensor([ids]),
                attention_mask=mask.to(self.placement.device),
                position_ids=positions.to(self.placement.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=last.to(self.placement.device),
            ).logits[0]
            scores.append((logits[:, 0] - logits[:, 1]).cpu().numpy())
            cache.crop(-len(ids))
        return np.concatenate(scores)

    def _check_packing(self) -> None:
        """Keep two rows of the LM head, and make sure that packing changes no score of this architecture.

        A model may ignore the mask or the positions that it is given, scale its logits, or keep state of its
        own; each would be silently wrong.
        """
        head = self._model.get_output_embeddings()
        answers = [self._template.yes, self._template.no]
        shared, own = self._rows(CHECK)
        with torch.inference_mode():
            plain = torch.stack(
                [self._model(self._tensor([shared + row]), use_cache=False).logits[0, -1] for row in own]
            )
        self._model.set_output_embeddings(AnswerHead(head, answers))
        expected = (plain[:, answers[0]] - plain[:, answers[1]]).float().cpu().numpy()
        packed = self._log_odds(shared, own)
        beside_another = self._log_odds(shared, [own[0][::-1], own[1]])
        largest = float(plain.abs().max())
        moved = abs(float(packed[1] - beside_another[1])) / largest
        error = float(np.abs(packed - expected).max()) / largest
        tolerance = PLAIN_TOLERANCE[self.placement.dtype]
        if not (moved <= NEIGHBOUR_TOLERANCE and error <= tolerance):
            raise model_source.ModelUnsupported(
                f"model: got {self.name!r} ({type(self._model).__name__}), whose packed scores are off by "
                f"{error:.1%} of its largest logit and move by {moved:.1%} with a neighbour, expected at "
                f"most {tolerance:.1%} and {NEIGHBOUR_TOLERANCE:.1%} in {self.placement.dtype}; try float32, "
                "or another model"
            )

    def _tensor(self, rows: list[list[int]]) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self.placement.device)


class AnswerHead(torch.nn.Module):
    """The rows `answers` of an LM head, in float32: bfloat16 logits near 20 lie 0.125 apart and would tie."""

    def __init__(self, head: torch.nn.Linear, answers: list[int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(head.weight[answers].float(), requires_grad=False)
        self.bias = None if head.bias is None else torch.nn.Parameter(head.bias[answers].float(), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits, float32, (..., len(answers)), of hidden states (..., hidden)."""
        return torch.nn.functional.linear(hidden.float(), self.weight, self.bias)


def _window(model: Any, name: str) -> int:
    """Return the tokens that each layer sees, after refusing what cannot be packed at all."""
    takes = inspect.signature(model.forward).parameters
    lacking = [argument for argument in ("position_ids", "past_key_values", "logits_to_keep") if argument not in takes]
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ATTENTION[:1])
    if lacking or not layers <= set(ATTENTION):
        why = f"takes no {lacking[0]}" if lacking else f"has layers of {', '.join(sorted(layers - set(ATTENTION)))}"
        raise model_source.ModelUnsupported(
            f"model: got {name!r}, a {type(model).__name__} that {why}, expected a decoder of attention "
            "layers with position ids; choose another model"
        )
    # A packed candidate lies physically far from its context, so no layer may look at distances in the
    # sequence: within one window a sliding layer sees all, and the mask that we give replaces the model's
    # own.
    slides = "sliding_attention" in layers or not getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    return int(window) if window and slides else LONGEST_INPUT


def _groups(rows: list[list[int]], budget: int) -> Iterator[list[list[int]]]:
    """Yield consecutive rows of together at most `budget` tokens, at least one row at a time."""
    group: list[list[int]] = []
    tokens = 0
    for row in rows:
        if group and tokens + len(row) > budget:
            yield group
            group, tokens = [], 0
        group.append(row)
        tokens += len(row)
    yield group


def _layout(lengths: list[int], shared: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lay rows of `lengths` tokens behind `shared` cached ones.

    Returns
    -------
    mask : tensor of `dtype`, (1, 1, sum(lengths), shared + sum(lengths))
        0 where a token may look, the dtype's minimum elsewhere: a boolean mask is silently wrong in some
        attentions.
    positions : tensor of int64, (1, sum(lengths))
        Counted on from `shared` in each row.
    last : tensor of int64, (len(lengths),)
        The place of each row's last token.
    """
    sizes = torch.tensor(lengths)
    ends = sizes.cumsum(0)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), sizes)
    place = torch.arange(len(owner))
    hidden = (owner[:, None] != owner[None, :]) | (place[:, None] < place[None, :])
    mask = torch.zeros(len(owner), shared + len(owner), dtype=dtype)
    mask[:, shared:].masked_fill_(hidden, torch.finfo(dtype).min)
    return mask[None, None], (shared + place - (ends - sizes)[owner])[None], ends - 1
