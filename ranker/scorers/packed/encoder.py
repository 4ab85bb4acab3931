"""Scores by a small bidirectional encoder with a scoring head; the context is read once for all candidates.

For models like MiniLM that were trained with this layout: `[CLS] context [SEP]`, then each candidate
`[CLS] candidate [SEP]`, which sees the context and itself, with positions that continue from the context's end. The
head scores the hidden state of the candidate's own `[CLS]`. The context sees no candidate, which is why all candidates
can share it. A new event changes every token of a bidirectional context, so no context is cached between lists; the
token ids of items are. Each model is checked at load against plain forward passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.cores import cores, map_batches, tokens_of_batch
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text.fit import first_position, fit_contexts, fit_items, room_for_texts
from encoders.text.tokens import CachedTokens, Frame, PlainTokens, Row
from ranker.score import ScoreRequest
from ranker.scorers import classifier, known_pairs
from ranker.scorers.packed.layout import Packing, Segment, by_length, runs
from ranker.scorers.packed.packing import NAME

MAX_INPUT_TOKENS = 4096
CANDIDATE_SHARE = 4
"""A candidate gets at most a quarter of the model's positions, the context the rest."""
PASS_TOKENS = 4096
"""Of one forward pass on a CPU; chosen by us: more gains nothing there."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.02, "int8": 0.1}
"""Largest difference between packed and plain scores at load, as a share of the largest score."""
CHECK = ScoreRequest("Viewed Wool hat\nBought Red rain jacket", ("Blue trail running shoes", "Umbrella", "Hat"))


class PackedEncoder:
    """The head's logit at each candidate; see `Scorer` for the contract.

    With one label the score is its logit; with two it is the relevant label's logit minus the other's, the log-odds.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for an architecture whose packed scores differ from its plain ones.
    """

    feature_set = None
    reads_events = False

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        folder = model_source.fetch(model)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        tokenizer = model_source.load_tokenizer(model, folder)
        self._classifier = classifier.load(model, folder, self.placement)
        self.model = self._classifier.model
        self._tokens = PlainTokens(tokenizer)
        self._item_tokens = CachedTokens(self._tokens)
        self._frame = Frame(tokenizer, texts=2)
        self._with_types = "token_type_ids" in tokenizer.model_input_names
        self._first_position = first_position(self.model)
        model_source.check_vocabulary(model, self.model, self._tokens)
        room = room_for_texts(model, self.model, tokenizer, MAX_INPUT_TOKENS, self._frame.tokens + 1)
        self._candidate_limit = room // CANDIDATE_SHARE
        self._context_limit = room - self._candidate_limit
        self._check()
        self.usage = Usage()  # the check is no request

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """See `Scorer.prepare`: caches the token ids."""
        self._item_tokens(texts)

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: no context is cached."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        indices = [index for index, request in enumerate(requests) if request.candidates]
        rows = self._tokenised([requests[index] for index in indices])
        scores = [np.empty(0, np.float32) for _ in requests]
        device = self.placement.device
        with self.usage.timing("inference_seconds"):
            passes = list(_passes(rows, tokens_of_batch(device, PASS_TOKENS), cores(device)))
            results = map_batches(lambda members: self._forward([rows[member] for member in members]), passes, device)
            for members, of_pass in zip(passes, results, strict=True):
                for member, of_request in zip(members, of_pass, strict=True):
                    scores[indices[member]] = of_request
        return scores

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """Return the same scores with their gradients, (len(candidates),), for training."""
        return self._scores(self._tokenised([request]))

    def _tokenised(self, requests: Sequence[ScoreRequest]) -> list[EncoderRequest]:
        contexts = fit_contexts([r.context for r in requests], self._tokens, self._context_limit, self.usage)
        tokenised = []
        for request, ids in zip(requests, contexts, strict=True):
            candidates = fit_items(request.candidates, self._item_tokens, self._candidate_limit, self.usage)
            row = EncoderRequest(self._frame.first(ids), [self._frame.second(candidate) for candidate in candidates])
            self.usage.context_tokens += len(row.context.ids)
            self.usage.candidate_tokens += sum(len(candidate.ids) for candidate in row.candidates)
            tokenised.append(row)
        return tokenised

    def _forward(self, requests: Sequence[EncoderRequest]) -> list[NDArray[np.float32]]:
        """Scores of all candidates of these requests, in one pass."""
        scores = self._scores(requests).cpu().numpy()
        return np.split(scores, np.cumsum([len(request.candidates) for request in requests])[:-1])

    def _scores(self, requests: Sequence[EncoderRequest]) -> torch.Tensor:
        """The same as one tensor, request by request."""
        ids, types, positions, heads = list[int](), list[int](), list[int](), list[int]()
        segments = []
        for request in requests:
            start, shared = len(ids), len(request.context.ids)
            order, lengths = by_length([row.ids for row in request.candidates])
            segments.append(Segment(start, shared, list(runs(start + shared, lengths))))
            first = [0] * len(order)
            ids += request.context.ids
            types += request.context.types
            positions += range(shared)
            for index in order:
                row = request.candidates[index]
                first[index] = len(ids)
                ids += row.ids
                types += row.types
                positions += range(shared, shared + len(row.ids))
            heads += first
        hidden = self._hidden(ids, types, positions, packing=Packing(segments, causal=False))
        return self._head(hidden[heads])

    def _hidden(self, ids: list[int], types: list[int], positions: list[int], **how: Any) -> torch.Tensor:
        """Hidden states of one sequence, (tokens, hidden)."""
        inputs = {"input_ids": ids, "position_ids": [self._first_position + position for position in positions]}
        if self._with_types:
            inputs["token_type_ids"] = types
        tensors = {name: torch.tensor([values], device=self.placement.device) for name, values in inputs.items()}
        hidden: torch.Tensor = self.model.base_model(**tensors, **how).last_hidden_state[0]
        return hidden

    def _head(self, firsts: torch.Tensor) -> torch.Tensor:
        """Scores of the hidden states of the candidates' first tokens, (candidates, hidden)."""
        alone = firsts[:, None]  # for the head, each is a sequence of one token
        pooler = getattr(self.model.base_model, "pooler", None)
        return self._classifier.log_odds(self.model.classifier(pooler(alone) if pooler else alone))

    @torch.inference_mode()
    def _check(self) -> None:
        """Make sure that neither the layout nor the direct call of the head changes a score of this architecture."""
        try:
            [request] = self._tokenised([CHECK])
            plain = torch.cat([self._plain(request.context, row) for row in request.candidates])
            row = request.candidates[0]
            whole = self._hidden(row.ids, row.types, list(range(len(row.ids))))
            [at_head] = self._classifier.log_odds(
                self.model(**_tensors(row, self._with_types, self.placement.device)).logits
            )
            self.model.set_attn_implementation(NAME)
            packed = self._scores([request])
            error = max(float((packed - plain).abs().max()), float(abs(self._head(whole[:1])[0] - at_head)))
        except (TypeError, ValueError, AttributeError, RuntimeError) as problem:
            raise model_source.ModelUnsupported(
                f"model: got {self.name!r} ({type(self.model).__name__}), which cannot be packed ({problem}); "
                "expected an encoder like BERT; remove 'packed' from its afterclick.json"
            ) from problem
        known_pairs.check_finite(self.name, self.placement.dtype, plain.float().cpu().numpy())
        share = error / max(1.0, float(plain.abs().max()))
        if not share <= TOLERANCE[self.placement.dtype]:
            raise model_source.ModelUnsupported(
                f"model: got {self.name!r} ({type(self.model).__name__}), whose packed scores are off by {share:.1%}, "
                f"expected at most {TOLERANCE[self.placement.dtype]:.1%}; remove 'packed' from its afterclick.json"
            )

    def _plain(self, context: Row, candidate: Row) -> torch.Tensor:
        """One candidate's score with the stock attention; a mask hides the candidate from the context."""
        shared, tokens = len(context.ids), len(context.ids) + len(candidate.ids)
        mask = torch.zeros(1, 1, tokens, tokens, dtype=self.model.dtype, device=self.placement.device)
        mask[:, :, :shared, shared:] = torch.finfo(mask.dtype).min
        hidden = self._hidden(
            context.ids + candidate.ids, context.types + candidate.types, list(range(tokens)), attention_mask=mask
        )
        return self._head(hidden[shared : shared + 1])


class EncoderRequest(NamedTuple):
    """One score request as rows of token ids."""

    context: Row
    candidates: list[Row]

    @property
    def tokens(self) -> int:
        """All tokens of the request."""
        return len(self.context.ids) + sum(len(row.ids) for row in self.candidates)


def _passes(requests: Sequence[EncoderRequest], pass_tokens: int, cores: int) -> Iterator[list[int]]:
    """Divide requests, by index, among passes of at most about `pass_tokens`, and enough of them for all cores."""
    budget = min(pass_tokens, -(-sum(request.tokens for request in requests) // cores))
    members: list[int] = []
    tokens = 0
    for index, request in enumerate(requests):
        if members and tokens + request.tokens > budget:
            yield members
            members, tokens = [], 0
        members.append(index)
        tokens += request.tokens
    if members:
        yield members


def _tensors(row: Row, with_types: bool, device: str) -> dict[str, torch.Tensor]:
    columns = {"input_ids": row.ids} | ({"token_type_ids": row.types} if with_types else {})
    return {name: torch.tensor([values], device=device) for name, values in columns.items()}
