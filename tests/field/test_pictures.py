"""Shops whose items are drawn: what pictures bring after training, what noise costs, what items without one lose."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs
from typer.testing import CliRunner

from streams.cli import app
from streams.commands import evaluate, train
from streams.commands.evaluate import Evaluation
from streams.commands.train import Training
from streams.contracts import Item
from streams.datasets.event_log import EventLog
from streams.datasets.file_messages import topic_files
from streams.settings import CandidatesSettings, EncoderSettings, RankerSettings, Settings
from tests import models
from tests.drawn_clip import trained_clip
from tests.drawn_shop import drawn_shop

SEED = 5
WITHOUT = "afterclick without nearest-image"


class Shop:
    """The shop with the vectors of its pictures, and what the commands say of models trained on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys
        self._encoder = str(models.encoder(folder / "encoder"))  # titles say nothing, so any will do
        (folder / "pictures").mkdir()
        drawn = drawn_shop(SEED, folder / "pictures")
        self.log = EventLog(self._embedded(drawn.items), drawn.events, [], {})

    def _embedded(self, items: list[Item]) -> list[Item]:
        """The items as `afterclick embed-images` writes them."""
        before, after = self._folder / "items.jsonl", self._folder / "embedded.jsonl"
        before.write_bytes(b"\n".join(map(msgspec.json.encode, items)))
        options = {"--model": trained_clip(self._folder / "clip"), "--items": before, "--out": after,
                   "--folder": self._folder / "pictures"}  # fmt: skip
        arguments = [str(part) for option in options.items() for part in option]
        done = CliRunner().invoke(app, ["embed-images", *arguments, "--json"], catch_exceptions=False)
        assert json.loads(done.stdout)["outcomes"] == {"embedded": len(items)}
        return [made.message for made in topic_files({"items": after}).checked() if isinstance(made.message, Item)]

    def settings(self, *spaces: str) -> Settings:
        return Settings(
            encoder=EncoderSettings(model=self._encoder, device="cpu", dtype="float32"),
            ranker=RankerSettings(device="cpu", dtype="float32"),
            candidates=CandidatesSettings(spaces=spaces),
        )

    def train(self, name: str, items: list[Item], *spaces: str) -> dict[str, Any]:
        training = Training(base="none", out=self._folder / name, max_minutes=60, hold_out="next-basket")
        train.run(structs_of(self.log, items), self.settings(*spaces), training, to_json=True)
        described: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return described

    def ndcg(self, name: str, items: list[Item], *spaces: str, ablate: bool = False) -> dict[str, float]:
        """NDCG@10 of each row of `afterclick evaluate`."""
        asked = Evaluation("next-basket", models=(str(self._folder / name),), systems=("afterclick",), ablate=ablate)
        evaluate.run(structs_of(self.log, items), self.settings(*spaces), asked, to_json=True)
        systems = json.loads(self._capsys.readouterr().out)["systems"]
        return {row: system["ndcg_at_10"] for row, system in systems.items()}


def structs_of(log: EventLog, items: list[Item]) -> EventLog:
    return EventLog(items, log.events, [], {})


def without(items: list[Item], share: float) -> list[Item]:
    """The items, a share of which has lost its vector, drawn at random."""
    rng = random.Random(SEED)
    return [structs.replace(item, embeddings={}) if rng.random() < share else item for item in items]


def test_pictures_raise_ndcg_by_half_and_neither_noise_nor_their_absence_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that left a space of noise out is the one that is trained without it."""
    shop = Shop(tmp_path, capsys)
    items = shop.log.items
    shuffled = random.Random(SEED).sample([item.embeddings for item in items], len(items))
    noise = [structs.replace(item, embeddings=drawn) for item, drawn in zip(items, shuffled, strict=True)]

    assert not shop.train("noise", noise, "image")["nearest_image"]["kept"]
    plain = shop.ndcg("noise", without(items, 1))["afterclick"]
    assert shop.train("pictures", items, "image")["nearest_image"]["kept"]
    rows = shop.ndcg("pictures", items, "image", ablate=True)
    some = shop.ndcg("pictures", without(items, 0.3), "image")["afterclick"]
    with capsys.disabled():
        print(f"\nNDCG@10 without pictures {plain:.3f}, with {rows}; 3 of 10 missing {some:.3f}")
    assert rows["afterclick"] >= 1.5 * plain
    assert rows[WITHOUT] >= 0.9 * plain
    assert some > (rows[WITHOUT] + plain) / 2
