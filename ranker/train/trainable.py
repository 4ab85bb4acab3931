"""What fine-tuning asks of a scorer: gradients, weights that may change, and a folder to be written.

Knows no data and no loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from encoders.models import source as model_source
from ranker.score import Scorer, ScoreRequest
from ranker.scorers import template
from ranker.scorers.packed.decoder import AnswerHead

LORA_RANK = 16


class Trainable(Scorer, Protocol):
    """A scorer whose scores have gradients."""

    model: Any

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """(len(candidates),) float32, as `score` gives them."""
        ...


def make_trainable(scorer: Trainable, lora: bool) -> Any:
    """Make the weights trainable; with LoRA, add weights of low rank beside every linear layer, and a new head.

    Returns the model that holds LoRA's weights, None without LoRA.
    """
    if not lora:
        scorer.model.requires_grad_(True)
        if _has_answer_head(scorer.model):  # two rows of a head that is saved whole, and may share the embeddings
            scorer.model.get_output_embeddings().requires_grad_(False)
            scorer.model.get_input_embeddings().requires_grad_(False)
        return None
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        lora_dropout=0.05,
        target_modules="all-linear",
        task_type="CAUSAL_LM" if _has_answer_head(scorer.model) else "SEQ_CLS",  # whose head is trained whole
    )
    return get_peft_model(scorer.model, config)


def save(scorer: Trainable, base: str, folder: Path) -> None:
    """Write the model in Hugging Face format, its tokeniser, and what `afterclick.json` says of its template."""
    source = model_source.fetch(base)
    model = scorer.model
    if _has_answer_head(model):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(source, dtype=model.dtype)
        shapes = {name: weight.shape for name, weight in model.state_dict().items()}
        tuned = scorer.model.state_dict()
        model.load_state_dict({n: w for n, w in tuned.items() if shapes.get(n) == w.shape}, strict=False)
    model.save_pretrained(folder)
    model_source.load_tokenizer(base, source).save_pretrained(folder)
    if _has_answer_head(scorer.model) or (source / template.FILE).is_file():
        template.keep(source, folder)


def _has_answer_head(model: Any) -> bool:
    return isinstance(model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None, AnswerHead)
