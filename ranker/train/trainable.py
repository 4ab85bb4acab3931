"""What fine-tuning asks of a scorer: gradients, weights that may change, and a folder to be written.

Knows no data and no loss.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import torch

from encoders.models import source as model_source
from encoders.models import sparse
from encoders.models.device import Placement
from ranker.score import Scorer, ScoreRequest
from ranker.scorers import template
from ranker.scorers.packed.decoder import PackedDecoder

LORA_RANK = 16


class Trainable(Scorer, Protocol):
    """A scorer whose scores have gradients."""

    model: Any

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """(len(candidates),) float32, as `score` gives them."""
        ...


def make_trainable(scorer: Trainable, lora: bool) -> Any:
    """Make the weights trainable; with LoRA, add weights of low rank beside every linear layer, and a new head.

    A decoder's embeddings and its LM head, which may share their weights, are never trained: they are most of a small
    model, and a shop's log has few of their words. The zeros of 2:4 sparse layers stay zero.

    Returns the model that holds LoRA's weights, None without LoRA.

    Raises
    ------
    ModelUnsupported
        LoRA for a 2:4 sparse model.
    """
    model, is_decoder = scorer.model, isinstance(scorer, PackedDecoder)
    held = sparse.sparse_layers(model)
    if lora and held:
        raise model_source.ModelUnsupported(
            f"--lora: got {scorer.name!r}, whose weights are 2:4 sparse, expected dense ones, for what LoRA adds would "
            "fill the zeros; train it without --lora, or train the dense model and then compress it with --sparsify"
        )
    if is_decoder:  # the activations of a long context are computed again for the gradients: they need most memory
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not lora:
        model.requires_grad_(True)
        if is_decoder:
            model.get_output_embeddings().requires_grad_(False)
            model.get_input_embeddings().requires_grad_(False)
        sparse.hold(held)
        return None
    from peft import LoraConfig, get_peft_model

    head = model.get_output_embeddings() if is_decoder else None
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not head]
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        lora_dropout=0.05,
        target_modules=linear if is_decoder else "all-linear",
        task_type="CAUSAL_LM" if is_decoder else "SEQ_CLS",  # whose head is trained whole
    )
    return get_peft_model(model, config)


def merged(adapted: Any) -> Any:
    """Return the model with LoRA's weights added to its own, in float32: bfloat16 would round small ones away."""
    config = adapted.get_base_model().config
    tied = getattr(config, "tie_word_embeddings", None)
    config.tie_word_embeddings = False  # peft would take the two rows of the answers for a head that is no longer tied
    model = adapted.float().merge_and_unload()
    config.tie_word_embeddings = tied
    return model


def save(scorer: Trainable, base: str, folder: Path) -> None:
    """Write the model in Hugging Face format, its tokeniser, and what `afterclick.json` says of its template."""
    source = model_source.fetch(base)
    model = scorer.model
    if isinstance(scorer, PackedDecoder):
        tuned = model.state_dict()
        placement = Placement("cpu", str(model.dtype).removeprefix("torch."), "to be saved")
        model = model_source.load_weights("AutoModelForCausalLM", base, source, placement)
        shapes = {name: weight.shape for name, weight in model.state_dict().items()}  # of the head it may have two rows
        model.load_state_dict({n: w for n, w in tuned.items() if shapes.get(n) == w.shape}, strict=False)
    model.save_pretrained(folder)
    tokenizer = model_source.load_tokenizer(base, source)
    tokenizer.save_pretrained(folder)
    if (source / template.FILE).is_file():
        shutil.copy(source / template.FILE, folder)
    if isinstance(scorer, PackedDecoder):
        template.keep(scorer.template, folder)
