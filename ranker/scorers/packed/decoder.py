"""Scores by a decoder LLM that answers yes or no; a context is read once for all candidates, and kept for the next.

Packed as `packing` says; a candidate's positions go on from its context's end as if it stood alone. Knows no
architecture: any `AutoModelForCausalLM` folder that takes position ids, and each is checked at load against plain
forward passes. Loaded by `load_scorer`.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.cores import cores, each
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text.fit import fit_contexts, fit_items, longest_input
from encoders.text.tokens import KeptTokens, PlainTokens
from ranker.score import ScoreRequest
from ranker.scorers import known_pairs, template
from ranker.scorers.packed.context_cache import ContextCache
from ranker.scorers.packed.layout import KeysValues, Pack, Packing, by_length, runs
from ranker.scorers.packed.packing import NAME

LONGEST_INPUT = 8192  # as on Qwen3-Reranker's model card
LONGEST_CANDIDATE = 512
PASS_TOKENS = 2048  # chosen by us: of one forward pass; more gains nothing on a CPU
CACHE_BYTES = 2**30  # about 9,000 tokens of Qwen3-0.6B in bfloat16
ATTENTION = ("full_attention", "sliding_attention")
# Shares of the largest logit. On random models of 2 and 8 layers, rounding moved a score by up to 1.7% in
# bfloat16, positions that are ignored by 7% and more, and a mask that is ignored by only 2.5%: so that one
# has a check of its own.
PLAIN_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05, "int8": 0.1}
NEIGHBOUR_TOLERANCE = 5e-3
NEIGHBOURS = 64  # short ones go first: a model that counts positions by itself is off by their tokens
CHECK = ScoreRequest("Clicked Wool hat\nBought Red rain jacket", ("Blue trail running shoes, size 42", "Umbrella"))


class PackedDecoder:
    """Log-odds of 'yes' over 'no'; see `Scorer` for the contract.

    The score is `logit(yes) - logit(no)` at the last token; its sigmoid is the probability of
    Qwen3-Reranker's model card. Template and answers: see `ranker.scorers.template`.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    pass_tokens : int
        Tokens of one forward pass; what is longer, and cannot be divided, has one for itself.
    cache_bytes : int
        Memory for the keys and values of contexts.
    in_training : bool
        See `ranker.scorers.template.read`.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for a model without position ids or with layers other than attention, and one that scores packed
        candidates otherwise than plain ones.
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
        self._items = KeptTokens(self._tokens)
        self.model = model_source.load_weights("AutoModelForCausalLM", model, folder, self.placement)
        model_source.check_vocabulary(model, self.model, self._tokens)
        window = _window(self.model, model)
        framing = self._template.tokens
        room = longest_input(self.model, tokenizer, min(LONGEST_INPUT, window)) - framing
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
        """See `Scorer.prepare`: keeps the token ids."""
        self._items([self._template.candidate_lead + text for text in texts])

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: keys and values of contexts."""
        self._contexts.forget(users)
        self.usage.context_bytes = self._contexts.bytes

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        scores = [np.empty(len(request.candidates), np.float32) for request in requests]
        asked = [(request, of_user) for request, of_user in zip(requests, scores, strict=True) if request.candidates]
        users = [self._user(*one) for one in asked]
        device = self.placement.device
        with self.usage.timing("inference_seconds"):
            # The first candidates come with their context; those that do not fit there wait for what is kept of it.
            each(self._forward, list(_passes(users, self._pass_tokens, cores(device))), device)
            each(self._forward, list(_rest(users, self._pass_tokens)), device)
        for user in users:
            self._contexts.put(user.shared, user.layers, user.name)
        self.usage.context_bytes = self._contexts.bytes
        return scores

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """The same scores with their gradients, (len(candidates),), for training; nothing is kept of the context."""
        shared, own = self._rows(request)
        odds, _ = self._odds([Part(User(shared, own, np.empty(len(own), np.float32)), list(range(len(own))))])
        order, _ = by_length(own)
        return odds[torch.tensor(order, device=odds.device).argsort()]

    def _user(self, request: ScoreRequest, scores: NDArray[np.float32]) -> User:
        shared, own = self._rows(request)
        kept, layers = self._contexts.longest(shared)
        self.usage.context_hits += kept > 0
        self.usage.context_misses += kept == 0
        self.usage.context_tokens += len(shared) - kept
        self.usage.context_tokens_reused += kept
        self.usage.candidate_tokens += sum(map(len, own))
        return User(shared, own, scores, kept, layers, name=request.user)

    def _rows(self, request: ScoreRequest) -> tuple[list[int], list[list[int]]]:
        """Return the ids that all candidates share, and each candidate's own."""
        parts = self._template
        context = parts.context_lead + request.context
        candidates = [parts.candidate_lead + text for text in request.candidates]
        context_ids = fit_contexts([context], self._tokens, self._context_limit, self.usage)[0]
        own = fit_items(candidates, self._items, self._candidate_limit, self.usage)
        return parts.prefix + context_ids + parts.middle, [ids + parts.suffix for ids in own]

    def _forward(self, parts: Sequence[Part]) -> None:
        """Score candidates of some users in one pass; a user's layers and scores are filled in."""
        tensor, packs = self._odds(parts)
        odds = tensor.cpu().numpy()
        for (user, places), pack in zip(parts, packs, strict=True):
            order, _ = by_length([user.own[place] for place in places])
            user.scores[[places[at] for at in order]] = odds[: len(places)]
            odds = odds[len(places) :]
            if pack.keep:
                user.layers, user.kept = pack.computed, len(user.shared)

    def _odds(self, parts: Sequence[Part]) -> tuple[torch.Tensor, list[Pack]]:
        """Log-odds of these candidates, user after user, each user's by length; and how they were packed."""
        ids, positions, last, packs = list[int](), list[int](), list[int](), list[Pack]()
        for user, places in parts:
            start, new, shared = len(ids), user.shared[user.kept :], len(user.shared)
            order, lengths = by_length([user.own[place] for place in places])
            pack = Pack(start, len(new), list(runs(start + len(new), lengths)), user.layers, keep=bool(new))
            packs.append(pack)
            ids += new
            positions += range(user.kept, shared)
            for place in (places[at] for at in order):
                row = user.own[place]
                ids += row
                positions += range(shared, shared + len(row))
                last.append(len(ids) - 1)
        logits = self.model(
            input_ids=self._tensor([ids]),
            position_ids=self._tensor([positions]),
            logits_to_keep=torch.tensor(last, device=self.placement.device),
            use_cache=False,
            packing=Packing(packs, causal=True),
        ).logits[0]
        return logits[:, 0] - logits[:, 1], packs

    def _check_packing(self) -> None:
        """Keep two rows of the LM head, and make sure that packing changes no score of this architecture.

        A model may ignore the mask or the positions that it is given, scale its logits, or keep state of its
        own; each would be silently wrong.
        """
        head = self.model.get_output_embeddings()
        answers = [self._template.yes, self._template.no]
        shared, own = self._rows(CHECK)
        with torch.inference_mode():
            plain = torch.stack(
                [self.model(self._tensor([shared + row]), use_cache=False).logits[0, -1] for row in own]
            )
        self.model.set_output_embeddings(AnswerHead(head, answers))
        expected = (plain[:, answers[0]] - plain[:, answers[1]]).float().cpu().numpy()
        try:
            self.model.set_attn_implementation(NAME)
            packed = self._alone(shared, own)
            beside_others = self._alone(shared, [own[0][::-1], own[1], *[self._template.suffix] * NEIGHBOURS])
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
    def _alone(self, shared: list[int], own: list[list[int]]) -> NDArray[np.float32]:
        user = User(shared, own, np.empty(len(own), np.float32))
        self._forward([Part(user, list(range(len(own))))])
        return user.scores

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
    lacking = [argument for argument in ("position_ids", "logits_to_keep") if argument not in takes]
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


@dataclass(eq=False)
class User:
    """One request as token ids, and what becomes of it.

    Attributes
    ----------
    shared, own : the context's tokens, and each candidate's.
    scores : (len(own),) float32, to be filled.
    kept : so many of the shared tokens need no computing, for `layers` has their keys and values.
    left : places of candidates that did not fit into the pass with the context.
    name : whose request it is.
    """

    shared: list[int]
    own: list[list[int]]
    scores: NDArray[np.float32]
    kept: int = 0
    layers: list[KeysValues] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    name: str = ""


class Part(NamedTuple):
    """Some of a user's candidates, by place."""

    user: User
    places: list[int]


def _passes(users: Sequence[User], pass_tokens: int, cores: int) -> Iterator[list[Part]]:
    """Each user's context with as many candidates as fit in a pass; about as much work for each core."""
    tokens = [len(user.shared) - user.kept + sum(map(len, user.own)) for user in users]
    budget = min(pass_tokens, -(-sum(tokens) // cores))
    parts: list[Part] = []
    held = 0
    for user, size in zip(users, tokens, strict=True):
        if parts and held + min(size, pass_tokens) > budget:
            yield parts
            parts, held = [], 0
        places = next(_groups(user, range(len(user.own)), pass_tokens - (len(user.shared) - user.kept)))
        user.left = list(range(len(places), len(user.own)))
        parts.append(Part(user, places))
        held += min(size, pass_tokens)
    if parts:
        yield parts


def _rest(users: Sequence[User], pass_tokens: int) -> Iterator[list[Part]]:
    """The candidates that `_passes` left, in passes of their own; their users' contexts are computed by now."""
    for user in users:
        yield from ([Part(user, places)] for places in _groups(user, user.left, pass_tokens))


def _groups(user: User, places: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Consecutive candidates of together at most `budget` tokens, at least one at a time."""
    group: list[int] = []
    tokens = 0
    for place in places:
        if group and tokens + len(user.own[place]) > budget:
            yield group
            group, tokens = [], 0
        group.append(place)
        tokens += len(user.own[place])
    if group:
        yield group
