"""What the scorers with a classification head have in common: loading it, and one number from its labels.

Called by `cross_encoder` and `packed_encoder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from encoders import model_source
from encoders.device import Placement


def load(name: str, folder: Path, placement: Placement) -> Any:
    """Load a sequence classifier of one or two labels.

    Raises
    ------
    ModelNotFound, ModelUnsupported
        Also for another number of labels.
    """
    model = model_source.load_weights("AutoModelForSequenceClassification", name, folder, placement)
    labels = model.config.num_labels
    if labels not in (1, 2):
        raise model_source.ModelUnsupported(
            f"model: got {name!r} with {labels} labels, expected 1 (relevance) or 2 (irrelevant, "
            "relevant); choose a reranker"
        )
    return model


def odds(logits: torch.Tensor) -> torch.Tensor:
    """Scores, (rows,) float32, of logits (rows, labels): one label's own, or the second's less the first's."""
    logits = logits.float()
    return logits[:, 0] if logits.shape[-1] == 1 else logits[:, 1] - logits[:, 0]
