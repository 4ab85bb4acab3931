"""What only the packed decoder does: it keeps contexts, knows a template, and refuses what cannot be packed."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    PreTrainedConfig,
    Qwen3NextConfig,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from encoders.models.source import ModelUnsupported
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from ranker.scorers.packed import decoder_check, packing
from ranker.scorers.packed.decoder import PackedDecoder
from tests import models, references
from tests.references import CANDIDATES, CONTEXT, close


def test_decoder_scores_do_not_depend_on_passes(tmp_path: Path) -> None:
    folder = str(models.decoder(tmp_path))
    requests = [ScoreRequest(CONTEXT, CANDIDATES), ScoreRequest("Clicked tent", CANDIDATES)]
    whole = PackedDecoder(folder, "cpu", "float32").score(requests)
    for pass_tokens in (1, 150, 200):
        close(PackedDecoder(folder, "cpu", "float32", pass_tokens=pass_tokens).score(requests), whole)


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
            close(found, expected)
        assert 0 < warm.usage.context_bytes <= 300_000
        assert cold.usage.context_bytes == 0
        evicted += len(warm._contexts) < sum(map(bool, histories))
    assert evicted
    assert warm.usage.context_hits > 25
    assert warm.usage.context_tokens_reused > warm.usage.context_tokens


def test_decoder_computes_only_the_new_event(tmp_path: Path) -> None:
    scorer = PackedDecoder(str(models.decoder(tmp_path)), "cpu", "float32")
    history = [f"Viewed Wool hat number {index}" for index in range(20)]
    scorer.score([ScoreRequest("\n".join(history), CANDIDATES)])
    first = scorer.usage.context_tokens
    scorer.score([ScoreRequest("\n".join([*history, "Viewed Umbrella"]), CANDIDATES)])
    assert scorer.usage.context_tokens - first < 40
    assert scorer.usage.context_tokens_reused > 0.9 * first


WINDOW = 90
SLIDING: dict[str, PreTrainedConfig] = {
    "all layers": models.decoder_config(
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=0,
        layer_types=["sliding_attention"] * 2,
    ),
    "some layers": Gemma3TextConfig(
        **models.GROUPED | {"num_hidden_layers": 3},
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=WINDOW,
        max_position_embeddings=models.DECODER_POSITIONS,
        tie_word_embeddings=True,
    ),
}


@pytest.mark.parametrize("words", ["Qwen3-Reranker", "likelihood"])
@pytest.mark.parametrize("kind", SLIDING)
def test_a_context_far_longer_than_the_sliding_window_is_read(tmp_path: Path, kind: str, words: str) -> None:
    """A score is that of a plain pass, with the context in pieces and from the cache too."""
    random_words = random.Random(1)
    _replace_model(tmp_path, SLIDING[kind], words)
    lines = ["Viewed " + " ".join(random_words.sample([*CONTEXT.split(), *CANDIDATES], 5)) for _ in range(8)]
    older, context = "\n".join(lines[:6]), "\n".join(lines)
    scorer = PackedDecoder(str(tmp_path), "cpu", "float32", pass_tokens=150)
    scorer.score([ScoreRequest(older, CANDIDATES)])
    assert scorer.usage.context_tokens > 2 * WINDOW
    [scores] = scorer.score([ScoreRequest(context, CANDIDATES)])
    assert scorer.usage.truncated_contexts == scorer.usage.truncated_candidates == 0
    assert scorer.usage.context_tokens_reused > 2 * WINDOW
    with torch.inference_mode():
        reference = references.likelihood(tmp_path) if words == "likelihood" else references.decoder(tmp_path)
        close(scores, [reference(context, candidate) for candidate in CANDIDATES])
    trained = scorer.differentiable(ScoreRequest(context, CANDIDATES))
    close(trained.detach().numpy(), scores)


def test_a_context_is_as_long_as_the_folder_says(tmp_path: Path) -> None:
    said = {"template": "likelihood", "context_tokens": 40}
    (models.decoder(tmp_path) / "afterclick.json").write_text(json.dumps(said), encoding="utf-8")
    scorer = PackedDecoder(str(tmp_path), "cpu", "float32")
    scorer.score([ScoreRequest("Bought Wool hat\n" * 200, CANDIDATES)])
    assert scorer.usage.truncated_contexts == 1
    assert 20 < scorer.usage.text_tokens - scorer.usage.truncated_context_tokens - scorer.usage.candidate_tokens <= 40


def test_a_model_that_ignores_the_window_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_model(tmp_path, SLIDING["some layers"])
    context: Any = packing._context
    monkeypatch.setattr(packing, "_context", lambda *given: context(*given[:-1], None))
    with pytest.raises(ModelUnsupported, match="packed scores are off"):
        load_scorer(str(tmp_path), "cpu", "float32")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"prefx": "a"}, "the key 'prefx'"),
        ({"template": "mine"}, "template: got 'mine'"),
        ({"template": "Qwen3-Reranker", "context_tokens": 4}, "context_tokens: got 4"),
        ({"template": "likelihood", "yes": "yes"}, "it asks nothing"),
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
    swapped_answers = {"template": "Qwen3-Reranker", "yes": "no", "no": "yes"}
    (tmp_path / "afterclick.json").write_text(json.dumps(swapped_answers))
    [swapped] = load_scorer(str(tmp_path), "cpu", "float32").score([request])
    close(swapped, -default)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_positions=768, n_embd=32, n_layer=2, n_head=4),
        Gemma3TextConfig(**models.GROUPED, sliding_window=600, final_logit_softcapping=5.0),
        CohereConfig(**models.GROUPED, logit_scale=0.25),
        LlamaConfig(**models.GROUPED, mlp_bias=True, attention_bias=True),
    ],
    ids=["learnt positions", "soft capped logits, sliding window", "scaled logits", "biases"],
)
def test_decoder_of_other_architectures(tmp_path: Path, config: PreTrainedConfig) -> None:
    _replace_model(tmp_path, config)
    [scores] = load_scorer(str(tmp_path), "cpu", "float32").score([ScoreRequest(CONTEXT, CANDIDATES)])
    with torch.inference_mode():
        reference = references.decoder(tmp_path)
        close(scores, [reference(CONTEXT, candidate) for candidate in CANDIDATES])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MambaConfig(hidden_size=32, num_hidden_layers=1), "does not support an attention implementation"),
        (Qwen3NextConfig(**models.GROUPED, num_experts=2, moe_intermediate_size=8), "layers of linear_attention"),
        (Gemma2Config(**models.GROUPED, attn_logit_softcapping=5.0), "attn_logit_softcapping"),
    ],
    ids=["no attention", "linear attention", "soft capped attention"],
)
def test_decoder_that_cannot_be_packed_is_refused(tmp_path: Path, config: PreTrainedConfig, message: str) -> None:
    _replace_model(tmp_path, config)
    with pytest.raises(ModelUnsupported, match=message):
        load_scorer(str(tmp_path), "cpu", "float32")


def _replace_model(folder: Path, config: PreTrainedConfig, words: str = "Qwen3-Reranker") -> None:
    """Write a random causal LM of `config` with the tiny decoder's tokeniser."""
    tokenizer = models.byte_level()
    config.vocab_size = len(tokenizer)
    config.initializer_range = 0.3
    models.save(folder, AutoModelForCausalLM, config, tokenizer)
    (folder / "afterclick.json").write_text(json.dumps({"template": words}), encoding="utf-8")


def test_decoder_without_position_ids_is_refused() -> None:
    model = SimpleNamespace(forward=lambda logits_to_keep: None, config=LlamaConfig())
    with pytest.raises(ModelUnsupported, match="takes no position_ids"):
        decoder_check.check_layers(model, "mine")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("ignored", ["mask", "positions"])
def test_decoder_that_ignores_the_packing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: str, dtype: str
) -> None:
    if ignored == "mask":
        monkeypatch.setattr(decoder_check, "NAME", "sdpa")  # plainly causal: neighbours see each other
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
    with pytest.raises(ModelUnsupported, match="does not know the template of Qwen3-Reranker"):
        load_scorer(str(folder), "cpu", "float32")
