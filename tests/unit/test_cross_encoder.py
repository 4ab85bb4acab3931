"""What only the cross-encoder does: any classifier of one label or two, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, Qwen3Config

from encoders.model_source import ModelUnsupported
from ranker import ScoreRequest, load_scorer
from tests import models, references
from tests.references import CANDIDATES, CONTEXT, close


def test_classifier_that_is_a_decoder(tmp_path: Path) -> None:
    tokenizer = models.byte_level()
    labels: dict[str, Any] = {"num_labels": 1}
    config = Qwen3Config(**models.GROUPED, **labels, vocab_size=len(tokenizer), initializer_range=0.3)
    models.save(tmp_path, AutoModelForSequenceClassification, config, tokenizer)
    [scores] = load_scorer(str(tmp_path), "cpu", "float32").score([ScoreRequest(CONTEXT, CANDIDATES)])
    with torch.inference_mode():
        reference = references.cross_encoder(tmp_path)
        close(scores, [reference(CONTEXT, candidate) for candidate in CANDIDATES])


def test_classifier_of_three_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="3 labels, expected 1"):
        load_scorer(str(models.classifier(tmp_path, labels=3)), "cpu", "float32")


def test_classifier_without_its_head_is_refused(tmp_path: Path) -> None:
    config = models.encoder(tmp_path) / "config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForSequenceClassification"))
    with pytest.raises(ModelUnsupported, match="lacks the weights classifier"):
        load_scorer(str(tmp_path), "cpu", "float32")
