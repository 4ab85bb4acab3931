"""Tiny random models with real tokenisers, made on the fly: the architectures without the weights.

Their weights are drawn widely, so that scores differ clearly from text to text.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CORPUS = [
    "yes no yes no Bought Clicked Trail running jacket (Outdoor, 89.00 EUR) 2 days ago",
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided.",
    "Given what a user did, oldest first, judge whether the user will choose the item next. Note that the answer can",
    "system user assistant Wool hat Umbrella Blue shoes size 42 Coffee maker Red tent for two Camping stove",
]
BERT_POSITIONS = 128
DECODER_POSITIONS = 768


def encoder(folder: Path) -> Path:
    """A BERT encoder of 128 positions, mean-pooled."""
    return _bert(folder, BertModel)


def classifier(folder: Path, labels: int = 1) -> Path:
    """A BERT sequence classifier of 128 positions."""
    return _bert(folder, BertForSequenceClassification, num_labels=labels)


def decoder(folder: Path, **config: object) -> Path:
    """A Qwen3 causal LM of 768 positions, with Qwen's special tokens."""
    tokenizer = _byte_level()
    torch.manual_seed(7)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": DECODER_POSITIONS,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
    }
    Qwen3ForCausalLM(Qwen3Config(**(settings | config))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _bert(folder: Path, kind: type[BertModel] | type[BertForSequenceClassification], **config: int) -> Path:
    tokenizer = _word_pieces()
    torch.manual_seed(7)
    kind(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=BERT_POSITIONS,
            initializer_range=0.3,
            **config,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _word_pieces() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        CORPUS + ["yes", "no"] * 50,
        trainers.BpeTrainer(
            vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
