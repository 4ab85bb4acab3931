"""What the scorers with a classification head have in common: loading it, and one number from its labels."""

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
"""What transformers calls labels that nobody named: the second is relevance, as sentence-transformers trains them."""


@dataclass(frozen=True)
class Head:
    """A sequence classifier, and which of its labels means relevance."""

    model: Any
    relevant: int

    def odds(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores, (rows,) float32, of logits (rows, labels): one label's own, or the relevant less the other's."""
        logits = logits.float()
        return logits[:, 0] if logits.shape[-1] == 1 else logits[:, self.relevant] - logits[:, 1 - self.relevant]


def load(name: str, folder: Path, placement: Placement) -> Head:
    """Load a sequence classifier of one label, or of two of which one means relevance.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for another number of labels, and for two whose names do not say which of them is relevance.
    """
    model = model_source.load_weights("AutoModelForSequenceClassification", name, folder, placement)
    names = [str(model.config.id2label.get(place, f"LABEL_{place}")) for place in range(model.config.num_labels)]
    described = model_source.read_json(folder, FILE, dict) or {}
    if prompts.default(folder):
        raise model_source.ModelUnsupported(
            f"model: got {name!r}, a classifier with a default prompt ({prompts.FILE}), expected one without: "
            "prompts of rerankers are not applied here; choose another reranker"
        )
    return Head(model, relevant_label(name, names, described.get("relevant")))


def relevant_label(name: str, labels: Collection[str], said: object = None) -> int:
    """The place of the label that means relevance.

    Parameters
    ----------
    said : `relevant` in the model's `afterclick.json`: the label's name, which decides.

    Raises
    ------
    ModelUnsupported

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
    if said is not None:
        if said not in labels:
            raise model_source.ModelUnsupported(
                f"model: {FILE} of {name!r}: relevant: got {said!r}, expected one of its labels {', '.join(labels)}; "
                "correct it"
            )
        return list(labels).index(str(said))
    if len(labels) == 1:
        return 0
    if plain == UNNAMED:
        return 1
    for place in range(2):
        if plain[place] in RELEVANT and plain[1 - place] in IRRELEVANT:
            return place
    raise model_source.ModelUnsupported(
        f"model: got {name!r} with the labels {' and '.join(labels)}, expected one label, or irrelevant and relevant: "
        "a classifier of sentiment or entailment is no reranker; choose a reranker, or name the label that means "
        f'relevance in {FILE} beside its config.json: {{"relevant": "{list(labels)[1]}"}}'
    )
