"""What only the cross-encoder does: any classifier of one label or two, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Qwen3Config

from encoders.models.source import ModelUnsupported
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.scorers.template import Template
from tests import models, references
from tests.references import CANDIDATES, CONTEXT, close

WORDS = {"prefix": "<|im_start|>Query: ", "middle": " Document: ", "suffix": "<|im_end|>"}


def converted(folder: Path, described: dict[str, Any] | None) -> str:
    """A decoder as a classifier of one label, as Qwen3-Reranker is converted to one; and its `afterclick.json`."""
    tokenizer = models.byte_level()
    labels: dict[str, Any] = {"num_labels": 1}
    config = Qwen3Config(**models.GROUPED, **labels, vocab_size=len(tokenizer), initializer_range=0.3)
    models.save(folder, AutoModelForSequenceClassification, config, tokenizer)
    if described is not None:
        (folder / "afterclick.json").write_text(json.dumps(described), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("words", [WORDS, {"template": "Qwen3-Reranker"}, {"middle": " Then: "}])
def test_a_classifier_that_is_a_decoder_reads_its_words(tmp_path: Path, words: dict[str, str]) -> None:
    [scores] = load_scorer(converted(tmp_path, words), "cpu", "float32").score([ScoreRequest(CONTEXT, CANDIDATES)])
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    model.config.pad_token_id = tokenizer.pad_token_id
    around = Template(**{name: text for name, text in words.items() if name != "template"})
    expected = []
    with torch.inference_mode():
        for candidate in CANDIDATES:
            row = around.prefix + CONTEXT + around.middle + candidate + around.suffix
            expected.append(float(model(**tokenizer(row, return_tensors="pt")).logits[0, 0]))
    close(scores, expected)


def test_a_classifier_that_is_a_decoder_and_says_no_words_is_refused(tmp_path: Path) -> None:
    for described in (None, {}, {"packed": False}):
        with pytest.raises(ModelUnsupported, match=r"nothing between context and candidate.*\"template\": \"Qwen3-Rer"):
            load_scorer(converted(tmp_path, described), "cpu", "float32")


def test_a_classifier_that_is_a_decoder_and_was_trained_here_reads_bare_pairs(tmp_path: Path) -> None:
    folder = converted(tmp_path, {"trained": {}})
    [scores] = load_scorer(folder, "cpu", "float32").score([ScoreRequest(CONTEXT, CANDIDATES)])
    with torch.inference_mode():
        reference = references.cross_encoder(tmp_path)
        close(scores, [reference(CONTEXT, candidate) for candidate in CANDIDATES])


@pytest.mark.parametrize("make", [models.classifier, models.packed])
def test_the_label_that_means_relevance_is_read(tmp_path: Path, make: Callable[..., Path]) -> None:
    asked = [ScoreRequest(CONTEXT, CANDIDATES)]
    [second] = load_scorer(str(make(tmp_path, labels=2)), "cpu", "float32").score(asked)
    names: dict[int, str]
    for names, sign in (
        ({0: "relevant", 1: "irrelevant"}, -1),
        ({0: "Not relevant", 1: "Relevant"}, 1),
        ({0: "yes", 1: "no"}, -1),
        ({0: "False", 1: "True"}, 1),
    ):
        folder = make(tmp_path, labels=2, id2label=names, label2id={name: index for index, name in names.items()})
        [scores] = load_scorer(str(folder), "cpu", "float32").score(asked)
        close(scores, sign * second)


@pytest.mark.parametrize(
    "labels",
    [
        ["NEGATIVE", "POSITIVE"],
        ["entailment", "not_entailment"],
        ["relevant", "relevant"],
        ["LABEL_1", "LABEL_0"],
        ["not_toxic", "toxic"],
        ["no", "relevant_ish"],
    ],
)
def test_a_classifier_of_something_else_is_refused(tmp_path: Path, labels: list[str]) -> None:
    folder = models.classifier(tmp_path, labels=2, id2label=dict(enumerate(labels)), label2id={"a": 0, "b": 1})
    with pytest.raises(
        ModelUnsupported, match=rf"{labels[0]} and {labels[1]}, expected.*\"relevant\": \"{labels[1]}\""
    ):
        load_scorer(str(folder), "cpu", "float32")


def test_the_user_may_say_which_label_means_relevance(tmp_path: Path) -> None:
    asked = [ScoreRequest(CONTEXT, CANDIDATES)]
    [second] = load_scorer(str(models.classifier(tmp_path, labels=2)), "cpu", "float32").score(asked)
    folder = models.classifier(tmp_path, labels=2, id2label={0: "match", 1: "other"}, label2id={"match": 0, "other": 1})
    (folder / "afterclick.json").write_text('{"relevant": "match"}', encoding="utf-8")
    [scores] = load_scorer(str(folder), "cpu", "float32").score(asked)
    close(scores, -second)
    (folder / "afterclick.json").write_text('{"relevant": "matches"}', encoding="utf-8")
    with pytest.raises(ModelUnsupported, match="got 'matches', expected one of its labels match, other"):
        load_scorer(str(folder), "cpu", "float32")


def test_a_reranker_with_a_default_prompt_is_refused(tmp_path: Path) -> None:
    models.classifier(tmp_path)
    config = {"prompts": {"rank": "Rank: "}, "default_prompt_name": "rank"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match="default prompt"):
        load_scorer(str(tmp_path), "cpu", "float32")


def test_classifier_of_three_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match=r"3 labels \(LABEL_0, LABEL_1, LABEL_2\), expected 1"):
        load_scorer(str(models.classifier(tmp_path, labels=3)), "cpu", "float32")


def test_classifier_without_its_head_is_refused(tmp_path: Path) -> None:
    config = models.encoder(tmp_path) / "config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForSequenceClassification"))
    with pytest.raises(ModelUnsupported, match="lacks the weights classifier"):
        load_scorer(str(tmp_path), "cpu", "float32")


def test_weights_in_float16_run_in_the_dtype_that_is_fast_here(tmp_path: Path) -> None:
    """On a CPU a matrix product in float16 takes several times that of float32."""
    asked = [ScoreRequest(CONTEXT, CANDIDATES)]
    folder = models.classifier(tmp_path)
    [whole] = load_scorer(str(folder), "cpu", "float32").score(asked)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    model.half().save_pretrained(folder)
    scorer: Any = load_scorer(str(folder), "cpu")
    assert scorer.placement.dtype in ("float32", "bfloat16")
    assert str(scorer.model.dtype) == f"torch.{scorer.placement.dtype}"
    [halved] = load_scorer(str(folder), "cpu", "float32").score(asked)
    assert abs(halved - whole).max() < 0.05
