"""Scores by a small bidirectional encoder with a scoring head, the context read once for all candidates.

MiniLM and its like, trained with this layout: `[CLS] context [SEP]`, seen by every candidate `[CLS] candidate [SEP]`,
whose positions go on from the context's end and whose own `[CLS]` is scored by the head. The context sees no candidate:
that is what lets all of them share it. When an event is added, every token of a bidirectional context changes, so
nothing of a context can be kept from click to click; of an item its token ids are. Loaded by `load_scorer` for a
folder whose `afterclick.json` says `{"packed": true}`; each model is checked at load against plain forward passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.cores import cores, each
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text.fit import first_position, fit_contexts, fit_items, room_for_texts
from encoders.text.tokens import Frame, KeptTokens, PlainTokens, Row
from ranker.score import ScoreRequest
from ranker.scorers import classifier, known_pairs
from ranker.scorers.packed.layout import Pack, Packing, by_length, runs
from ranker.scorers.packed.packing import NAME

LONGEST_INPUT = 4096
CANDIDATE_SHARE = 4
"""A candidate gets at most one part in so many of the model's positions; a context the rest."""
PASS_TOKENS = 4096
"""Tokens of one forward pass, chosen by us: more gains nothing on a CPU."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.02, "int8": 0.1}
"""Of the largest score; what a packed score may differ from a plain one at load."""
CHECK = ScoreRequest("Viewed Wool hat\nBought Red rain jacket", ("Blue trail running shoes", "Umbrella", "Hat"))


class PackedEncoder:
    """The head's logit at each candidate; see `Scorer` for the contract.

    With one label the score is its logit; with two it is the relevant label's less the other's, its log-odds.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for an architecture that scores packed candidates otherwise than plain ones.
    """

    needs_features = False

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        folder = model_source.fetch(model)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        tokenizer = model_source.load_tokenizer(model, folder)
        self._classifier = classifier.load(model, folder, self.placement)
        self.model = self._classifier.model
        self._tokens = PlainTokens(tokenizer)
        self._items = KeptTokens(self._tokens)
        self._frame = Frame(tokenizer, texts=2)
        self._with_types = "token_type_ids" in tokenizer.model_input_names
        self._first_position = first_position(self.model)
        model_source.check_vocabulary(model, self.model, self._tokens)
        room = room_for_texts(model, self.model, tokenizer, LONGEST_INPUT, self._frame.tokens + 1)
        self._candidate_limit = room // CANDIDATE_SHARE
        self._context_limit = room - self._candidate_limit
        self._check()
        self.usage = Usage()  # the check is nobody's request

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`: keeps the token ids."""
        self._items(texts)

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: nothing of a context is kept."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        asked = [place for place, request in enumerate(requests) if request.candidates]
        users = self._rows([requests[place] for place in asked])
        scores = [np.empty(0, np.float32) for _ in requests]
        device = self.placement.device
        with self.usage.timing("inference_seconds"):
            passes = list(_passes(users, cores(device)))
            results = each(lambda places: self._forward([users[place] for place in places]), passes, device)
            for places, found in zip(passes, results, strict=True):
                for place, of_user in zip(places, found, strict=True):
                    scores[asked[place]] = of_user
        return scores

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """The same scores with their gradients, (len(candidates),), for training."""
        return self._scores(self._rows([request]))

    def _rows(self, requests: Sequence[ScoreRequest]) -> list[User]:
        contexts = fit_contexts([r.context for r in requests], self._tokens, self._context_limit, self.usage)
        users = []
        for request, ids in zip(requests, contexts, strict=True):
            own = fit_items(request.candidates, self._items, self._candidate_limit, self.usage)
            user = User(self._frame.first(ids), [self._frame.second(candidate) for candidate in own])
            self.usage.context_tokens += len(user.context.ids)
            self.usage.candidate_tokens += sum(len(row.ids) for row in user.candidates)
            users.append(user)
        return users

    def _forward(self, parts: Sequence[User]) -> list[NDArray[np.float32]]:
        """Scores of all candidates of these users, in one pass."""
        scores = self._scores(parts).cpu().numpy()
        return np.split(scores, np.cumsum([len(user.candidates) for user in parts])[:-1])

    def _scores(self, parts: Sequence[User]) -> torch.Tensor:
        """The same as a tensor, user after user."""
        ids, types, positions, heads = list[int](), list[int](), list[int](), list[int]()
        packs = []
        for user in parts:
            start, shared = len(ids), len(user.context.ids)
            order, lengths = by_length([row.ids for row in user.candidates])
            packs.append(Pack(start, shared, list(runs(start + shared, lengths))))
            first = [0] * len(order)
            ids += user.context.ids
            types += user.context.types
            positions += range(shared)
            for place in order:
                row = user.candidates[place]
                first[place] = len(ids)
                ids += row.ids
                types += row.types
                positions += range(shared, shared + len(row.ids))
            heads += first
        hidden = self._hidden(ids, types, positions, packing=Packing(packs, causal=False))
        return self._head(hidden[heads])

    def _hidden(self, ids: list[int], types: list[int], positions: list[int], **how: Any) -> torch.Tensor:
        """What the layers make of one sequence: (tokens, hidden)."""
        inputs = {"input_ids": ids, "position_ids": [self._first_position + place for place in positions]}
        if self._with_types:
            inputs["token_type_ids"] = types
        tensors = {name: torch.tensor([values], device=self.placement.device) for name, values in inputs.items()}
        hidden: torch.Tensor = self.model.base_model(**tensors, **how).last_hidden_state[0]
        return hidden

    def _head(self, firsts: torch.Tensor) -> torch.Tensor:
        """Scores of the hidden states of rows' first tokens, (rows, hidden)."""
        alone = firsts[:, None]  # to the head, each is a sequence of one token
        pooler = getattr(self.model.base_model, "pooler", None)
        return self._classifier.odds(self.model.classifier(pooler(alone) if pooler else alone))

    @torch.inference_mode()
    def _check(self) -> None:
        """Make sure that neither the layout nor our way to the head changes a score of this architecture."""
        try:
            [user] = self._rows([CHECK])
            plain = torch.cat([self._plain(user.context, row) for row in user.candidates])
            row = user.candidates[0]
            whole = self._hidden(row.ids, row.types, list(range(len(row.ids))))
            [at_head] = self._classifier.odds(
                self.model(**_tensors(row, self._with_types, self.placement.device)).logits
            )
            self.model.set_attn_implementation(NAME)
            packed = self._scores([user])
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
        """One candidate's score with the stock attention: the context is kept from seeing the candidate by a mask."""
        shared, tokens = len(context.ids), len(context.ids) + len(candidate.ids)
        mask = torch.zeros(1, 1, tokens, tokens, dtype=self.model.dtype, device=self.placement.device)
        mask[:, :, :shared, shared:] = torch.finfo(mask.dtype).min
        hidden = self._hidden(
            context.ids + candidate.ids, context.types + candidate.types, list(range(tokens)), attention_mask=mask
        )
        return self._head(hidden[shared : shared + 1])


class User(NamedTuple):
    """One request's rows of token ids."""

    context: Row
    candidates: list[Row]

    @property
    def tokens(self) -> int:
        return len(self.context.ids) + sum(len(row.ids) for row in self.candidates)


def _passes(users: Sequence[User], cores: int) -> Iterator[list[int]]:
    """Divide users, by place, among passes of at most about `PASS_TOKENS`, enough of them for all cores."""
    budget = min(PASS_TOKENS, -(-sum(user.tokens for user in users) // cores))
    part: list[int] = []
    tokens = 0
    for place, user in enumerate(users):
        if part and tokens + user.tokens > budget:
            yield part
            part, tokens = [], 0
        part.append(place)
        tokens += user.tokens
    if part:
        yield part


def _tensors(row: Row, with_types: bool, device: str) -> dict[str, torch.Tensor]:
    columns = {"input_ids": row.ids} | ({"token_type_ids": row.types} if with_types else {})
    return {name: torch.tensor([values], device=device) for name, values in columns.items()}
