"""Texts to vectors of length 1, with a sentence-transformers model or any plain encoder.

Knows no user, no item and no ranking. For one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.models.usage import Usage
from encoders.text import modules, prompts
from encoders.text.batches import collate, compute_in_batches
from encoders.text.fit import fit_items, room_for_texts
from encoders.text.tokens import Frame, PlainTokens, Row

MAX_INPUT_TOKENS = 8192
CHECK = ("Trail running jacket", "Espresso machine, 15 bar, with a grinder for fresh beans", "8")
SAME = 0.99999
"""Cosine from which no search can tell two vectors apart."""


class TextEncoder:
    """An embedding model.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, or a hub name. `encoders.text.modules` reads its pooling and dense
        layers. Vectors are normalised for every model. The prompts of the model come before the texts
        (`encoders.text.prompts`).
    device, dtype : str
        See `encoders.models.device.choose`.

    Attributes
    ----------
    name : str
        `model`, as given.
    dim : int
        Length of a vector.
    placement : Placement
    reads_events_as_items : bool
        Whether a text has the same vector as an event and as an item: the model has one prompt for both, or none.
    tokens : PlainTokens
    usage : Usage
        The tokens of items count as candidates', those of events as contexts'.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for a model whose vectors are not finite, or the same for every text.
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        folder = model_source.fetch(model)
        self._prompts = prompts.read(model, folder)
        self.reads_events_as_items = self._prompts.query == self._prompts.document
        self.name = model
        self.placement = choose(device, dtype)
        self.usage = Usage()
        tokenizer = model_source.load_tokenizer(model, folder)
        self._model = model_source.load_weights("AutoModel", model, folder, self.placement, may_lack="pooler")
        self._model.config.use_cache = False  # of a decoder, whose keys and values no other call reads
        hidden = int(self._model.config.get_text_config().hidden_size)
        self._modules = modules.read(folder, hidden, self.placement.device)
        self._prompts.check_pooled(folder, self._modules.pools_prompts)
        self.dim = self._modules.dim
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
        vectors, tokens = self._encode(self._prompts.document, texts)
        self.usage.candidate_tokens += tokens
        return vectors

    def encode_events(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed the items' texts of users' events; as `encode`, but with the prompt of a query."""
        vectors, tokens = self._encode(self._prompts.query, texts)
        self.usage.context_tokens += tokens
        return vectors

    def _encode(self, prompt: str, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """The vectors, and the number of tokens that went through the model."""
        prompted = [(prompt + text).lower() if self._lower_case else prompt + text for text in texts]
        rows = [self._row(ids) for ids in fit_items(prompted, self.tokens, self._limit, self.usage)]
        return self._embed(rows), sum(len(row.ids) for row in rows)

    def _row(self, ids: Sequence[int]) -> Row:
        """The row of a text; of a text without tokens, to a model without special tokens, one token of padding."""
        row = self._frame.row(ids)
        return row if row.ids else Row([self._pad_id], [0])

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
        return self._modules(hidden, inputs["attention_mask"]).cpu().numpy(), padding
