"""In which words a decoder is asked: by what its folder says, so that a model is not asked in another one's words."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.scorers import generic_template, known_pairs
from ranker.scorers.template import Template
from ranker.scorers.template_choice import QWEN3_RERANKER_WORDS
from ranker.train import student
from ranker.train.trainable import save
from tests import models, references
from tests.references import CANDIDATES, CONTEXT, close

REQUEST = ScoreRequest(CONTEXT, CANDIDATES)
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As in Qwen's chat models."""


def decoder(folder: Path, chat_template: str | None = None) -> Path:
    """A tiny decoder that says nothing of a template, with or without a chat template."""
    (models.decoder(folder) / "afterclick.json").unlink()
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    return folder


def scores(folder: Path) -> Any:
    return load_scorer(str(folder), "cpu", "float32").score([REQUEST])[0]


def asked(folder: Path, prompt: Callable[[Any, str, str], str], yes: str, no: str) -> list[float]:
    """What plain transformers answers to the prompts."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (yes, no)]
    found = []
    for candidate in CANDIDATES:
        inputs = tokenizer(prompt(tokenizer, CONTEXT, candidate), add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits[0, -1]
        found.append(float(logits[ids[0]] - logits[ids[1]]))
    return found


def in_chat(tokenizer: Any, context: str, candidate: str) -> str:
    question = generic_template.CHAT_QUESTION.format(context=context, candidate=candidate)
    prompt: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return prompt


def plain(_: Any, context: str, candidate: str) -> str:
    """Its answers are yes and no without a space before: the tiny tokeniser has no token for them with one."""
    task = generic_template.TASK
    return f"{task}\nThe user:\n{context}\nThe item: {candidate}\nWill the user choose it? Answer:"


@pytest.fixture(autouse=True)
def _choices(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ranker.scorers.template_choice")


def test_a_chat_model_is_asked_in_its_own_chat_template(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chat = decoder(tmp_path / "Qwen3-0.6B", CHAT)
    close(scores(chat), asked(chat, in_chat, "yes", "no"))
    assert "is asked by a question in its chat template: it does not say in which words" in caplog.text


def test_a_model_whose_chat_template_cannot_be_used_is_asked_in_plain_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = decoder(tmp_path / "base", "{{ raise_exception('no') }}")
    close(scores(base), asked(base, plain, "yes", "no"))
    assert "is asked by a question in plain text: its chat template cannot be used" in caplog.text


@pytest.mark.parametrize("right", [5, 6])
def test_a_base_model_scores_by_likelihood_if_that_ranks_the_known_pairs(
    tmp_path: Path, right: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(known_pairs, "count_right", lambda _: right)
    base, made = decoder(tmp_path / "base"), tmp_path / "made"
    if right < known_pairs.MIN_RIGHT:
        close(scores(base), asked(base, plain, "yes", "no"))
        assert "asked by a question in plain text: by its likelihood it ranks 5 of 8 evident pairs" in caplog.text
        return
    reference = references.likelihood(base)
    with torch.inference_mode():
        close(scores(base), [reference(CONTEXT, candidate) for candidate in CANDIDATES])
    assert "asked by the likelihood of the candidate: it has no chat template" in caplog.text
    save(load_scorer(str(base), "cpu", "float32", in_training=True), str(base), made)  # type: ignore[arg-type]
    assert json.loads((made / "afterclick.json").read_text(encoding="utf-8"))["template"] == "likelihood"
    np.testing.assert_array_equal(scores(made), scores(base))


@pytest.mark.parametrize("evidence", ["its name", "its name in the config", "its chat template", "its afterclick.json"])
def test_qwen3_reranker_is_found_by_what_its_folder_says(
    tmp_path: Path, evidence: str, caplog: pytest.LogCaptureFixture
) -> None:
    words = f"{{# {QWEN3_RERANKER_WORDS} #}}" + CHAT
    folder = decoder(tmp_path / "mine", words if evidence == "its chat template" else CHAT)
    if evidence == "its name":
        folder = folder.rename(tmp_path / "Qwen3-Reranker-0.6B")
    elif evidence == "its name in the config":
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "Qwen/Qwen3-Reranker-4B"}), "utf-8")
    elif evidence == "its afterclick.json":
        (folder / "afterclick.json").write_text('{"template": "Qwen3-Reranker"}', encoding="utf-8")
    reference = references.decoder(folder)
    with torch.inference_mode():
        close(scores(folder), [reference(CONTEXT, candidate) for candidate in CANDIDATES])
    assert "is asked by the template of Qwen3-Reranker" in caplog.text


def test_texts_of_its_own_take_the_place_of_those_that_were_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = decoder(tmp_path / "base")
    (folder / "afterclick.json").write_text('{"middle": " Hat: ", "trained": {}}', encoding="utf-8")

    def prompt(tokenizer: Any, context: str, candidate: str) -> str:
        return plain(tokenizer, context, candidate).replace("\nThe item: ", " Hat: ")

    close(scores(folder), asked(folder, prompt, "yes", "no"))
    assert "asked by its own middle and the rest of a question in plain text" in caplog.text


@pytest.mark.parametrize("name", ["Qwen3-0.6B", "Qwen3-Reranker-0.6B"])
@pytest.mark.parametrize("way", ["tuned", "smaller"])
def test_what_is_made_from_a_decoder_is_asked_like_it(tmp_path: Path, name: str, way: str) -> None:
    source, made = decoder(tmp_path / name, CHAT), tmp_path / "made"
    if way == "tuned":
        save(load_scorer(str(source), "cpu", "float32", in_training=True), str(source), made)  # type: ignore[arg-type]
        np.testing.assert_array_equal(scores(made), scores(source))
    else:
        student.prune(str(source), 1, made)
    assert json.loads((made / "afterclick.json").read_text(encoding="utf-8")) == (
        {"template": "Qwen3-Reranker"} if "Reranker" in name else _chat_words(source)
    )


def _chat_words(folder: Path) -> dict[str, str]:
    words = generic_template.in_chat(AutoTokenizer.from_pretrained(folder))
    assert words is not None
    assert words["suffix"] == Template().suffix, "enable_thinking is false"
    return words


def test_a_base_models_text_begins_with_its_first_token() -> None:
    """Even if the tokeniser does not write it by itself."""
    tokenizer = models.byte_level()
    assert not generic_template.continued(tokenizer)["prefix"].startswith("<")
    tokenizer.bos_token = "<|endoftext|>"
    assert tokenizer("a")["input_ids"][0] != tokenizer.bos_token_id
    for words in (generic_template.continued(tokenizer), generic_template.plain(tokenizer)):
        assert words["prefix"].startswith("<|endoftext|>")
