"""The scores that each kind of scorer must return, computed by plain transformers for one pair at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from ranker.scorers import generic_template
from ranker.scorers.template import Template

TOLERANCE = 1e-4
CONTEXT = "Clicked Wool hat 3 days ago\nBought Trail running jacket (Outdoor, 89.00 EUR) 2 days ago"
CANDIDATES = ["Blue shoes size 42", "Umbrella", "Red tent for two, with a very light stove", "Coffee maker"]

Reference = Callable[[str, str], float]
"""A function from a context and a candidate to a score."""


def bi_encoder(folder: Path) -> Reference:
    """The mean of the lines' cosines with the candidate; each older line weighs 0.8 of the next."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModel.from_pretrained(folder)

    @cache
    def vector(text: str) -> torch.Tensor:
        mean: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        return torch.nn.functional.normalize(mean, dim=0)

    def score(context: str, candidate: str) -> float:
        total = weights = 0.0
        for steps_back, line in enumerate(reversed(context.split("\n"))):
            weight = 0.8**steps_back
            total += weight * float(vector(line) @ vector(candidate))
            weights += weight
        return total / weights

    return score


def cross_encoder(folder: Path) -> Reference:
    """The logit of the pair, or the difference of two logits."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)

    def score(context: str, candidate: str) -> float:
        logits = model(**tokenizer(context, candidate, return_tensors="pt")).logits[0]
        return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])

    return score


def packed_encoder(folder: Path) -> Reference:
    """The score of the pair in one sequence, where the context does not attend to the candidate."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)

    def score(context: str, candidate: str) -> float:
        shared, own = tokenizer(context)["input_ids"], tokenizer(candidate)["input_ids"]
        tokens = len(shared) + len(own)
        mask = torch.zeros(1, 1, tokens, tokens)
        mask[:, :, : len(shared), len(shared) :] = torch.finfo(torch.float32).min
        hidden = model.bert(
            input_ids=torch.tensor([shared + own]),
            token_type_ids=torch.tensor([[0] * len(shared) + [1] * len(own)]),
            attention_mask=mask,
        ).last_hidden_state
        logits = model.classifier(model.bert.pooler(hidden[:, len(shared) :]))[0]
        return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])

    return score


def decoder(folder: Path) -> Reference:
    """The logit of yes minus that of no, after the whole prompt."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    yes, no = (tokenizer.get_vocab()[word] for word in ("yes", "no"))
    template = Template()

    def score(context: str, candidate: str) -> float:
        prompt = template.prefix + context + template.middle + candidate + template.suffix
        logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        return float(logits[yes] - logits[no])

    return score


def likelihood(folder: Path) -> Reference:
    """The mean log-likelihood of the tokens of the candidate and of the end of its line, after the context."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    words = Template(**generic_template.continued(tokenizer))

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def score(context: str, candidate: str) -> float:
        before = ids(words.prefix) + ids(context) + ids(words.middle.rstrip(" "))
        row = ids(" " + candidate) + ids(words.suffix)
        logits = model(torch.tensor([before + row])).logits[0, len(before) - 1 : -1]
        return float(logits.log_softmax(-1)[range(len(row)), row].mean())

    return score


def close(left: Any, right: Any) -> None:
    """Assert that two arrays of scores are equal but for rounding."""
    np.testing.assert_allclose(left, right, atol=TOLERANCE, rtol=TOLERANCE)
