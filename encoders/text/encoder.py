"""Texts to vectors of length 1, with a sentence-transformers model or any plain encoder.

Knows no user, no item and no ranking. For one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text import prompts
from encoders.text.batches import collate, compute_in_batches
from encoders.text.fit import fit_contexts, fit_items, room_for_texts
from encoders.text.tokens import Frame, PlainTokens, Row

MAX_INPUT_TOKENS = 8192
LEGACY_POOLING = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
CHECK = ("Trail running jacket", "Espresso machine, 15 bar, with a grinder for fresh beans", "8")
SIMPLE = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
"""A model to recommend: mean pooling, no prompts, fifty languages."""
SAME = 0.99999
"""Cosine from which no search can tell two vectors apart."""


class TextEncoder:
    """An embedding model.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, or a hub name. `1_Pooling/config.json` decides between mean and cls
        pooling; a plain encoder without it is mean-pooled. Vectors are normalised for every model. The prompts of the
        model come before the texts (`encoders.text.prompts`).
    device, dtype : str
        See `encoders.models.device.choose`.

    Attributes
    ----------
    name : str
        `model`, as given.
    dim : int
        Length of a vector.
    placement : Placement
    tokens : PlainTokens
    usage : Usage
        Items' texts count as candidates, events as contexts.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for a model whose vectors are not finite, or the same for every text.
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        folder = model_source.fetch(model)
        self._prompts = prompts.read(model, folder)
        self._pooling = _pooling(folder, self._prompts)
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        tokenizer = model_source.load_tokenizer(model, folder)
        self._model = model_source.load_weights("AutoModel", model, folder, self.placement, may_lack="pooler")
        self.dim = int(self._model.config.hidden_size)
        self.tokens, self._frame = PlainTokens(tokenizer), Frame(tokenizer, texts=1)
        model_source.check_vocabulary(model, self._model, self.tokens)
        self._with_types = "token_type_ids" in tokenizer.model_input_names
        self._pad_id = tokenizer.pad_token_id or 0  # padding is masked, so every id works
        settings = model_source.read_json(folder, "sentence_bert_config.json", dict) or {}
        self._lower_case = bool(settings.get("do_lower_case"))
        cap = settings.get("max_seq_length") or MAX_INPUT_TOKENS
        self._limit = room_for_texts(model, self._model, tokenizer, cap, self._frame.tokens)
        self._check()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed items' texts; a text that is too long loses its end.

        Parameters
        ----------
        texts : sequence of str
            Any number, in any order; they are batched by length.

        Returns
        -------
        ndarray of float32, (len(texts), dim)
            Rows of length 1, in the order of `texts`.
        """
        prompted = self._cased([self._prompts.document + text for text in texts])
        rows = [self._frame.row(ids) for ids in fit_items(prompted, self.tokens, self._limit, self.usage)]
        self.usage.candidate_tokens += sum(len(row.ids) for row in rows)
        return self._embed(rows)

    def encode_events(self, events: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
        """Embed single lines of users' contexts; a line that is too long loses its beginning, see `fit_contexts`.

        Returns
        -------
        vectors : ndarray of float32, (len(events), dim)
            Rows of length 1, in the order of `events`.
        tokens : list of int
            Tokens of each event, special tokens included.
        """
        [query] = self._cased([self._prompts.query])
        fitted = fit_contexts(self._cased(events), self.tokens, self._limit, self.usage, query)
        rows = [self._frame.row(ids) for ids in fitted]
        tokens = [len(row.ids) for row in rows]
        self.usage.context_tokens += sum(tokens)
        return self._embed(rows), tokens

    def _cased(self, texts: Sequence[str]) -> Sequence[str]:
        return [text.lower() for text in texts] if self._lower_case else texts

    def _check(self) -> None:
        """Make sure that vectors are finite and differ between texts."""
        vectors = self.encode(CHECK)
        nearest = float((vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)].min())
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2):
            problem = "vectors that are not finite, or zero"
        elif nearest > SAME:
            problem = f"the same vector for {len(CHECK)} different texts"
        else:
            self.usage.clear()
            return
        raise model_source.ModelUnsupported(
            f"model: got from {self.name!r} in {self.placement.dtype} {problem}, expected a vector of its own for each "
            "text; copy its files again, try float32, or choose another model"
        )

    def _embed(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), self.dim), dtype=np.float32)
        compute_in_batches(vectors, rows, self._pooled, self.placement.device, self.usage)
        return vectors

    def _pooled(self, rows: Sequence[Row]) -> tuple[NDArray[np.float32], int]:
        """The vectors of one batch, and its tokens of padding."""
        inputs, padding = collate(rows, self._pad_id, self._with_types, self.placement.device)
        hidden: torch.Tensor = self._model(**inputs).last_hidden_state.float()
        if self._pooling == "cls":
            pooled = hidden[:, 0]
        else:
            mask = inputs["attention_mask"][:, :, None].float()
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy(), padding


def _pooling(folder: Path, prompted: prompts.Prompts) -> str:
    """Read how a sentence-transformers folder pools token vectors: 'mean' or 'cls'."""
    modules = model_source.read_json(folder, "modules.json", list) or []
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    unknown = [kind for kind in kinds if kind not in KNOWN_MODULES]
    if unknown:
        raise model_source.ModelUnsupported(
            f"{folder / 'modules.json'}: got the module {unknown[0]}, expected {', '.join(KNOWN_MODULES)} "
            f"only; choose a model without it, such as {SIMPLE}"
        )
    path = next((str(m.get("path")) for m, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), "1_Pooling")
    config = model_source.read_json(folder, f"{path}/config.json", dict) or {"pooling_mode": "mean"}
    legacy = [
        LEGACY_POOLING.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True
    ]
    mode = config.get("pooling_mode", legacy)
    mode = mode[0] if isinstance(mode, list) and len(mode) == 1 else mode
    if mode not in ("mean", "cls"):
        raise model_source.ModelUnsupported(
            f"{folder / path / 'config.json'}: got the pooling {mode!r}, expected 'mean' or 'cls'; choose another "
            f"model, such as {SIMPLE}"
        )
    if config.get("include_prompt") is False and prompted != prompts.Prompts():
        raise model_source.ModelUnsupported(
            f"{folder / path / 'config.json'}: got include_prompt false, expected prompts that are pooled with their "
            f"texts; choose another model, such as {SIMPLE}"
        )
    return str(mode)
