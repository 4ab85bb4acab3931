"""The scorers that ours are compared with: the same models, as users run them without Afterclick.

sentence-transformers is optional. Each peer is a function of the texts that it reads.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from encoders.models import source as model_source
from encoders.models.device import Placement
from ranker.score import ScoreRequest
from ranker.scorers.template_choice import choices

SENTENCES = "sentence-transformers"
NO_SENTENCES = f"{SENTENCES} is not installed: no row compares with it (pip install {SENTENCES})."

Encode = Callable[[Sequence[str]], object]
Rank = Callable[[ScoreRequest], Any]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off transformers' progress bars and its reports about weights."""
    log: Any = logging  # its functions have no types
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def embedder(model: str, placement: Placement) -> Encode | None:
    """Load a model in sentence-transformers, on our device and in our number format; None if not installed."""
    if (sentences := _sentence_transformers()) is None:
        return None
    loaded = sentences.SentenceTransformer(
        str(model_source.fetch(model)),
        device=placement.device,
        model_kwargs={"dtype": getattr(torch, placement.dtype)},
    )
    return lambda texts: loaded.encode(list(texts), show_progress_bar=False)


def cross_encoder(folder: Path, device: str) -> Rank | None:
    """Load a model as sentence-transformers' cross-encoder, with its defaults; None if not installed.

    The cross-encoder reads one row of the context and a candidate for each candidate.
    """
    if (sentences := _sentence_transformers()) is None:
        return None
    loaded = sentences.CrossEncoder(str(folder), device=device)

    def rank(request: ScoreRequest) -> Any:
        pairs = [(request.context, candidate) for candidate in request.candidates]
        return loaded.predict(pairs, show_progress_bar=False)

    return rank


def full_prompts(folder: Path, placement: Placement) -> Rank:
    """Load a decoder as Qwen3-Reranker's model card does: one batch of whole prompts, padded on the left.

    The scores are those of our decoder, `logit(yes) - logit(no)` of the last token; shape (candidates,), float32.
    """
    tokenizer = model_source.load_tokenizer(str(folder), folder)
    [*_, (template, _, _)] = choices(folder, tokenizer)  # a question
    tokenizer.padding_side = "left"
    loader: Any = transformers.AutoModelForCausalLM  # its functions have no types
    loaded = loader.from_pretrained(folder, dtype=getattr(torch, placement.dtype)).eval().to(placement.device)
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (template.yes, template.no))

    @torch.no_grad()
    def rank(request: ScoreRequest) -> Any:
        before = template.prefix + request.context + template.middle
        prompts = [before + candidate + template.suffix for candidate in request.candidates]
        inputs = tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        logits = loaded(**inputs.to(placement.device)).logits[:, -1].float()
        return (logits[:, yes] - logits[:, no]).cpu().numpy()

    return rank


def _sentence_transformers() -> Any:
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    return importlib.import_module("sentence_transformers")
