"""Tiny models with random weights and real tokenisers, in the architectures that the product supports.

The random weights are large, so that the scores of different texts differ clearly.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Gemma3TextConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

CORPUS = [
    "yes no yes no Bought Clicked Trail running jacket (Outdoor, 89.00 EUR) 2 days ago",
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided.",
    "Given what a user did, oldest first, judge whether the user will choose the item next. Note that the",
    "system user assistant relevant Wool hat Umbrella Blue shoes size 42 Coffee maker Red tent for two Camping stove",
]
WORDS = [word for line in CORPUS for word in re.findall(r"\w+|[^\w\s]", line)]
"""The vocabulary. It is fixed because the libraries' trainers learn another vocabulary in every process."""
FastTokenizer: Any = PreTrainedTokenizerFast  # its constructor has no types
BERT_POSITIONS = 128
DECODER_POSITIONS = 768
GROUPED: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
"""Sizes of a tiny decoder whose attention heads share keys and values."""


def encoder(folder: Path, **config: Any) -> Path:
    """Write a mean-pooled BERT encoder of 128 positions; `config` changes its `BertConfig`."""
    return _bert(folder, AutoModel, **config)


def classifier(folder: Path, labels: int = 1, **config: Any) -> Path:
    """Write a BERT sequence classifier of 128 positions."""
    return _bert(folder, AutoModelForSequenceClassification, num_labels=labels, **config)


def packed(folder: Path, labels: int = 1, **config: Any) -> Path:
    """Write a BERT sequence classifier that is marked as trained for packed candidates."""
    classifier(folder, labels, **config)
    (folder / "afterclick.json").write_text('{"packed": true}', encoding="utf-8")
    return folder


def clip(folder: Path) -> Path:
    """Write a CLIP of pictures of 32 x 32, with random weights, and what prepares its pictures."""
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=64)
    torch.manual_seed(7)
    CLIPModel(config).save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """Write a SigLIP of pictures of 32 x 32, with random weights, and what prepares its pictures."""
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    torch.manual_seed(7)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def decoder(folder: Path, **config: Any) -> Path:
    """Write a Qwen3 causal LM of 768 positions, with Qwen's special tokens and Qwen3-Reranker's template."""
    save(folder, AutoModelForCausalLM, decoder_config(**config), byte_level())
    (folder / "afterclick.json").write_text('{"template": "Qwen3-Reranker"}', encoding="utf-8")
    return folder


def base_decoder(folder: Path, **config: Any) -> Path:
    """Write a Gemma 3 with tied embeddings and sliding layers, which says nothing of a template: a base model."""
    tokenizer = byte_level()
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 60}
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "max_position_embeddings": DECODER_POSITIONS}
    settings: dict[str, Any] = {"initializer_range": 0.3, "tie_word_embeddings": True}
    gemma = Gemma3TextConfig(**(GROUPED | layers | sizes | settings | config))
    return save(folder, AutoModelForCausalLM, gemma, tokenizer)


def decoder_that_says(folder: Path, text: str) -> Path:
    """Write a Qwen3 causal LM that answers every prompt with this text: one token, and then the end.

    Attention and MLPs add nothing, so the next token depends on the last one alone.
    """
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False)])
    config = decoder_config(vocab_size=len(tokenizer), max_position_embeddings=2_048)
    save(folder, AutoModelForCausalLM, config, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder)
    said, end = tokenizer.convert_tokens_to_ids(text), tokenizer.eos_token_id
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 1
        model.model.embed_tokens.weight[said] = torch.eye(model.config.hidden_size)[1]
        model.lm_head.weight.zero_()
        model.lm_head.weight[said, 0] = model.lm_head.weight[end, 1] = 1
    model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    return folder


def decoder_config(**config: Any) -> Qwen3Config:
    """Return the sizes of the tiny decoder; `config` changes them."""
    settings: dict[str, Any] = {
        "vocab_size": len(byte_level()),
        "max_position_embeddings": DECODER_POSITIONS,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
    }
    return Qwen3Config(**(GROUPED | settings | config))


def save(folder: Path, auto_class: Any, config: PreTrainedConfig, tokenizer: Any) -> Path:
    """Write a model with random weights and its tokeniser; the weights are the same in every call."""
    torch.manual_seed(7)
    auto_class.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _bert(folder: Path, auto_class: Any, **special: Any) -> Path:
    tokenizer = _word_pieces()
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": BERT_POSITIONS,
        "initializer_range": 0.3,
    }
    config = BertConfig(**(settings | special))
    return save(folder, auto_class, config, tokenizer)


def _word_pieces() -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted(set("".join(WORDS).lower()))
    words = sorted({word.lower() for word in WORDS} - set(letters))
    vocabulary = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return FastTokenizer(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_level() -> Any:
    """Return a byte-level tokeniser like Qwen's, with its special tokens."""
    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in ["yes", "no", *WORDS, *(f"Ġ{word}" for word in WORDS)]:
        for end in range(1, len(word)):
            merges.setdefault((word[:end], word[end]))
    vocabulary += dict.fromkeys(left + right for left, right in merges)
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(vocabulary)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return FastTokenizer(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>")
