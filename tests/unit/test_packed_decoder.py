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
from ranker.scorers.packed import decoder as packed_decoder
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
        reference = references.decoder(folder)
        close(scores, [reference("Bought hat", candidate) for candidate in CANDIDATES])


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


def _replace_model(folder: Path, config: PreTrainedConfig) -> None:
    """Write a random causal LM of `config` with the tiny decoder's tokeniser."""
    tokenizer = models.byte_level()
    config.vocab_size = len(tokenizer)
    config.initializer_range = 0.3
    models.save(folder, AutoModelForCausalLM, config, tokenizer)
    (folder / "afterclick.json").write_text('{"template": "Qwen3-Reranker"}', encoding="utf-8")


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
