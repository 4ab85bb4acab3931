"""A classification head of one or two labels: loading it, and one score from its logits. Knows no layout of texts."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from encoders.models import source as model_source
from encoders.models.device import Placement
from encoders.text import prompts
from ranker.scorers.template import FILE

RELEVANT = frozenset({"relevant", "isrelevant", "yes", "true", "1"})
IRRELEVANT = frozenset({"irrelevant", "notrelevant", "nonrelevant", "no", "false", "0"})
UNNAMED = ["label0", "label1"]
"""Names that transformers gives to unnamed labels: the second is relevance, as in sentence-transformers' training."""


@dataclass(frozen=True)
class RelevanceClassifier:
    """A sequence classifier, and the index of the label that means relevance."""

    model: Any
    relevant: int

    def log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """Return scores, (rows,) float32, of logits (rows, labels).

        With one label the score is its logit, with two the relevant label's logit minus the other's.
        """
        logits = logits.float()
        return logits[:, 0] if logits.shape[-1] == 1 else logits[:, self.relevant] - logits[:, 1 - self.relevant]


def load(name: str, folder: Path, placement: Placement) -> RelevanceClassifier:
    """Load a sequence classifier of one label, or of two labels of which one means relevance.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for another number of labels, and for two labels whose names do not say which of them means relevance.
    """
    model = model_source.load_weights("AutoModelForSequenceClassification", name, folder, placement)
    names = [str(model.config.id2label.get(index, f"LABEL_{index}")) for index in range(model.config.num_labels)]
    description = model_source.read_json(folder, FILE, dict) or {}
    if prompts.default(folder):
        raise model_source.ModelUnsupported(
            f"model: got {name!r}, a classifier with a default prompt ({prompts.FILE}), expected one without: "
            "prompts of rerankers are not applied here; choose another reranker"
        )
    return RelevanceClassifier(model, relevant_label(name, names, description.get("relevant")))


def relevant_label(name: str, labels: Collection[str], configured: object = None) -> int:
    """Return the index of the label that means relevance.

    Parameters
    ----------
    name : str
        The model as it was named.
    labels : collection of str
        Names of the labels, by index.
    configured : str, optional
        `relevant` in the model's `afterclick.json`: the label's name. It overrides the names of the labels.

    Raises
    ------
    ModelUnsupported
        There is another number of labels, or their names do not say which one means relevance.

    Examples
    --------
    >>> relevant_label("mine", ["relevant", "irrelevant"])
    0
    """
    plain = [re.sub("[^a-z0-9]", "", label.lower()) for label in labels]
    if len(labels) not in (1, 2):
        raise model_source.ModelUnsupported(
            f"model: got {name!r} with {len(labels)} labels ({', '.join(list(labels)[:5])}), expected 1 (relevance) or "
            "2 (irrelevant, relevant); choose a reranker"
        )
    if configured is not None:
        if configured not in labels:
            raise model_source.ModelUnsupported(
                f"model: {FILE} of {name!r}: relevant: got {configured!r}, expected one of its labels "
                f"{', '.join(labels)}; correct it"
            )
        return list(labels).index(str(configured))
    if len(labels) == 1:
        return 0
    if plain == UNNAMED:
        return 1
    for index in range(2):
        if plain[index] in RELEVANT and plain[1 - index] in IRRELEVANT:
            return index
    raise model_source.ModelUnsupported(
        f"model: got {name!r} with the labels {' and '.join(labels)}, expected one label, or irrelevant and relevant: "
        "a classifier of sentiment or entailment is no reranker; choose a reranker, or name the label that means "
        f'relevance in {FILE} beside its config.json: {{"relevant": "{list(labels)[1]}"}}'
    )
