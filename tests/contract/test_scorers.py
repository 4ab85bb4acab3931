"""One suite over every scorer: tiny random models in float32, against plain transformers pair by pair."""

from __future__ import annotations

import functools
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    PreTrainedConfig,
    Qwen3Config,
    Qwen3NextConfig,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from encoders import fit
from encoders.model_source import ModelUnsupported
from ranker import Scorer, ScoreRequest, load_scorer, packed_decoder
from ranker.bi_encoder import BiEncoder
from ranker.packed_decoder import PackedDecoder
from ranker.template import Template
from tests import models

TOLERANCE = 1e-4
CONTEXT = "Clicked Wool hat 3 days ago\nBought Trail running jacket (Outdoor, 89.00 EUR) 2 days ago"
CANDIDATES = ["Blue shoes size 42", "Umbrella", "Red tent for two, with a very light stove", "Coffee maker"]
TEXTS = st.lists(st.text("abcdefghij é\n雪🙂", max_size=30), max_size=4)

Reference = Callable[[str, str], float]


@dataclass
class Case:
    scorer: Scorer
    reference: Reference
    long_context_events: int


def _bi_reference(folder: Path) -> Reference:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModel.from_pretrained(folder)

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


def _cross_reference(folder: Path) -> Reference:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)

    def score(context: str, candidate: str) -> float:
        logits = model(**tokenizer(context, candidate, return_tensors="pt")).logits[0]
        return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])

    return score


def _packed_reference(folder: Path) -> Reference:
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


def _decoder_reference(folder: Path) -> Reference:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    yes, no = (tokenizer.get_vocab()[word] for word in ("yes", "no"))
    words = Template()

    def score(context: str, candidate: str) -> float:
        prompt = words.prefix + context + words.middle + candidate + words.suffix
        logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        return float(logits[yes] - logits[no])

    return score


TUNED = ["cross-encoder", "cross-encoder-2", "packed-encoder", "packed-decoder"]
tuned = pytest.mark.parametrize("case", TUNED, indirect=True, scope="module")
"""For tests of what training asks of a scorer; a bi-encoder is not tuned."""


@pytest.fixture(scope="module", params=["bi-encoder", *TUNED])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("model")
    make: dict[str, tuple[Callable[[], Path], Callable[[Path], Reference], int]] = {
        "bi-encoder": (lambda: models.encoder(folder), _bi_reference, 80),
        "cross-encoder": (lambda: models.classifier(folder), _cross_reference, 40),
        "cross-encoder-2": (lambda: models.classifier(folder, labels=2), _cross_reference, 40),
        "packed-encoder": (lambda: models.packed(folder), _packed_reference, 40),
        "packed-decoder": (lambda: models.decoder(folder), _decoder_reference, 200),
    }
    build, reference, events = make[request.param]
    build()
    return Case(load_scorer(str(folder), device="cpu", dtype="float32"), reference(folder), events)


def _close(left: Any, right: Any) -> None:
    np.testing.assert_allclose(left, right, atol=TOLERANCE, rtol=TOLERANCE)


def test_shape_dtype_and_finite(case: Case) -> None:
    scores = case.scorer.score([ScoreRequest(CONTEXT, CANDIDATES), ScoreRequest("", CANDIDATES[:1])])
    assert [score.shape for score in scores] == [(4,), (1,)]
    assert all(score.dtype == np.float32 and np.isfinite(score).all() for score in scores)
    assert np.ptp(scores[0]) > 100 * TOLERANCE, "the scores are too alike for these tests to fail"
    assert case.scorer.placement.dtype == "float32"


@torch.inference_mode()
def test_equals_plain_pairs(case: Case) -> None:
    [scores] = case.scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    _close(scores, [case.reference(CONTEXT, candidate) for candidate in CANDIDATES])


@tuned
def test_training_sees_the_scores_that_are_served(case: Case) -> None:
    scorer: Any = case.scorer
    request = ScoreRequest(CONTEXT, CANDIDATES)
    scorer.model.requires_grad_(True)
    try:
        trained = scorer.differentiable(request)
        [slope] = torch.autograd.grad(trained[0] - trained[1], [next(scorer.model.parameters())])
        [served] = scorer.score([request])
    finally:
        scorer.model.requires_grad_(False)
    _close(trained.detach().numpy(), served)
    assert slope.abs().max() > 0


@tuned
def test_what_is_kept_goes_when_the_weights_change(case: Case) -> None:
    scorer: Any = case.scorer
    request = ScoreRequest(CONTEXT, CANDIDATES)
    [before] = scorer.score([request])
    weights = [weight for name, weight in scorer.model.named_parameters() if "layer" in name]
    kept = [weight.clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(1.5)
    scorer.forget(None)
    try:
        [changed] = scorer.score([request])
        fresh = scorer.differentiable(request).detach().numpy()  # which keeps nothing
    finally:
        with torch.no_grad():
            for weight, was in zip(weights, kept, strict=True):
                weight.copy_(was)
        scorer.forget(None)
    assert np.abs(changed - before).max() > TOLERANCE
    np.testing.assert_allclose(changed, fresh, rtol=1e-3, atol=1e-3)


def test_empty_requests_and_candidates(case: Case) -> None:
    assert case.scorer.score([]) == []
    empty, full, last = case.scorer.score(
        [ScoreRequest(CONTEXT, []), ScoreRequest("", CANDIDATES), ScoreRequest("", [])]
    )
    assert empty.shape == last.shape == (0,)
    assert empty.dtype == last.dtype == np.float32
    assert full.shape == (4,)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.text("abcdef \n🙂", max_size=60), TEXTS), max_size=3), st.randoms())
def test_scores_do_not_depend_on_the_batch(case: Case, others: list[tuple[str, list[str]]], rng: Any) -> None:
    [alone] = case.scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    order = rng.sample(range(len(CANDIDATES)), len(CANDIDATES))
    extra = [text for _, texts in others for text in texts]
    batch = [ScoreRequest(context, texts) for context, texts in others]
    shuffled = ScoreRequest(CONTEXT, [CANDIDATES[place] for place in order] + extra)
    scores = case.scorer.score([*batch, shuffled, *batch])
    _close(scores[len(batch)][: len(order)], alone[order])
    assert [len(score) for score in scores[: len(batch)]] == [len(texts) for _, texts in others]


def test_too_long_context_keeps_its_newest_events(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    events = [f"Bought Wool hat number {place}" for place in range(case.long_context_events)]
    usage = case.scorer.usage
    cut, cut_tokens = usage.truncated_contexts, usage.truncated_context_tokens
    fit._next_log = 0.0
    with caplog.at_level(logging.WARNING):
        [scores] = case.scorer.score([ScoreRequest("\n".join(events), CANDIDATES)])
    assert usage.truncated_contexts == cut + 1
    assert usage.truncated_context_tokens > cut_tokens
    assert "oldest events dropped" in caplog.text
    [other_oldest] = case.scorer.score([ScoreRequest("\n".join(["Clicked tent", *events[1:]]), CANDIDATES)])
    [other_newest] = case.scorer.score([ScoreRequest("\n".join([*events[:-1], "Clicked tent"]), CANDIDATES)])
    np.testing.assert_array_equal(scores, other_oldest)
    assert np.abs(scores - other_newest).max() > TOLERANCE


def test_too_long_only_event_loses_its_beginning(case: Case) -> None:
    usage = case.scorer.usage
    cut = usage.truncated_contexts
    words = " hat" * 20 * case.long_context_events
    [scores] = case.scorer.score([ScoreRequest("red" + words, CANDIDATES)])
    [other_start] = case.scorer.score([ScoreRequest("blue" + words, CANDIDATES)])
    [other_end] = case.scorer.score([ScoreRequest("red" + words + " stove", CANDIDATES)])
    assert usage.truncated_contexts == cut + 3
    np.testing.assert_array_equal(scores, other_start)
    assert np.abs(scores - other_end).max() > TOLERANCE


def test_too_long_candidate_keeps_its_beginning(case: Case) -> None:
    usage = case.scorer.usage
    cut = usage.truncated_candidates
    words = " hat" * 1000
    texts = ["red tent" + words, "red tent" + words + " blue", "coffee maker" + words]
    [scores] = case.scorer.score([ScoreRequest(CONTEXT, texts)])
    assert usage.truncated_candidates == cut + 3
    _close(scores[0], scores[1])
    assert abs(scores[0] - scores[2]) > TOLERANCE


def test_any_unicode(case: Case) -> None:
    texts = ["", " ", "\n\n", "雪の靴 🙂", "\ud800 lone", "\x00", "‮rtl", "e\u0301" * 50]
    for context in texts:
        [scores] = case.scorer.score([ScoreRequest(context, texts)])
        assert np.isfinite(scores).all()


def test_usage_counts(case: Case) -> None:
    before = vars(case.scorer.usage).copy()
    context = "Bought Camping whistle today\n" + CONTEXT
    case.scorer.score([ScoreRequest(context, ["Camping stove with a whistle", *CANDIDATES]), ScoreRequest("", [])])
    grown = {name: value - before[name] for name, value in vars(case.scorer.usage).items()}
    assert grown["requests"] == 2
    assert grown["candidates"] == 5
    for name in ("context_tokens", "candidate_tokens", "tokenise_seconds", "inference_seconds"):
        assert grown[name] > 0, name
    assert grown["truncated_contexts"] == grown["truncated_candidates"] == 0


def test_markup_in_texts_is_text(case: Case) -> None:
    markup = ["<|im_end|>", "<|im_start|>", "<think>", "</think>", "[SEP]", "[CLS]", "<|endoftext|>"]
    scorer: Any = case.scorer
    tokens = getattr(scorer, "_tokens", None) or scorer._encoder.tokens
    for text, ids in zip(markup, tokens(markup), strict=True):
        assert tokens._barred.isdisjoint(ids), text
        assert len(ids) != 1, text


def test_bi_encoder_computes_a_known_candidate_once(tmp_path: Path) -> None:
    scorer = BiEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
    [first] = scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    tokens = scorer.usage.candidate_tokens
    [second] = scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    assert scorer.usage.candidate_tokens == tokens
    np.testing.assert_array_equal(first, second)
    tiny = BiEncoder(str(tmp_path), "cpu", "float32", cache_bytes=1)
    _close(tiny.score([ScoreRequest(CONTEXT, CANDIDATES)])[0], first)


def test_bi_encoder_computes_a_known_event_once(tmp_path: Path) -> None:
    scorer = BiEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
    usage = scorer.usage
    [first] = scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    computed = usage.context_tokens
    assert usage.context_tokens_reused == 0
    [second, longer] = scorer.score(
        [ScoreRequest(CONTEXT, CANDIDATES), ScoreRequest(CONTEXT + "\nClicked tent", CANDIDATES)]
    )
    assert usage.context_tokens_reused == 2 * computed
    assert 0 < usage.context_tokens - computed < computed, "the new line alone"
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - longer).max() > TOLERANCE


def test_bi_encoder_counts_a_line_twice_in_one_batch_as_reused(tmp_path: Path) -> None:
    scorer = BiEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
    [twice, _] = scorer.score([ScoreRequest("Clicked tent\nClicked tent", CANDIDATES), ScoreRequest("Unread", [])])
    assert scorer.usage.context_tokens_reused == scorer.usage.context_tokens > 0
    _close(twice, scorer.score([ScoreRequest("Clicked tent", CANDIDATES)])[0])


@torch.inference_mode()
def test_bi_encoder_scores_one_event_by_its_cosine(tmp_path: Path) -> None:
    folder = models.encoder(tmp_path)
    scorer = BiEncoder(str(folder), "cpu", "float32")
    [alone, with_blank_lines, itself, empty, blank] = scorer.score(
        [
            ScoreRequest("Red tent for two", CANDIDATES),
            ScoreRequest("\n\nRed tent for two\n \n", CANDIDATES),
            ScoreRequest("Umbrella", ["Umbrella"]),
            ScoreRequest("", CANDIDATES),
            ScoreRequest("\n ", CANDIDATES),
        ]
    )
    reference = _bi_reference(folder)
    _close(alone, [reference("Red tent for two", candidate) for candidate in CANDIDATES])
    np.testing.assert_array_equal(alone, with_blank_lines)
    _close(itself, [1.0])
    np.testing.assert_array_equal([empty, blank], np.zeros((2, len(CANDIDATES))))


def test_bi_encoder_keeps_a_text_as_event_and_as_item_apart(tmp_path: Path) -> None:
    folder = str(models.encoder(tmp_path))
    long = "red tent" + " hat" * 200 + " stove"  # as an item it loses its end, as an event its beginning
    scorer = BiEncoder(folder, "cpu", "float32")
    scorer.score([ScoreRequest(CONTEXT, [long])])
    [scores] = scorer.score([ScoreRequest(long, CANDIDATES)])
    [fresh] = BiEncoder(folder, "cpu", "float32").score([ScoreRequest(long, CANDIDATES)])
    _close(scores, fresh)


def test_decoder_scores_do_not_depend_on_passes(tmp_path: Path) -> None:
    folder = str(models.decoder(tmp_path))
    requests = [ScoreRequest(CONTEXT, CANDIDATES), ScoreRequest("Clicked tent", CANDIDATES)]
    whole = PackedDecoder(folder, "cpu", "float32").score(requests)
    for pass_tokens in (1, 150, 200):
        _close(PackedDecoder(folder, "cpu", "float32", pass_tokens=pass_tokens).score(requests), whole)


def test_decoder_reuses_contexts_and_scores_as_if_it_did_not(tmp_path: Path) -> None:
    rng = random.Random()
    folder = str(models.decoder(tmp_path))
    warm = PackedDecoder(folder, "cpu", "float32", cache_bytes=300_000)  # two or three of the five users
    histories: list[list[str]] = [[] for _ in range(5)]
    words = [*CONTEXT.split(), *CANDIDATES[0].split()]
    evicted = 0
    for _ in range(25):
        requests = []
        for history in rng.sample(histories, rng.randrange(1, 4)):
            history.append("Viewed " + " ".join(rng.sample(words, rng.randrange(3, 9))))
            if rng.random() < 0.2:
                del history[0]  # as when it is too long, or an event came late
            requests.append(ScoreRequest("\n".join(history), rng.sample(CANDIDATES, rng.randrange(1, 5))))
        cold = PackedDecoder(folder, "cpu", "float32", cache_bytes=0)
        for found, expected in zip(warm.score(requests), cold.score(requests), strict=True):
            _close(found, expected)
        assert 0 < warm.usage.context_bytes <= 300_000
        assert cold.usage.context_bytes == 0
        evicted += len(warm._contexts) < sum(map(bool, histories))
    assert evicted
    assert warm.usage.context_hits > 25
    assert warm.usage.context_tokens_reused > warm.usage.context_tokens


def test_decoder_computes_only_the_new_event(tmp_path: Path) -> None:
    scorer = PackedDecoder(str(models.decoder(tmp_path)), "cpu", "float32")
    history = [f"Viewed Wool hat number {place}" for place in range(20)]
    scorer.score([ScoreRequest("\n".join(history), CANDIDATES)])
    first = scorer.usage.context_tokens
    scorer.score([ScoreRequest("\n".join([*history, "Viewed Umbrella"]), CANDIDATES)])
    assert scorer.usage.context_tokens - first < 40
    assert scorer.usage.context_tokens_reused > 0.9 * first


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("make", [models.packed, models.decoder])
def test_fewer_digits_rank_like_float32(tmp_path: Path, make: Callable[[Path], Path], dtype: str) -> None:
    rng, words = random.Random(4), " ".join([CONTEXT, *CANDIDATES]).split()
    request = ScoreRequest(CONTEXT, [" ".join(rng.sample(words, rng.randrange(3, 9))) for _ in range(60)])
    folder = str(make(tmp_path))
    [exact] = load_scorer(folder, "cpu", "float32").score([request])
    [rough] = load_scorer(folder, "cpu", dtype).score([request])
    assert rough.dtype == np.float32
    first, second = np.triu_indices(len(exact), 1)
    agree = np.sign(exact[first] - exact[second]) * np.sign(rough[first] - rough[second])
    assert agree.mean() > 0.93, "Kendall's tau; random weights give scores that lie close together"


def test_decoder_stays_within_a_sliding_window(tmp_path: Path) -> None:
    window = 400
    folder = models.decoder(
        tmp_path,
        use_sliding_window=True,
        sliding_window=window,
        max_window_layers=0,
        layer_types=["sliding_attention"] * 2,
    )
    scorer = PackedDecoder(str(folder), "cpu", "float32")
    scorer.score([ScoreRequest("Bought Wool hat\n" * 200, CANDIDATES)])
    assert scorer.usage.truncated_contexts == 1
    assert scorer.usage.context_tokens < window
    [scores] = scorer.score([ScoreRequest("Bought hat", CANDIDATES)])
    with torch.inference_mode():
        reference = _decoder_reference(folder)
        _close(scores, [reference("Bought hat", candidate) for candidate in CANDIDATES])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"prefx": "a"}, "the key 'prefx'"),
        ({"prefix": 3}, "prefix: got 3"),
        ({"suffix": ""}, "suffix: got ''"),
        ({"yes": "yes and no"}, "one token"),
        ({"yes": "no"}, "another for yes than for no"),
    ],
)
def test_decoder_template_errors(tmp_path: Path, template: dict[str, Any], message: str) -> None:
    (models.decoder(tmp_path) / "afterclick.json").write_text(json.dumps(template))
    with pytest.raises(ModelUnsupported, match=message):
        load_scorer(str(tmp_path), "cpu", "float32")


def test_decoder_uses_the_models_own_template(tmp_path: Path) -> None:
    models.decoder(tmp_path)
    request = ScoreRequest(CONTEXT, CANDIDATES)
    [default] = load_scorer(str(tmp_path), "cpu", "float32").score([request])
    (tmp_path / "afterclick.json").write_text(json.dumps({"yes": "no", "no": "yes"}))
    [swapped] = load_scorer(str(tmp_path), "cpu", "float32").score([request])
    _close(swapped, -default)


SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 768}


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_positions=768, n_embd=32, n_layer=2, n_head=4),
        Gemma3TextConfig(**GROUPED, sliding_window=600, final_logit_softcapping=5.0),
        CohereConfig(**GROUPED, logit_scale=0.25),
        LlamaConfig(**GROUPED, mlp_bias=True, attention_bias=True),
    ],
    ids=["learnt positions", "soft capped logits, sliding window", "scaled logits", "biases"],
)
def test_decoder_of_other_architectures(tmp_path: Path, config: PreTrainedConfig) -> None:
    _replace_model(tmp_path, config)
    [scores] = load_scorer(str(tmp_path), "cpu", "float32").score([ScoreRequest(CONTEXT, CANDIDATES)])
    with torch.inference_mode():
        reference = _decoder_reference(tmp_path)
        _close(scores, [reference(CONTEXT, candidate) for candidate in CANDIDATES])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MambaConfig(hidden_size=32, num_hidden_layers=1), "does not support an attention implementation"),
        (Qwen3NextConfig(**GROUPED, num_experts=2, moe_intermediate_size=8), "layers of linear_attention"),
        (Gemma2Config(**GROUPED, attn_logit_softcapping=5.0), "attn_logit_softcapping"),
    ],
    ids=["no attention", "linear attention", "soft capped attention"],
)
def test_decoder_that_cannot_be_packed_is_refused(tmp_path: Path, config: PreTrainedConfig, message: str) -> None:
    _replace_model(tmp_path, config)
    with pytest.raises(ModelUnsupported, match=message):
        load_scorer(str(tmp_path), "cpu", "float32")


def _replace_model(folder: Path, config: PreTrainedConfig) -> None:
    """Write a random causal LM of `config` with the tiny decoder's tokeniser."""
    tokenizer = models.byte_level()
    config.vocab_size = len(tokenizer)
    config.initializer_range = 0.3
    models.save(folder, AutoModelForCausalLM, config, tokenizer)


def test_decoder_without_position_ids_is_refused() -> None:
    model = SimpleNamespace(forward=lambda logits_to_keep: None, config=LlamaConfig())
    with pytest.raises(ModelUnsupported, match="takes no position_ids"):
        packed_decoder._window(model, "mine")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("ignored", ["mask", "positions"])
def test_decoder_that_ignores_the_packing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: str, dtype: str
) -> None:
    if ignored == "mask":
        monkeypatch.setattr(packed_decoder, "NAME", "sdpa")  # plainly causal: neighbours see each other
    else:
        forward = Qwen3Model.forward

        @functools.wraps(forward)
        def without(self: Any, *args: Any, position_ids: Any = None, **named: Any) -> Any:
            return forward(self, *args, **named)

        monkeypatch.setattr(Qwen3Model, "forward", without)
    with pytest.raises(ModelUnsupported, match="packed scores are off"):
        load_scorer(str(models.decoder(tmp_path)), "cpu", dtype)


def test_decoder_without_a_template_is_refused(tmp_path: Path) -> None:
    folder = models.decoder(tmp_path / "decoder")
    models.encoder(tmp_path / "encoder")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((tmp_path / "encoder" / name).read_text())
    with pytest.raises(ModelUnsupported, match=r"does not know Qwen3-Reranker's template"):
        load_scorer(str(folder), "cpu", "float32")


def test_classifier_that_is_a_decoder(tmp_path: Path) -> None:
    tokenizer = models.byte_level()
    labels: dict[str, Any] = {"num_labels": 1}
    config = Qwen3Config(**GROUPED, **labels, vocab_size=len(tokenizer), initializer_range=0.3)
    models.save(tmp_path, AutoModelForSequenceClassification, config, tokenizer)
    [scores] = load_scorer(str(tmp_path), "cpu", "float32").score([ScoreRequest(CONTEXT, CANDIDATES)])
    with torch.inference_mode():
        reference = _cross_reference(tmp_path)
        _close(scores, [reference(CONTEXT, candidate) for candidate in CANDIDATES])


def test_classifier_of_three_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="3 labels, expected 1"):
        load_scorer(str(models.classifier(tmp_path, labels=3)), "cpu", "float32")


def test_classifier_without_its_head_is_refused(tmp_path: Path) -> None:
    config = models.encoder(tmp_path) / "config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForSequenceClassification"))
    with pytest.raises(ModelUnsupported, match="lacks the weights classifier"):
        load_scorer(str(tmp_path), "cpu", "float32")
