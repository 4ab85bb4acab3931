"""Scores by a sequence classifier that reads context and candidate together: the most exact, the dearest.

Each candidate costs the whole context again; the packed scorers avoid that. Knows no architecture: any
`AutoModelForSequenceClassification` folder of one or two labels will do.
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
from encoders.text.batches import collate, fill
from encoders.text.fit import fit_contexts, fit_items, room_for_texts
from encoders.text.tokens import Frame, PlainTokens, Row
from ranker.score import ScoreRequest
from ranker.scorers import classifier, template

LONGEST_INPUT = 8192
CANDIDATE_SHARE = 4  # chosen by us: a quarter of the input is the candidate's at most, so that contexts fit alike


class CrossEncoder:
    """A classifier's logit; see `Scorer` for the contract.

    With one label the score is its logit; with two it is the relevant label's less the other's, its log-odds. Around
    the texts come the tokeniser's special tokens, or the words of `afterclick.json`, see `ranker.scorers.template`.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.
    in_training : bool
        A model that puts nothing between context and candidate learns to rank so.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for labels of which none is known to mean relevance, for a model that says nothing of what comes between
        context and candidate, and for a decoder whose tokeniser has no padding token.
    """

    needs_features = False

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto", in_training: bool = False) -> None:
        folder = model_source.fetch(model)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        tokenizer = model_source.load_tokenizer(model, folder)
        self._classifier = classifier.load(model, folder, self.placement)
        self.model = self._classifier.model
        self._pad_id = _pad_id(self.model, tokenizer, model)
        words = template.read_for_classifier(folder, tokenizer)
        self._leads = (words.context_lead, words.candidate_lead) if words else ("", "")
        self._frame: Frame | template.Around = words or _frame(model, folder, tokenizer, in_training)
        self._tokens = PlainTokens(tokenizer, words.markers if words else ())
        self._with_types = "token_type_ids" in tokenizer.model_input_names
        model_source.check_vocabulary(model, self.model, self._tokens, self._pad_id)
        room = room_for_texts(model, self.model, tokenizer, LONGEST_INPUT, self._frame.tokens)
        self._candidate_limit = room // CANDIDATE_SHARE
        self._context_limit = room - self._candidate_limit

    def prepare(self, texts: Sequence[str]) -> None:
        """See `Scorer.prepare`: nothing of an item can be computed without its context."""

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: nothing of a context is kept."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """See `Scorer.score`."""
        self.usage.requests += len(requests)
        rows, candidates = self._rows(requests)
        own_tokens = sum(map(len, candidates))
        self.usage.candidates += len(rows)
        self.usage.candidate_tokens += own_tokens
        self.usage.context_tokens += sum(len(row.ids) for row in rows) - own_tokens
        scores = np.empty(len(rows), dtype=np.float32)
        fill(scores, rows, self._odds, self.placement.device, self.usage)
        ends = np.cumsum([len(request.candidates) for request in requests])[:-1]
        return np.split(scores, ends) if requests else []

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """The same scores with their gradients, (len(candidates),), for training."""
        rows, _ = self._rows([request])
        inputs, _ = collate(rows, self._pad_id, self._with_types, self.placement.device)
        return self._classifier.odds(self.model(**inputs).logits)

    def _rows(self, requests: Sequence[ScoreRequest]) -> tuple[list[Row], list[list[int]]]:
        """A row for each candidate of each request, and the candidates' own ids."""
        before_context, before_candidate = self._leads
        histories = [before_context + request.context for request in requests]
        contexts = fit_contexts(histories, self._tokens, self._context_limit, self.usage)
        texts = [before_candidate + text for request in requests for text in request.candidates]
        owners = [place for place, request in enumerate(requests) for _ in request.candidates]
        candidates = fit_items(texts, self._tokens, self._candidate_limit, self.usage)
        rows = [self._frame.row(contexts[owner], ids) for owner, ids in zip(owners, candidates, strict=True)]
        return rows, candidates

    def _odds(self, rows: Sequence[Row]) -> tuple[NDArray[np.float32], int]:
        """The scores of one batch, and its tokens of padding."""
        inputs, padding = collate(rows, self._pad_id, self._with_types, self.placement.device)
        return self._classifier.odds(self.model(**inputs).logits).cpu().numpy(), padding


def _frame(name: str, folder: Path, tokenizer: Any, in_training: bool) -> Frame:
    """The special tokens around the two texts; without any between them a model must have learnt to rank so with us."""
    frame = Frame(tokenizer, texts=2)
    described = model_source.read_json(folder, template.FILE, dict) or {}
    if frame.separates or in_training or "trained" in described:
        return frame
    raise model_source.ModelUnsupported(
        f"model: got {name!r}, a classifier whose tokeniser puts nothing between context and candidate, expected the "
        f"words that it was trained with in {template.FILE} beside its config.json: "
        f'{{"template": "{template.NAMED}"}} for what was made of it, else its own prefix, middle and suffix'
    )


def _pad_id(model: Any, tokenizer: Any, name: str) -> int:
    """Return the padding token, and make sure the model knows it: decoders find a row's last token by it."""
    config = model.config.get_text_config()
    pad_id = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
    if pad_id is None:
        raise model_source.ModelUnsupported(
            f"model: got {name!r} without a padding token, expected pad_token_id in its config.json; add it"
        )
    config.pad_token_id = pad_id
    return int(pad_id)
