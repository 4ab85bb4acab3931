"""Scores by a sequence classifier that reads context and candidate together: the most exact and the most expensive.

Each candidate costs the whole context again; the packed scorers avoid that. Knows no architecture: any
`AutoModelForSequenceClassification` folder of one or two labels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text.batches import collate, compute_in_batches
from encoders.text.fit import fit_contexts, fit_items, room_for_texts
from encoders.text.tokens import Frame, PlainTokens, Row
from ranker.score import ScoreRequest
from ranker.scorers import classifier, template

MAX_INPUT_TOKENS = 8192
CANDIDATE_SHARE = 4
"""A candidate gets at most a quarter of the input, so that a context is cut alike for all; chosen by us."""


class CrossEncoder:
    """A classifier's logit; see `Scorer` for the contract.

    With one label the score is its logit; with two it is the relevant label's logit minus the other's, the log-odds.
    The texts are framed by the tokeniser's special tokens, or by the template in `afterclick.json`, see
    `ranker.scorers.template`.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    in_training : bool
        Whether a model without a token between context and candidate is accepted, because it will learn that.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for labels that do not say which one means relevance, for a model without a separator between context and
        candidate, and for a decoder whose tokeniser has no padding token.
    """

    feature_set = None
    reads_events = False

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", in_training: bool = False) -> None:
        folder = model_source.fetch(model)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        tokenizer = model_source.load_tokenizer(model, folder)
        self._classifier = classifier.load(model, folder, self.placement)
        self.model = self._classifier.model
        self._pad_id = _pad_id(self.model, tokenizer, model)
        prompt = template.read_for_classifier(folder, tokenizer)
        self._leads = (prompt.context_lead, prompt.candidate_lead) if prompt else ("", "")
        self._frame: Frame | template.PromptTokens = prompt or _frame(model, folder, tokenizer, in_training)
        self._tokens = PlainTokens(tokenizer, prompt.markers if prompt else ())
        self._with_types = "token_type_ids" in tokenizer.model_input_names
        model_source.check_vocabulary(model, self.model, self._tokens, self._pad_id)
        room = room_for_texts(model, self.model, tokenizer, MAX_INPUT_TOKENS, self._frame.tokens)
        self._candidate_limit = room // CANDIDATE_SHARE
        self._context_limit = room - self._candidate_limit

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """See `Scorer.prepare`: nothing about an item can be computed without a context."""

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: no context is cached."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        rows, candidates = self._rows(requests)
        own_tokens = sum(map(len, candidates))
        self.usage.candidates += len(rows)
        self.usage.candidate_tokens += own_tokens
        self.usage.context_tokens += sum(len(row.ids) for row in rows) - own_tokens
        scores = np.empty(len(rows), dtype=np.float32)
        compute_in_batches(scores, rows, self._log_odds, self.placement.device, self.usage)
        ends = np.cumsum([len(request.candidates) for request in requests])[:-1]
        return np.split(scores, ends) if requests else []

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """Return the same scores with their gradients, (len(candidates),), for training."""
        rows, _ = self._rows([request])
        inputs, _ = collate(rows, self._pad_id, self._with_types, self.placement.device)
        return self._classifier.log_odds(self.model(**inputs).logits)

    def _rows(self, requests: Sequence[ScoreRequest]) -> tuple[list[Row], list[list[int]]]:
        """A row for each candidate of each request, and the candidates' own ids."""
        context_lead, candidate_lead = self._leads
        histories = [context_lead + request.context for request in requests]
        contexts = fit_contexts(histories, self._tokens, self._context_limit, self.usage)
        texts = [candidate_lead + text for request in requests for text in request.candidates]
        request_of = [index for index, request in enumerate(requests) for _ in request.candidates]
        candidates = fit_items(texts, self._tokens, self._candidate_limit, self.usage)
        rows = [self._frame.row(contexts[index], ids) for index, ids in zip(request_of, candidates, strict=True)]
        return rows, candidates

    def _log_odds(self, rows: Sequence[Row]) -> tuple[NDArray[np.float32], int]:
        """The scores of one batch, and its tokens of padding."""
        inputs, padding = collate(rows, self._pad_id, self._with_types, self.placement.device)
        return self._classifier.log_odds(self.model(**inputs).logits).cpu().numpy(), padding


def _frame(name: str, folder: Path, tokenizer: Any, in_training: bool) -> Frame:
    """The special tokens around two texts; a model without one in between must have been trained so by this program."""
    frame = Frame(tokenizer, texts=2)
    description = model_source.read_json(folder, template.FILE, dict) or {}
    if frame.separates or in_training or "trained" in description:
        return frame
    raise model_source.ModelUnsupported(
        f"model: got {name!r}, a classifier whose tokeniser puts nothing between context and candidate, expected the "
        f"words that it was trained with in {template.FILE} beside its config.json: "
        f'{{"template": "{template.NAMED}"}} for a model made from that one, else its own prefix, middle and suffix'
    )


def _pad_id(model: Any, tokenizer: Any, name: str) -> int:
    """The id of the padding token, also set in the model's config, by which decoders find a row's last token."""
    config = model.config.get_text_config()
    pad_id = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
    if pad_id is None:
        raise model_source.ModelUnsupported(
            f"model: got {name!r} without a padding token, expected pad_token_id in its config.json; add it"
        )
    config.pad_token_id = pad_id
    return int(pad_id)
