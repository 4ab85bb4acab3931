"""Scores by a decoder LLM that answers yes or no. A context is read once for all candidates and then cached.

Packed as `packing` describes; a candidate's positions continue from its context's end, as if it stood alone. Knows no
architecture: any `AutoModelForCausalLM` folder that takes position ids. Each model is checked at load against plain
forward passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.cores import cores, map_batches
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text.fit import fit_contexts, fit_items, longest_input
from encoders.text.tokens import CachedTokens, PlainTokens
from ranker.score import ScoreRequest
from ranker.scorers import known_pairs, template
from ranker.scorers.packed.context_cache import ContextCache
from ranker.scorers.packed.layout import Packing, Segment, by_length, runs
from ranker.scorers.packed.packing import NAME
from ranker.scorers.packed.passes import CandidateGroup, DecoderRequest, first_passes, remaining_passes
from ranker.scorers.packed.yes_no_head import YesNoHead

MAX_INPUT_TOKENS = 8192
"""As on Qwen3-Reranker's model card."""
MAX_CANDIDATE_TOKENS = 512
PASS_TOKENS = 2048
"""Of one forward pass; chosen by us: more gains nothing on a CPU."""
CACHE_BYTES = 2**30
"""About 9,000 tokens of Qwen3-0.6B in bfloat16."""
ATTENTION = ("full_attention", "sliding_attention")
PLAIN_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05, "int8": 0.1}
"""Largest difference between packed and plain scores, as a share of the largest logit.

On random models of 2 and 8 layers, rounding moved a score by up to 1.7% in bfloat16, ignored positions by 7% and more,
and an ignored mask by only 2.5%: the mask therefore has a check of its own, `NEIGHBOUR_TOLERANCE`."""
NEIGHBOUR_TOLERANCE = 5e-3
"""Largest change of a score with other neighbours in the sequence, as a share of the largest logit."""
NEIGHBOURS = 64
"""Short candidates in that check. They come first: a model that counts positions by itself is off by their tokens."""
CHECK = ScoreRequest("Clicked Wool hat\nBought Red rain jacket", ("Blue trail running shoes, size 42", "Umbrella"))


class PackedDecoder:
    """Log-odds of 'yes' over 'no'; see `Scorer` for the contract.

    The score is `logit(yes) - logit(no)` at the last token; its sigmoid is the probability on Qwen3-Reranker's model
    card. `ranker.scorers.template` reads the template and the answers.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    pass_tokens : int
        Tokens of one forward pass; a context with one candidate that is longer gets a pass of its own.
    cache_bytes : int
        Memory for the keys and values of contexts.
    in_training : bool
        See `ranker.scorers.template.read`.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for a model without position ids or with layers other than attention, and for one whose packed scores
        differ from its plain ones.
    """

    needs_features = False

    def __init__(
        self,
        model: str,
        device: str = "auto",
        dtype: str = "auto",
        pass_tokens: int = PASS_TOKENS,
        cache_bytes: int = CACHE_BYTES,
        in_training: bool = False,
    ) -> None:
        folder = model_source.fetch(model)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        self._pass_tokens = pass_tokens
        self._contexts = ContextCache(cache_bytes)
        tokenizer = model_source.load_tokenizer(model, folder)
        self._template = template.read(folder, tokenizer, model, in_training)
        self._tokens = PlainTokens(tokenizer, self._template.markers)
        self._item_tokens = CachedTokens(self._tokens)
        self.model = model_source.load_weights("AutoModelForCausalLM", model, folder, self.placement)
        model_source.check_vocabulary(model, self.model, self._tokens)
        window = _window(self.model, model)
        template_tokens = self._template.tokens
        room = longest_input(self.model, tokenizer, min(MAX_INPUT_TOKENS, window)) - template_tokens
        self._candidate_limit = min(MAX_CANDIDATE_TOKENS, room // 4)
        self._context_limit = room - self._candidate_limit
        if self._candidate_limit < 1:
            raise model_source.ModelUnsupported(
                f"model: got {model!r}, whose template takes {template_tokens} tokens, expected room for context and "
                "candidate in its positions or sliding window; shorten afterclick.json or choose another "
                "model"
            )
        self._check_packing()
        self.usage = Usage()  # the check is no request

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`: caches the token ids."""
        self._item_tokens([self._template.candidate_lead + text for text in texts])

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: drops the keys and values of contexts."""
        self._contexts.forget(users)
        self.usage.context_bytes = int(self._contexts.currsize)

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        scores = [np.empty(len(request.candidates), np.float32) for request in requests]
        rows = [
            self._tokenised(request, of_request)
            for request, of_request in zip(requests, scores, strict=True)
            if request.candidates
        ]
        device = self.placement.device
        with self.usage.timing("inference_seconds"):
            # The first candidates come with their context; the others need its keys and values.
            map_batches(self._forward, list(first_passes(rows, self._pass_tokens, cores(device))), device)
            map_batches(self._forward, list(remaining_passes(rows, self._pass_tokens)), device)
        for row in rows:
            self._contexts.put(row.context, row.layers, row.user)
        self.usage.context_bytes = int(self._contexts.currsize)
        return scores

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """Return the same scores with their gradients, (len(candidates),), for training; the context is not cached."""
        context, candidates = self._rows(request)
        row = DecoderRequest(context, candidates, np.empty(len(candidates), np.float32))
        log_odds, _ = self._log_odds([CandidateGroup(row, list(range(len(candidates))))])
        order, _ = by_length(candidates)
        return log_odds[torch.tensor(order, device=log_odds.device).argsort()]

    def _tokenised(self, request: ScoreRequest, scores: NDArray[np.float32]) -> DecoderRequest:
        context, candidates = self._rows(request)
        cached, layers = self._contexts.longest(context)
        self.usage.context_hits += cached > 0
        self.usage.context_misses += cached == 0
        self.usage.context_tokens += len(context) - cached
        self.usage.context_tokens_reused += cached
        self.usage.candidate_tokens += sum(map(len, candidates))
        return DecoderRequest(context, candidates, scores, cached, layers, user=request.user)

    def _rows(self, request: ScoreRequest) -> tuple[list[int], list[list[int]]]:
        """The ids that all candidates share, and each candidate's own."""
        parts = self._template
        texts = [parts.candidate_lead + text for text in request.candidates]
        [context] = fit_contexts([parts.context_lead + request.context], self._tokens, self._context_limit, self.usage)
        candidates = fit_items(texts, self._item_tokens, self._candidate_limit, self.usage)
        return parts.prefix + context + parts.middle, [ids + parts.suffix for ids in candidates]

    def _forward(self, groups: Sequence[CandidateGroup]) -> None:
        """Score candidates of some requests in one pass; fills in the scores and the layers of the requests."""
        tensor, segments = self._log_odds(groups)
        log_odds = tensor.cpu().numpy()
        for (request, indices), segment in zip(groups, segments, strict=True):
            order, _ = by_length([request.candidates[index] for index in indices])
            request.scores[[indices[position] for position in order]] = log_odds[: len(indices)]
            log_odds = log_odds[len(indices) :]
            if segment.record:
                request.layers, request.cached = segment.computed, len(request.context)

    def _log_odds(self, groups: Sequence[CandidateGroup]) -> tuple[torch.Tensor, list[Segment]]:
        """Log-odds of these candidates, request by request, each request's by length; and their layout."""
        ids, positions, last, segments = list[int](), list[int](), list[int](), list[Segment]()
        for request, indices in groups:
            start, new, shared = len(ids), request.context[request.cached :], len(request.context)
            order, lengths = by_length([request.candidates[index] for index in indices])
            candidate_runs = list(runs(start + len(new), lengths))
            segments.append(Segment(start, len(new), candidate_runs, request.layers, record=bool(new)))
            ids += new
            positions += range(request.cached, shared)
            for index in (indices[position] for position in order):
                row = request.candidates[index]
                ids += row
                positions += range(shared, shared + len(row))
                last.append(len(ids) - 1)
        logits = self.model(
            input_ids=self._tensor([ids]),
            position_ids=self._tensor([positions]),
            logits_to_keep=torch.tensor(last, device=self.placement.device),
            use_cache=False,
            packing=Packing(segments, causal=True),
        ).logits[0]
        return logits[:, 0] - logits[:, 1], segments

    def _check_packing(self) -> None:
        """Reduce the LM head to two rows, and make sure that packing changes no score of this architecture.

        A model may ignore the mask or the positions that it is given, scale its logits, or have a state of its own.
        Each of these would make the scores wrong without an error.
        """
        head = self.model.get_output_embeddings()
        answers = [self._template.yes, self._template.no]
        context, candidates = self._rows(CHECK)
        with torch.inference_mode():
            plain = torch.stack(
                [self.model(self._tensor([context + row]), use_cache=False).logits[0, -1] for row in candidates]
            )
        self.model.set_output_embeddings(YesNoHead(head, answers))
        expected = (plain[:, answers[0]] - plain[:, answers[1]]).float().cpu().numpy()
        try:
            self.model.set_attn_implementation(NAME)
            packed = self._score_alone(context, candidates)
            neighbours = [self._template.suffix] * NEIGHBOURS
            beside_others = self._score_alone(context, [candidates[0][::-1], candidates[1], *neighbours])
        except (TypeError, ValueError, RuntimeError) as problem:
            raise model_source.ModelUnsupported(
                f"model: got {self.name!r} ({type(self.model).__name__}), which cannot be packed ({problem}); choose "
                "another model"
            ) from problem
        known_pairs.check_finite(self.name, self.placement.dtype, expected)
        largest = float(plain.abs().max())
        moved = abs(float(packed[1] - beside_others[1])) / largest
        error = float(np.abs(packed - expected).max()) / largest
        tolerance = PLAIN_TOLERANCE[self.placement.dtype]
        if not (moved <= NEIGHBOUR_TOLERANCE and error <= tolerance):
            raise model_source.ModelUnsupported(
                f"model: got {self.name!r} ({type(self.model).__name__}), whose packed scores are off by "
                f"{error:.1%} of its largest logit and move by {moved:.1%} with a neighbour, expected at "
                f"most {tolerance:.1%} and {NEIGHBOUR_TOLERANCE:.1%} in {self.placement.dtype}; try float32, "
                "or another model"
            )

    @torch.inference_mode()
    def _score_alone(self, context: list[int], candidates: list[list[int]]) -> NDArray[np.float32]:
        request = DecoderRequest(context, candidates, np.empty(len(candidates), np.float32))
        self._forward([CandidateGroup(request, list(range(len(candidates))))])
        return request.scores

    def _tensor(self, rows: list[list[int]]) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self.placement.device)


def _window(model: Any, name: str) -> int:
    """The number of tokens that each layer sees; raises `ModelUnsupported` for a model that cannot be packed."""
    parameters = inspect.signature(model.forward).parameters
    lacking = [argument for argument in ("position_ids", "logits_to_keep") if argument not in parameters]
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ATTENTION[:1])
    if lacking or not layers <= set(ATTENTION):
        why = f"takes no {lacking[0]}" if lacking else f"has layers of {', '.join(sorted(layers - set(ATTENTION)))}"
        raise model_source.ModelUnsupported(
            f"model: got {name!r}, a {type(model).__name__} that {why}, expected a decoder of attention "
            "layers with position ids; choose another model"
        )
    # A packed candidate is far from its context in the sequence, so no layer may look at distances there: within one
    # window a sliding layer sees all tokens, and our mask replaces the model's own.
    slides = "sliding_attention" in layers or not getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    return int(window) if window and slides else MAX_INPUT_TOKENS
