"""Scores by a decoder LLM: its answer yes or no, or the likelihood of the candidate after the context.

A context is read once for all candidates and then cached. Packed as `packing` describes; a candidate's positions
continue from its context's end, as if it stood alone. Knows no architecture: any `AutoModelForCausalLM` folder that
takes position ids. Each model is checked at load against plain forward passes (`decoder_check`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.cores import cores, map_batches, tokens_of_batch
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text.fit import fit_contexts, fit_items, longest_input
from encoders.text.tokens import CachedTokens, PlainTokens
from ranker.score import ScoreRequest
from ranker.scorers import known_pairs, template, template_choice
from ranker.scorers.packed import decoder_check
from ranker.scorers.packed.answers import Likelihood, RowScore, SequenceRows, YesNo
from ranker.scorers.packed.context_cache import ContextCache
from ranker.scorers.packed.layout import Packing, Segment, by_length, runs
from ranker.scorers.packed.passes import CandidateGroup, DecoderRequest, first_passes, remaining_passes

MAX_INPUT_TOKENS = 8192
"""As on Qwen3-Reranker's model card."""
MAX_CANDIDATE_TOKENS = 512
PASS_TOKENS = 2048
"""Of one forward pass on a CPU; chosen by us: more gains nothing there."""
CACHE_BYTES = 2**30
"""About 9,000 tokens of Qwen3-0.6B in bfloat16."""
MAX_LIKELIHOOD_TOKENS = 32
"""Of a candidate whose likelihood is its score; chosen by us: title, brand and categories of most items. A description
says less of what a user chooses next, and each token costs a row of the whole LM head."""


class PackedDecoder:
    """Log-odds of 'yes' over 'no', or the mean log-likelihood of a candidate's tokens; see `Scorer` for the contract.

    The log-odds are `logit(yes) - logit(no)` at the last token; their sigmoid is the probability on Qwen3-Reranker's
    model card. `ranker.scorers.template` says which words the model reads, and which score it gives.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    pass_tokens : int, optional
        Tokens of one forward pass, by default those that suit the device; a context with one candidate that is longer
        gets a pass of its own.
    cache_bytes : int
        Memory for the keys and values of contexts.

    Attributes
    ----------
    model : transformers.PreTrainedModel
    template : Template
        The words that it reads.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for a model without position ids or with layers other than attention, and for one whose packed scores
        differ from its plain ones.
    """

    feature_set = None
    reads_events = False

    def __init__(
        self,
        model: str,
        device: str = "auto",
        dtype: str = "auto",
        pass_tokens: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        folder = model_source.fetch(model)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        self._pass_tokens = pass_tokens or tokens_of_batch(self.placement.device, PASS_TOKENS)
        self._contexts = ContextCache(cache_bytes)
        tokenizer = model_source.load_tokenizer(model, folder)
        choices = template_choice.choices(folder, tokenizer, model)
        self.model = model_source.load_weights("AutoModelForCausalLM", model, folder, self.placement)
        decoder_check.check_layers(self.model, model)
        choice = choices[-1]
        if len(choices) > 1:
            doubt = self._doubt(choices[0].template, folder, tokenizer)
            choice = choice._replace(reason=f"{doubt}; {choice.reason}") if doubt else choices[0]
        if choice is not choices[0] or len(choices) == 1:
            self._read_in(choice.template, folder, tokenizer)
        template_choice.report(choice, model)
        self.usage = Usage()  # the checks are no requests

    def _doubt(self, words: template.Template, folder: Path, tokenizer: Any) -> str:
        """Try these words. Returns why they are not to be used; '' if they are."""
        try:
            self._read_in(words, folder, tokenizer)
            right = known_pairs.count_right(self)
        except model_source.ModelUnsupported as problem:
            return str(problem)
        finally:
            self.forget(None)
        if right >= known_pairs.MIN_RIGHT:
            return ""
        return f"by its likelihood it ranks {right} of {len(known_pairs.REQUESTS)} evident pairs right"

    def _read_in(self, words: template.Template, folder: Path, tokenizer: Any) -> None:
        """Let the model read candidates in these words, and check that packing changes no score."""
        self.template = words
        self._parts = parts = template.tokenised(words, folder, tokenizer)
        self._answer: RowScore = Likelihood() if parts.yes is None or parts.no is None else YesNo(parts.yes, parts.no)
        self._tokens = PlainTokens(tokenizer, parts.markers)
        self._item_tokens = CachedTokens(self._tokens)
        model_source.check_vocabulary(self.name, self.model, self._tokens)
        room = longest_input(self.model, tokenizer, MAX_INPUT_TOKENS) - parts.tokens
        longest = MAX_CANDIDATE_TOKENS if words.asks else MAX_LIKELIHOOD_TOKENS
        in_window = decoder_check.window(self.model) - 2 - len(parts.suffix)  # each of its tokens sees the context
        self._candidate_limit = min(longest, room // 4, in_window)
        self._context_limit = min(room - self._candidate_limit, template.context_tokens(folder) or room)
        if self._candidate_limit < 1:
            raise model_source.ModelUnsupported(
                f"model: got {self.name!r}, whose template takes {parts.tokens} tokens, expected room for context and "
                "candidate in its positions, and for a candidate in its sliding window; shorten afterclick.json or "
                "choose another model"
            )
        decoder_check.check_packing(self, self._answer)

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """See `Scorer.prepare`: caches the token ids."""
        self._item_tokens([self._parts.candidate_lead + text for text in texts])

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
        context, candidates = self.rows(request)
        row = DecoderRequest(context, candidates, np.empty(len(candidates), np.float32))
        scores, _ = self._scores([CandidateGroup(row, list(range(len(candidates))))], record=False)
        order, _ = by_length(candidates)
        return scores[torch.tensor(order, device=scores.device).argsort()]

    def _tokenised(self, request: ScoreRequest, scores: NDArray[np.float32]) -> DecoderRequest:
        context, candidates = self.rows(request)
        cached, layers = self._contexts.longest(context)
        self.usage.context_hits += cached > 0
        self.usage.context_misses += cached == 0
        self.usage.context_tokens += len(context) - cached
        self.usage.context_tokens_reused += cached
        self.usage.candidate_tokens += sum(map(len, candidates))
        return DecoderRequest(context, candidates, scores, cached, layers, user=request.user)

    def rows(self, request: ScoreRequest) -> tuple[list[int], list[list[int]]]:
        """Return the ids that all candidates share, and each candidate's own."""
        parts, split = self._parts, self._answer.shared_of_middle
        texts = [parts.candidate_lead + text for text in request.candidates]
        [context] = fit_contexts([parts.context_lead + request.context], self._tokens, self._context_limit, self.usage)
        candidates = fit_items(texts, self._item_tokens, self._candidate_limit, self.usage)
        shared, begin = parts.middle[:split], parts.middle[len(parts.middle[:split]) :]
        return parts.prefix + context + shared, [begin + ids + parts.suffix for ids in candidates]

    def _forward(self, groups: Sequence[CandidateGroup]) -> None:
        """Score candidates of some requests in one pass; fills in the scores and the layers of the requests."""
        tensor, segments = self._scores(groups, record=True)
        scores = tensor.cpu().numpy()
        for (request, indices), segment in zip(groups, segments, strict=True):
            order, _ = by_length([request.candidates[index] for index in indices])
            request.scores[[indices[position] for position in order]] = scores[: len(indices)]
            scores = scores[len(indices) :]
            if segment.record:
                request.layers, request.cached = segment.computed, len(request.context)

    def _scores(self, groups: Sequence[CandidateGroup], record: bool) -> tuple[torch.Tensor, list[Segment]]:
        """Scores of these candidates, request by request, each request's by length; and their layout.

        With `record`, the keys and values of contexts are kept in the layout.
        """
        ids, positions, segments = list[int](), list[int](), list[Segment]()
        starts, rows = list[int](), list[list[int]]()
        for request, indices in groups:
            start, new, shared = len(ids), request.context[request.cached :], len(request.context)
            read = [row[: len(row) - self._answer.unread] for row in (request.candidates[index] for index in indices)]
            order, lengths = by_length(read)
            candidate_runs = list(runs(start + len(new), lengths))
            segments.append(Segment(start, len(new), candidate_runs, request.layers, record=bool(new) and record))
            ids += new
            positions += range(request.cached, shared)
            for position in order:
                starts.append(len(ids))
                rows.append(request.candidates[indices[position]])
                ids += read[position]
                positions += range(shared, shared + len(read[position]))
        inputs = {
            "input_ids": self.tensor([ids]),
            "position_ids": self.tensor([positions]),
            "packing": Packing(segments, causal=True),
        }
        return self._answer.scores(self.model, SequenceRows(inputs, starts, rows)), segments

    @torch.inference_mode()
    def score_alone(self, context: list[int], candidates: list[list[int]]) -> NDArray[np.float32]:
        """Return the scores of rows of ids after a context, without the cache."""
        request = DecoderRequest(context, candidates, np.empty(len(candidates), np.float32))
        self._forward([CandidateGroup(request, list(range(len(candidates))))])
        return request.scores

    def tensor(self, rows: list[list[int]]) -> torch.Tensor:
        """Return ids as a tensor on the device of the model."""
        return torch.tensor(rows, dtype=torch.int64, device=self.placement.device)
